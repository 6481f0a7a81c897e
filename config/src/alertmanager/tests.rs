use std::path::Path;

use expect_test::{Expect, expect};

use super::{load, parse};
use crate::testing::{files, upstream};

#[track_caller]
fn refuse(text: &str, expected: Expect) {
    let shown = match parse(text, Path::new("am.yml")) {
        Ok(_) => "loads".to_owned(),
        Err(e) => e.to_string(),
    };
    expected.assert_eq(&shown);
}

const GOOD: &str = "
global:
  smtp_smarthost: mail.example.org:587
  smtp_from: am@example.org
  smtp_auth_username: u
  smtp_auth_password: p
  http_config: {follow_redirects: false}
templates: ['t/*.tmpl']
route:
  receiver: a
  group_by: [alertname, job]
  group_wait: 10s
  routes:
  - matchers: ['severity=\"page\"', 'team=~x|y, zone!=z']
    receiver: b
    continue: true
    group_by: ['...']
    repeat_interval: 1h
    routes:
    - match: {job: x}
      match_re: {instance: 'a.*'}
      group_by: []
receivers:
- name: a
  email_configs:
  - to: x@example.org, y@example.org
    headers: {subject: hello}
  - {to: z@example.org, from: q@example.org, require_tls: false, auth_password_file: pw, smarthost: 'h:465'}
- name: b
  webhook_configs:
  - url: http://localhost:1/hook?token=x
  - {url_file: u.txt, max_alerts: 5, timeout: 3s, send_resolved: false, http_config: {bearer_token: x}}
inhibit_rules:
- source_matchers: [severity=critical]
  target_match_re: {severity: warning|info}
  equal: [alertname, cluster]
";

#[test]
fn everything_supported() {
    let config = parse(GOOD, Path::new("/etc/am/am.yml")).unwrap();
    expect![[r#"
        (
            Route {
                receiver: "a",
                group_by: Some(
                    [
                        "alertname",
                        "job",
                    ],
                ),
                group_wait: 10s,
                group_interval: 300s,
                repeat_interval: 14400s,
                matchers: [],
                continue_matching: false,
                mute_time_intervals: [],
                active_time_intervals: [],
                labels: {},
                routes: [
                    Route {
                        receiver: "b",
                        group_by: None,
                        group_wait: 10s,
                        group_interval: 300s,
                        repeat_interval: 3600s,
                        matchers: [
                            severity="page",
                            team=~"x|y",
                            zone!="z",
                        ],
                        continue_matching: true,
                        mute_time_intervals: [],
                        active_time_intervals: [],
                        labels: {},
                        routes: [
                            Route {
                                receiver: "b",
                                group_by: Some(
                                    [],
                                ),
                                group_wait: 10s,
                                group_interval: 300s,
                                repeat_interval: 3600s,
                                matchers: [
                                    instance=~"^(?:a.*)$",
                                    job="x",
                                ],
                                continue_matching: false,
                                mute_time_intervals: [],
                                active_time_intervals: [],
                                labels: {},
                                routes: [],
                            },
                        ],
                    },
                ],
            },
            [
                Receiver {
                    name: "a",
                    labels: {
                        "name": "a",
                    },
                    integrations: [
                        Integration {
                            index: 0,
                            send_resolved: false,
                            notifier: Email(
                                Email {
                                    to: "x@example.org, y@example.org",
                                    from: "am@example.org",
                                    hello: "localhost",
                                    smarthost: "mail.example.org:587",
                                    auth_username: "u",
                                    auth_password: Inline(
                                        <secret>,
                                    ),
                                    auth_secret: Inline(
                                        <secret>,
                                    ),
                                    auth_identity: "",
                                    require_tls: true,
                                    force_implicit_tls: None,
                                    tls: Tls {
                                        ca: None,
                                        cert: None,
                                        key: None,
                                        server_name: None,
                                        insecure_skip_verify: false,
                                        min_version: None,
                                        max_version: None,
                                    },
                                    headers: {
                                        "From": "am@example.org",
                                        "Subject": "hello",
                                        "To": "x@example.org, y@example.org",
                                    },
                                    has_subject: true,
                                    html: "{{ template \"email.default.html\" . }}",
                                    text: "",
                                    threading: None,
                                    layout: Ferula,
                                    extensions: EmailExtensions {
                                        max_alerts: 20,
                                        timezone: "",
                                        has_actions: true,
                                        has_graphs: true,
                                        is_auth_optional: true,
                                        auth_token: None,
                                    },
                                },
                            ),
                        },
                        Integration {
                            index: 1,
                            send_resolved: false,
                            notifier: Email(
                                Email {
                                    to: "z@example.org",
                                    from: "q@example.org",
                                    hello: "localhost",
                                    smarthost: "h:465",
                                    auth_username: "u",
                                    auth_password: File(
                                        "/etc/am/pw",
                                    ),
                                    auth_secret: Inline(
                                        <secret>,
                                    ),
                                    auth_identity: "",
                                    require_tls: false,
                                    force_implicit_tls: None,
                                    tls: Tls {
                                        ca: None,
                                        cert: None,
                                        key: None,
                                        server_name: None,
                                        insecure_skip_verify: false,
                                        min_version: None,
                                        max_version: None,
                                    },
                                    headers: {
                                        "From": "q@example.org",
                                        "Subject": "{{ template \"email.default.subject\" . }}",
                                        "To": "z@example.org",
                                    },
                                    has_subject: false,
                                    html: "{{ template \"email.default.html\" . }}",
                                    text: "",
                                    threading: None,
                                    layout: Ferula,
                                    extensions: EmailExtensions {
                                        max_alerts: 20,
                                        timezone: "",
                                        has_actions: true,
                                        has_graphs: true,
                                        is_auth_optional: true,
                                        auth_token: None,
                                    },
                                },
                            ),
                        },
                    ],
                },
                Receiver {
                    name: "b",
                    labels: {
                        "name": "b",
                    },
                    integrations: [
                        Integration {
                            index: 0,
                            send_resolved: true,
                            notifier: Webhook(
                                Webhook {
                                    http: HttpClient {
                                        basic_auth: None,
                                        authorization: None,
                                        oauth2: None,
                                        tls: Tls {
                                            ca: None,
                                            cert: None,
                                            key: None,
                                            server_name: None,
                                            insecure_skip_verify: false,
                                            min_version: None,
                                            max_version: None,
                                        },
                                        follow_redirects: false,
                                        enable_http2: true,
                                        proxy: Proxy {
                                            url: None,
                                            no_proxy: "",
                                            from_environment: false,
                                            connect_headers: {},
                                        },
                                        headers: {},
                                    },
                                    url: Inline(
                                        <secret>,
                                    ),
                                    max_alerts: 0,
                                    timeout: 0ns,
                                    payload: None,
                                },
                            ),
                        },
                        Integration {
                            index: 1,
                            send_resolved: false,
                            notifier: Webhook(
                                Webhook {
                                    http: HttpClient {
                                        basic_auth: None,
                                        authorization: Some(
                                            Authorization {
                                                kind: "Bearer",
                                                credentials: Inline(
                                                    <secret>,
                                                ),
                                            },
                                        ),
                                        oauth2: None,
                                        tls: Tls {
                                            ca: None,
                                            cert: None,
                                            key: None,
                                            server_name: None,
                                            insecure_skip_verify: false,
                                            min_version: None,
                                            max_version: None,
                                        },
                                        follow_redirects: true,
                                        enable_http2: true,
                                        proxy: Proxy {
                                            url: None,
                                            no_proxy: "",
                                            from_environment: false,
                                            connect_headers: {},
                                        },
                                        headers: {},
                                    },
                                    url: File(
                                        "/etc/am/u.txt",
                                    ),
                                    max_alerts: 5,
                                    timeout: 3s,
                                    payload: None,
                                },
                            ),
                        },
                    ],
                },
            ],
            [
                InhibitRule {
                    name: "",
                    source_matchers: [
                        severity="critical",
                    ],
                    target_matchers: [
                        severity=~"^(?:warning|info)$",
                    ],
                    equal: [
                        "alertname",
                        "cluster",
                    ],
                },
            ],
            [
                "/etc/am/t/*.tmpl",
            ],
        )
    "#]]
    .assert_debug_eq(&(&config.route, &config.receivers, &config.inhibit_rules, &config.templates));
    expect![[r#"
        global:
          resolve_timeout: 5m
          http_config:
            follow_redirects: false
            enable_http2: true
          smtp_from: am@example.org
          smtp_hello: localhost
          smtp_smarthost: mail.example.org:587
          smtp_auth_username: u
          smtp_auth_password: <secret>
          smtp_require_tls: true
          smtp_tls_config:
            insecure_skip_verify: false
          slack_app_url: https://slack.com/api/chat.postMessage
          pagerduty_url: https://events.pagerduty.com/v2/enqueue
          opsgenie_api_url: https://api.opsgenie.com/
          wechat_api_url: https://qyapi.weixin.qq.com/cgi-bin/
          victorops_api_url: https://alert.victorops.com/integrations/generic/20131114/alert/
          telegram_api_url: https://api.telegram.org
          webex_api_url: https://webexapis.com/v1/messages
          rocketchat_api_url: https://open.rocket.chat/
        route:
          receiver: a
          group_by:
          - alertname
          - job
          continue: false
          routes:
          - receiver: b
            group_by:
            - '...'
            matchers:
            - severity="page"
            - team=~"x|y"
            - zone!="z"
            continue: true
            routes:
            - match:
                job: x
              match_re:
                instance: a.*
              continue: false
            repeat_interval: 1h
          group_wait: 10s
        inhibit_rules:
        - source_matchers:
          - severity="critical"
          target_match_re:
            severity: warning|info
          equal:
          - alertname
          - cluster
        receivers:
        - name: a
          labels:
            name: a
          email_configs:
          - send_resolved: false
            to: x@example.org, y@example.org
            from: am@example.org
            hello: localhost
            smarthost: mail.example.org:587
            auth_username: u
            auth_password: <secret>
            headers:
              From: am@example.org
              Subject: hello
              To: x@example.org, y@example.org
            html: '{{ template "email.default.html" . }}'
            require_tls: true
            tls_config:
              insecure_skip_verify: false
          - send_resolved: false
            to: z@example.org
            from: q@example.org
            hello: localhost
            smarthost: h:465
            auth_username: u
            auth_password_file: pw
            headers:
              From: q@example.org
              Subject: '{{ template "email.default.subject" . }}'
              To: z@example.org
            html: '{{ template "email.default.html" . }}'
            require_tls: false
            tls_config:
              insecure_skip_verify: false
        - name: b
          labels:
            name: b
          webhook_configs:
          - send_resolved: true
            http_config:
              follow_redirects: false
              enable_http2: true
            url: <secret>
            url_file: ""
            max_alerts: 0
            timeout: 0s
          - send_resolved: false
            http_config:
              authorization:
                type: Bearer
                credentials: <secret>
              follow_redirects: true
              enable_http2: true
            url_file: u.txt
            max_alerts: 5
            timeout: 3s
        templates:
        - /etc/am/t/*.tmpl
    "#]]
    .assert_eq(&config.text);
}

#[test]
fn what_is_printed_can_be_read_again() {
    let config = parse(GOOD, Path::new("/etc/am/am.yml")).unwrap();
    let again = parse(&config.text, Path::new("/")).unwrap();
    assert_eq!(again.text, config.text);
}

#[test]
fn refusals() {
    let with_route = |route: &str| format!("route: {route}\nreceivers:\n- name: a\n");
    refuse("", expect!["am.yml:1:1: no route provided in config"]);
    refuse("route: {receiver: a}\n", expect![[r#"am.yml:1:8: undefined receiver "a" used in route"#]]);
    refuse(&with_route("{}"), expect!["am.yml:1:8: root route must specify a default receiver"]);
    refuse(
        &with_route("{receiver: a, continue: true}"),
        expect!["am.yml:1:8: cannot have continue in root route"],
    );
    refuse(
        &with_route("{receiver: a, matchers: [a=b]}"),
        expect!["am.yml:1:8: root route must not have any matchers"],
    );
    refuse(
        &with_route("{receiver: a, group_by: [a, a]}"),
        expect![[r#"am.yml:1:8: duplicated label "a" in group_by"#]],
    );
    refuse(
        &with_route("{receiver: a, group_by: [a, '...']}"),
        expect!["am.yml:1:8: cannot have wildcard group_by (`...`) and other labels at the same time"],
    );
    refuse(
        &with_route("{receiver: a, group_interval: 0s}"),
        expect!["am.yml:1:8: group_interval cannot be zero"],
    );
    refuse(
        &with_route("{receiver: a, repeat_interval: 0s}"),
        expect!["am.yml:1:8: repeat_interval cannot be zero"],
    );
    refuse(
        &with_route("{receiver: a, routes: [{receiver: b}]}"),
        expect![[r#"am.yml:1:31: undefined receiver "b" used in route"#]],
    );
    refuse(
        &with_route("{receiver: a, routes: [{matchers: [x]}]}"),
        expect!["am.yml:1:43: bad matcher format: x"],
    );
    refuse(
        &with_route("{receiver: a, mute_time_intervals: [x]}"),
        expect!["am.yml:1:8: root route must not have any mute time intervals"],
    );
    refuse(
        &with_route("{receiver: a, reciever: b}"),
        expect![[r#"
        am.yml:1:22: yaml: unmarshal errors:
          line 1: field reciever not found in type config.plain"#]],
    );
    let with_receiver =
        |receiver: &str| format!("route: {{receiver: a}}\nreceivers:\n- {{name: a, {receiver}}}\n");
    refuse(&with_receiver("email_configs: [{to: x}]"), expect!["am.yml:3:29: no global SMTP smarthost set"]);
    refuse(
        &with_receiver("email_configs: [{to: x, smarthost: 'h:1'}]"),
        expect!["am.yml:3:29: no global SMTP from set"],
    );
    refuse(
        &with_receiver("email_configs: [{to: x, smarthost: h}]"),
        expect!["am.yml:3:48: address h: missing port in address"],
    );
    refuse(
        &with_receiver("email_configs: [{to: x, smarthost: 'h:'}]"),
        expect![[r#"am.yml:3:48: address "h:": port cannot be empty"#]],
    );
    refuse(&with_receiver("email_configs: [{}]"), expect!["am.yml:3:29: missing to address in email config"]);
    refuse(&with_receiver("email_configs: [null]"), expect!["am.yml:3:29: missing email config"]);
    refuse(
        &with_receiver("email_configs: [{to: x, headers: {a: b, A: c}}]"),
        expect![[r#"am.yml:3:29: duplicate header "A" in email config"#]],
    );
    refuse(
        &with_receiver("webhook_configs: [{max_alerts: 1}]"),
        expect!["am.yml:3:31: one of url or url_file must be configured"],
    );
    refuse(
        &with_receiver("webhook_configs: [{url: x, url_file: y}]"),
        expect![[r#"am.yml:3:37: invalid URL: unsupported scheme "" for URL"#]],
    );
    refuse(
        &with_receiver("webhook_configs: [{url: 'http://x', url_file: y}]"),
        expect!["am.yml:3:31: at most one of url & url_file must be configured"],
    );
    refuse(
        &with_receiver("slack_configs: [{channel: x}]"),
        expect!["am.yml:3:29: no Slack API URL nor App token set either inline or in a file"],
    );
    refuse(
        "route: {receiver: a}\nreceivers: [{name: a}, {name: a}]\n",
        expect![[r#"am.yml:2:24: notification config name "a" is not unique"#]],
    );
    refuse("route: {receiver: a}\nreceivers: [{}]\n", expect!["am.yml:2:13: missing name in receiver"]);
    refuse("time_intervals: [{name: x}]\n", expect!["am.yml:1:1: no routes provided"]);
}

/// The files of upstream's own tests that its checker refuses, and the first line of why; the others are good.
const BAD: [(&str, &str); 26] = [
    (
        "conf.mattermost-both-webhook-url-and-file.yml",
        "at most one of mattermost_webhook_url & mattermost_webhook_url_file must be configured",
    ),
    ("conf.mattermost-no-webhook-url.yml", "missing webhook_url or webhook_url_file on mattermost_config"),
    (
        "conf.mattermost-valid-receiver-both-webhook-url-and-file.yml",
        "at most one of mattermost_webhook_url & mattermost_webhook_url_file must be configured",
    ),
    ("conf.nil-match_re-route.yml", "invalid regexp value for \"invalid_label\""),
    ("conf.nil-source_match_re-inhibition.yml", "invalid regexp value for \"invalid_source_label\""),
    ("conf.nil-target_match_re-inhibition.yml", "invalid regexp value for \"invalid_target_label\""),
    (
        "conf.opsgenie-both-file-and-apikey.yml",
        "at most one of opsgenie_api_key & opsgenie_api_key_file must be configured",
    ),
    ("conf.opsgenie-default-apikey-old-team.yml", "yaml: unmarshal errors:"),
    ("conf.opsgenie-no-apikey.yml", "no global OpsGenie API Key set either inline or in a file"),
    (
        "conf.rocketchat-both-token-and-tokenfile.yml",
        "at most one of rocketchat_token & rocketchat_token_file must be configured",
    ),
    (
        "conf.rocketchat-both-tokenid-and-tokenidfile.yml",
        "at most one of rocketchat_token_id & rocketchat_token_id_file must be configured",
    ),
    ("conf.rocketchat-no-token.yml", "no global Rocketchat Token set either inline or in a file"),
    (
        "conf.slack-both-file-and-token.yml",
        "at most one of slack_app_token & slack_app_token_file must be configured",
    ),
    (
        "conf.slack-both-file-and-url.yml",
        "at most one of slack_api_url & slack_api_url_file must be configured",
    ),
    (
        "conf.slack-both-url-and-token.yml",
        "at most one of slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file must be configured",
    ),
    ("conf.slack-no-api-url-or-token.yml", "no Slack API URL nor App token set either inline or in a file"),
    (
        "conf.slack-update-message-and-webhook.yml",
        "update_message can only be used with bot tokens. api_url must be set to https://slack.com/api/chat.postMessage",
    ),
    (
        "conf.smtp-both-password-and-file.yml",
        "at most one of smtp_auth_password & smtp_auth_password_file must be configured",
    ),
    ("conf.sns-invalid.yml", "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config"),
    (
        "conf.telegram-both-bot-token-and-file.yml",
        "at most one of telegram_bot_token & telegram_bot_token_file must be configured",
    ),
    ("conf.telegram-no-bot-token.yml", "missing bot_token or bot_token_file on telegram_config"),
    (
        "conf.telegram-valid-receiver-both-bot-token-and-file.yml",
        "at most one of telegram_bot_token & telegram_bot_token_file must be configured",
    ),
    (
        "conf.victorops-both-file-and-apikey.yml",
        "at most one of victorops_api_key & victorops_api_key_file must be configured",
    ),
    ("conf.victorops-no-apikey.yml", "no global VictorOps API Key set"),
    (
        "conf.wechat-both-file-and-secret.yml",
        "at most one of wechat_api_secret & wechat_api_secret_file must be configured",
    ),
    ("conf.wechat-no-api-secret.yml", "no global Wechat Api Secret set either inline or in a file"),
];

#[test]
fn upstream_files() {
    let Some(dir) = upstream("upstream_files", "alertmanager/config") else { return };
    let (mut good, mut bad) = (0, 0);
    for file in files(&dir, ".yml") {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let expected = BAD.iter().find(|(bad, _)| *bad == name).map(|(_, text)| *text);
        match (load(&file), expected) {
            (Err(e), Some(text)) => {
                assert_eq!(e.problems()[0].message.lines().next(), Some(text), "{name}");
                bad += 1;
            }
            (Ok(config), None) => {
                // What `/api/v2/status` gives is itself a configuration, except that a token is printed beside the
                // address that follows from it, as upstream does.
                if name != "conf.slack-default-app-token.yml" {
                    let again = parse(&config.text, Path::new("/")).unwrap_or_else(|e| panic!("{name}: {e}"));
                    assert_eq!(again.receivers.len(), config.receivers.len(), "{name}");
                }
                good += 1;
            }
            (loaded, _) => panic!("{name}: {:?}", loaded.map(|_| "loads")),
        }
    }
    assert_eq!((good, bad), (20, BAD.len()));
}

#[test]
fn timers_that_work_against_each_other_are_said() {
    let text = "route: {receiver: a, repeat_interval: 10d, routes: [{repeat_interval: 1m}]}\nreceivers: [{name: a}]\n";
    let config = parse(text, Path::new("am.yml")).unwrap();
    assert_eq!(
        config.warnings,
        [
            "repeat_interval is less than group_interval. Notifications will not repeat until the next group_interval. \
          (repeat_interval 1m, group_interval 5m, receiver \"a\")"
        ]
    );
    let hour = std::time::Duration::from_hours(1);
    assert!(config.retention_warnings(hour * 240).is_empty());
    let warnings = config.retention_warnings(hour * 120);
    assert!(
        warnings[0].contains("greater than the data retention period") && warnings.len() == 1,
        "{warnings:?}"
    );
}
