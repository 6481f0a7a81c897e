//! Secrets of every section and kind: planted in all files, and looked for in everything that the server says.

use std::path::Path;
use std::time::Duration;

use crate::process::{CLIENT, Home, Process, RUNTIME, until_true};

/// Of `zz-user`, with the least cost.
const USER: &str = "$2b$04$BmM1dm5paxmbtZ1rWPMLyuQNY3i7CwDMu3x0xRIPETKg/VGjuSeou";

const DISCOVERY: &[&str] = &[
    "azure_sd_configs: [{subscription_id: a, tenant_id: b, client_id: c, client_secret: zz-azure}]",
    "ec2_sd_configs: [{region: r, access_key: a, secret_key: zz-ec2}]",
    "lightsail_sd_configs: [{region: r, access_key: a, secret_key: zz-lightsail}]",
    "openstack_sd_configs: [{role: instance, region: r, username: u, password: zz-openstack, domain_name: d, project_name: p, identity_endpoint: 'http://127.0.0.1:1'}]",
    "openstack_sd_configs: [{role: instance, region: r, application_credential_id: i, application_credential_secret: zz-appcred, identity_endpoint: 'http://127.0.0.1:1'}]",
    "ovhcloud_sd_configs: [{service: vps, application_key: k, application_secret: zz-ovh, consumer_key: zz-consumer}]",
    "scaleway_sd_configs: [{role: instance, project_id: 00000000-0000-0000-0000-000000000000, access_key: SCWXXXXXXXXXXXXXXXXX, secret_key: 11111111-aaaa-bbbb-cccc-000000000099}]",
    "consul_sd_configs: [{server: '127.0.0.1:1', token: zz-consul}]",
    "consul_sd_configs: [{server: '127.0.0.1:1', username: u, password: zz-consulpass}]",
    "marathon_sd_configs: [{servers: ['http://127.0.0.1:1'], auth_token: zz-marathon}]",
    "uyuni_sd_configs: [{server: 'http://127.0.0.1:1', username: u, password: zz-uyuni}]",
    "digitalocean_sd_configs: [{authorization: {credentials: zz-digitalocean}}]",
    "hetzner_sd_configs: [{role: hcloud, basic_auth: {username: u, password: zz-hetzner}}]",
    "linode_sd_configs: [{authorization: {credentials: zz-linode}}]",
    "vultr_sd_configs: [{authorization: {credentials: zz-vultr}}]",
    "ionos_sd_configs: [{datacenter_id: d, authorization: {credentials: zz-ionos}}]",
    "puppetdb_sd_configs: [{url: 'http://127.0.0.1:1', query: q, basic_auth: {username: u, password: zz-puppet}}]",
    "http_sd_configs: [{url: 'http://u:zz-urlpass@127.0.0.1:1/'}]",
    "http_sd_configs: [{url: 'http://127.0.0.1:1/', bearer_token: zz-oldbearer}]",
    "nomad_sd_configs: [{server: 'http://127.0.0.1:1', authorization: {credentials: zz-nomad}}]",
    "docker_sd_configs: [{host: 'http://127.0.0.1:1', oauth2: {client_id: c, client_secret: zz-docker, token_url: 'http://127.0.0.1:1'}}]",
    "eureka_sd_configs: [{server: 'http://127.0.0.1:1', http_headers: {X: {secrets: [zz-eureka]}}}]",
    "kubernetes_sd_configs: [{role: pod, api_server: 'http://127.0.0.1:1', proxy_url: 'http://u:zz-kubeproxy@127.0.0.1:1', proxy_connect_header: {A: [zz-kubeheader]}}]",
    "stackit_sd_configs: [{project: p, service_account_key: zz-stackit}]",
];

const PROMETHEUS: &str = "global: {scrape_interval: 1h}
alerting:
  alertmanagers:
  - {static_configs: [{targets: ['127.0.0.1:1']}], basic_auth: {username: u, password: zz-amauth}}
  - {static_configs: [{targets: ['127.0.0.1:1']}], sigv4: {region: r, access_key: a, secret_key: zz-sigv4}}
remote_write:
- {url: 'http://u:zz-rwurl@127.0.0.1:1/0', basic_auth: {username: u, password: zz-rw}}
- {url: 'http://u:zz-rwurl@127.0.0.1:1/1', authorization: {credentials: zz-rwbearer}}
- {url: 'http://u:zz-rwurl@127.0.0.1:1/2', sigv4: {region: r, access_key: a, secret_key: zz-rwsigv4}}
- {url: 'http://u:zz-rwurl@127.0.0.1:1/3', azuread: {cloud: AzurePublic, oauth: {client_id: 00000000-0000-0000-0000-000000000000, client_secret: zz-rwazure, tenant_id: 00000000-0000-0000-0000-000000000000}}}
- {url: 'http://u:zz-rwurl@127.0.0.1:1/4', oauth2: {client_id: c, client_secret: zz-rwoauth, token_url: 'http://127.0.0.1:1', tls_config: {insecure_skip_verify: true}}}
- {url: 'http://u:zz-rwurl@127.0.0.1:1/5', name: n}
remote_read:
- {url: 'http://u:zz-rrurl@127.0.0.1:1/', authorization: {credentials: zz-rr}}
";

/// Nobody is reached: whoever is not at a port where nobody is, is behind a proxy there.
const ALERTMANAGER: &str = "global: {smtp_smarthost: '127.0.0.1:1', smtp_from: a@b, smtp_auth_username: u, smtp_auth_password: zz-smtp, smtp_auth_secret: zz-smtpsecret, slack_api_url: 'http://127.0.0.1:1/zz-slack', opsgenie_api_key: zz-opsgenie, victorops_api_key: zz-victorops, telegram_bot_token: zz-telegramglobal, wechat_api_secret: zz-wechat, wechat_api_corp_id: c, http_config: {authorization: {credentials: zz-amglobal}, proxy_url: 'http://u:zz-proxy@127.0.0.1:1'}}
route: {receiver: all, group_wait: 0s}
receivers:
- name: all
  webhook_configs: [{url: 'http://127.0.0.1:1/zz-hook', http_config: {basic_auth: {username: u, password: zz-hookpass}}}]
  slack_configs: [{channel: c}, {channel: c, api_url: 'http://127.0.0.1:1/zz-slackown'}]
  pagerduty_configs: [{routing_key: zz-routing}, {service_key: zz-service}]
  opsgenie_configs: [{api_key: zz-opsgenieown}]
  victorops_configs: [{routing_key: r, api_key: zz-victoropsown}]
  pushover_configs: [{user_key: zz-userkey, token: zz-token}]
  telegram_configs: [{bot_token: zz-bot, chat_id: 1}]
  discord_configs: [{webhook_url: 'http://127.0.0.1:1/zz-discord'}]
  msteams_configs: [{webhook_url: 'http://127.0.0.1:1/zz-teams'}]
  msteamsv2_configs: [{webhook_url: 'http://127.0.0.1:1/zz-teamstwo'}]
  webex_configs: [{room_id: r, http_config: {authorization: {credentials: zz-webex}, proxy_url: 'http://u:zz-webexproxy@127.0.0.1:1'}}]
  wechat_configs: [{}]
  sns_configs: [{topic_arn: t, sigv4: {region: r, access_key: a, secret_key: zz-sns}}]
  email_configs: [{to: a@b, auth_password: zz-mail, smarthost: '127.0.0.1:1', from: a@b}]
";

/// How the log names each of [`ALERTMANAGER`] where it fails.
const RECEIVERS: [&str; 16] = [
    "all/webhook[0]",
    "all/slack[0]",
    "all/slack[1]",
    "all/pagerduty[0]",
    "all/pagerduty[1]",
    "all/opsgenie[0]",
    "all/victorops[0]",
    "all/pushover[0]",
    "all/telegram[0]",
    "all/discord[0]",
    "all/msteams[0]",
    "all/msteamsv2[0]",
    "all/webex[0]",
    "all/wechat[0]",
    "all/sns[0]",
    "all/email/0",
];

/// Those of whom the log does not say that they have failed.
fn untried(log: &str) -> Vec<&'static str> {
    let is_failure =
        |line: &&str| line.contains("notify attempt failed") || line.contains("mail server cannot");
    let failures: Vec<_> = log.lines().filter(is_failure).collect();
    RECEIVERS.into_iter().filter(|name| !failures.iter().any(|line| line.contains(name))).collect()
}

#[test]
fn nothing_shows_them() {
    let jobs: Vec<String> = DISCOVERY
        .iter()
        .enumerate()
        .map(|(i, section)| format!("- {{job_name: j{i}, {section}}}\n"))
        .collect();
    let text = format!("{PROMETHEUS}scrape_configs:\n{}", jobs.concat());
    let home = Home::new(&text);
    home.write("alertmanager.yml", ALERTMANAGER);
    home.write("web.yml", &format!("basic_auth_users: {{alice: {USER}}}\n"));
    let mut command = home.server(
        Path::new(env!("CARGO_BIN_EXE_ferula")),
        &[
            &format!("--alertmanager.config-file={}", home.path("alertmanager.yml").display()),
            &format!("--web.config.file={}", home.path("web.yml").display()),
            "--log.level=debug",
        ],
    );
    let mut process = Process::spawn("ferula", &mut command);
    let url = process.url();
    until_true("the server to be ready", || process.logged("ready to receive web requests").is_some());
    let ask = |method: &str, path: &str, body: &str| {
        let request = CLIENT.request(method.parse().unwrap(), format!("{url}{path}")).body(body.to_owned());
        let request = request.basic_auth("alice", Some("zz-user")).header("Content-Type", "application/json");
        RUNTIME.block_on(async {
            let response = request.timeout(Duration::from_secs(50)).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        })
    };
    // An alert that everybody is told of, and fails to be.
    let (status, text_of_it) = ask("POST", "/api/v2/alerts", "[{\"labels\":{\"alertname\":\"a\"}}]");
    assert_eq!(status, 200, "{text_of_it}");
    // What is looked for in vain shows everything, or it was not there.
    let (status, shown) = ask("GET", "/api/v1/status/config", "");
    assert_eq!(status, 200);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let shown = shown["data"]["yaml"].as_str().unwrap();
    for kind in [
        "azure_sd_configs",
        "remote_read",
        "secret_key: <secret>",
        "password: <secret>",
        "credentials: <secret>",
    ] {
        assert!(shown.contains(kind), "{kind} is not in {shown}");
    }
    // Discovery and notifications that fail say so in the log, each of them at least once.
    for _ in 0..150 {
        if untried(&process.log()).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(untried(&process.log()), [""; 0], "receivers that have not been tried in 15 s");
    until_true("a section of discovery to fail", || process.logged("127.0.0.1:1").is_some());
    let mut said = Vec::new();
    // A mistake behind each secret, one after the other, and one inside.
    for (good, bad) in [
        ("scrape_configs", "scrape_confgs"),
        ("password: zz-amauth", "password: [zz-amauth]"),
        ("http://u:zz-rwurl@127", "http://u:zz-rwurl@[127"),
        ("secret_key: zz-ec2", "secret_key: zz-ec2, nonsense: 1"),
        ("client_secret: zz-azure", "client_secret: {zz-azure: 1}"),
    ] {
        home.write("prometheus.yml", &text.replace(good, bad));
        let (status, text_of_it) = ask("POST", "/-/reload", "");
        assert_eq!(status, 500, "{bad}: {text_of_it}");
        said.push((format!("the refusal of {bad}"), text_of_it));
    }
    home.write(
        "web.yml",
        &format!("basic_auth_users: {{alice: {USER}, bob: zz-plain}}\nrate_limit: {{interval: x}}\n"),
    );
    said.push(("a broken web configuration".to_owned(), ask("GET", "/", "").1));
    home.write("web.yml", &format!("basic_auth_users: {{alice: {USER}}}\n"));
    for path in [
        "/api/v1/status/config",
        "/api/v1/status/flags",
        "/api/v1/status/runtimeinfo",
        "/api/v1/targets",
        "/api/v1/discovery",
        "/api/v1/scrape_pools",
        "/api/v1/alertmanagers",
        "/api/v2/status",
        "/api/v2/receivers",
        "/api/v2/alerts",
        "/metrics",
        "/config",
        "/api/v1/rules",
    ] {
        said.push((path.to_owned(), ask("GET", path, "").1));
    }
    for pool in 0..DISCOVERY.len() {
        let path = format!("/api/v1/scrape_pools/config?scrapePool=j{pool}");
        said.push((path.clone(), ask("GET", &path, "").1));
    }
    said.push(("the log".to_owned(), process.log()));
    for (place, text) in said {
        for hidden in ["zz-", "000000000099", "$2b$"] {
            let at = text
                .find(hidden)
                .map(|at| text[at.saturating_sub(80)..].chars().take(160).collect::<String>());
            assert!(at.is_none(), "a secret shows in {place}: {}", at.unwrap_or_default());
        }
    }
}
