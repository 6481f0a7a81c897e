//! `ferula am` beside amtool: every command of both against the built-in Alertmanager and against a live one says
//! the same, but for ids and times.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::process::{Home, Server, peer, until_true};

const ALERTMANAGER: &str = "
route:
  receiver: none
  group_by: [alertname]
  routes:
  - matchers: [severity=\"page\", 'team=~\"db|web\"']
    receiver: pager
    continue: true
  - match_re: {service: 'chat.*'}
    receiver: chat
    routes:
    - matchers: [a!=b, '\"ü x\"=c']
      receiver: none
receivers: [{name: none}, {name: pager}, {name: chat}]
inhibit_rules:
- source_matchers: [severity=\"page\"]
  target_matchers: [severity=\"warning\"]
  equal: [team]
templates: ['*.tmpl']
";

const TEMPLATE: &str = "{{ define \"x\" }}{{ .Status }} {{ .Receiver }}{{ range .Alerts }} \
    [{{ .Labels.SortedPairs.Values | join \",\" }} {{ .Annotations.commonannotationkey1 }} {{ .Fingerprint }} \
    {{ .Status }}]{{ end }} {{ .CommonLabels }} {{ .GroupLabels.grouplabelkey1 }} {{ .ExternalURL }} <b>{{ end }}";

/// A program and what stands before its arguments.
struct Tool {
    program: PathBuf,
    first: Option<&'static str>,
}

struct Bench {
    home: Home,
    tools: Vec<Tool>,
    /// Ours, and a live one if there is one of the same age as the tool.
    servers: Vec<Server>,
    /// Whether the reference tool is the one we follow, so that its errors are ours to the letter.
    is_newest: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Bench {
    fn new(test: &str) -> Option<Self> {
        let newest = peer("amtool-next", test);
        let is_newest = newest.is_some();
        let amtool = newest.or_else(|| peer("amtool", test))?;
        let home = Home::new("scrape_configs: []\n");
        home.write("alertmanager.yml", ALERTMANAGER);
        home.write(
            "bad.yml",
            "route: {receiver: none, routes: [{receiver: nobody}]}\nreceivers: [{name: none}]\n",
        );
        home.write("x.tmpl", TEMPLATE);
        let mut servers = vec![home.start(&["--alertmanager.config-file=alertmanager.yml"])];
        if let Some(program) = is_newest.then(|| peer("alertmanager-next", test)).flatten() {
            let mut command = Command::new(program);
            command
                .current_dir(home.path(""))
                .args(["--config.file=alertmanager.yml", "--storage.path=am", "--cluster.listen-address="])
                .arg("--web.listen-address=127.0.0.1:0");
            servers.push(Server::start("alertmanager", &mut command, "/-/ready"));
        }
        let ours = Tool { program: PathBuf::from(env!("CARGO_BIN_EXE_ferula")), first: Some("am") };
        let tools = vec![Tool { program: amtool, first: None }, ours];
        Some(Self { home, tools, servers, is_newest })
    }

    fn run(&self, tool: &Tool, server: Option<&Server>, args: &[&str], input: &str) -> Said {
        let mut command = Command::new(&tool.program);
        command.args(tool.first).current_dir(self.home.path("")).env("HOME", self.home.path("home"));
        command.args(server.map(|server| format!("--alertmanager.url={}", server.url))).args(args);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        // Whoever does not read it has closed it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let name = tool.program.file_name().unwrap().to_string_lossy();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes).replace(&format!("{name}: error:"), "amtool: error:");
            mask(&text).trim_end().to_owned()
        };
        Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// All tools against all servers, which have to agree; what they say.
    #[track_caller]
    fn agree(&self, args: &[&str]) -> Said {
        self.agree_on(args, "", true)
    }

    #[track_caller]
    fn agree_on(&self, args: &[&str], input: &str, asks_server: bool) -> Said {
        let servers: Vec<Option<&Server>> =
            if asks_server { self.servers.iter().map(Some).collect() } else { vec![None] };
        let mut said = thread::scope(|scope| {
            let runs: Vec<_> = self
                .tools
                .iter()
                .flat_map(|tool| servers.iter().map(move |server| (tool, *server)))
                .map(|(tool, server)| scope.spawn(move || self.run(tool, server, args, input)))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
        });
        if !self.is_newest {
            // The older tool minds the version and words some errors differently.
            said.iter_mut().for_each(|said| said.err.clear());
        }
        for other in &said[1..] {
            assert_eq!(other, &said[0], "{args:?}");
        }
        said.swap_remove(0)
    }

    /// Runs a command once with each tool against each server.
    #[track_caller]
    fn each(&self, args: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        for server in &self.servers {
            for tool in &self.tools {
                let mut command = Command::new(&tool.program);
                command.args(tool.first).env("HOME", self.home.path("home"));
                command.arg(format!("--alertmanager.url={}", server.url)).args(args);
                let output = command.output().unwrap();
                assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
                out.push(String::from_utf8(output.stdout).unwrap());
            }
        }
        out
    }
}

/// Replaces what differs from run to run and keeps its shape.
fn mask(text: &str) -> String {
    let is_id = |word: &str| {
        word.len() == 36
            && word.matches('-').count() == 4
            && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
    };
    // Times of ours are far away; those of the servers are of today.
    let today = jiff::Timestamp::now().to_string()[..10].to_owned();
    let yesterday =
        (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1)).to_string()[..10].to_owned();
    let tomorrow =
        (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string()[..10].to_owned();
    let mut out = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, out: &mut String| {
        let is_now = [&today, &yesterday, &tomorrow].iter().any(|day| word.starts_with(day.as_str()));
        if is_id(word) {
            out.push_str("ID");
        } else if is_now || (word.len() == 8 && word.matches(':').count() == 2) {
            out.push_str("TIME");
        } else {
            out.push_str(word);
        }
        word.clear();
    };
    for c in text.chars() {
        if c.is_alphanumeric() || "-:.+".contains(c) {
            word.push(c);
        } else {
            flush(&mut word, &mut out);
            out.push(c);
        }
    }
    flush(&mut word, &mut out);
    out
}

#[test]
fn every_command_says_what_amtool_says() {
    let Some(bench) = Bench::new("every_command_says_what_amtool_says") else { return };
    let add = |args: &[&str]| bench.each(&[&["alert", "add"], args].concat());
    let far = "--end=2036-01-02T03:04:05Z";
    add(&[
        "foo",
        "severity=page",
        "team=db",
        "--annotation=summary=a & <b>",
        "--start=2026-01-02T03:04:05Z",
        far,
    ]);
    add(&["alertname=bar", "severity=warning", "team=db", "--start=2026-01-03T03:04:05Z", far]);
    add(&["baz", "x=\"a b\"", "--generator-url=http://g/x?a=b&c", "--start=2026-01-04T03:04:05Z", far]);
    until_true("all alerts to have been routed", || {
        bench.servers.iter().all(|server| {
            let alerts = server.json("/api/v2/alerts");
            alerts
                .as_array()
                .unwrap()
                .iter()
                .filter(|alert| alert["status"]["state"] != "unprocessed")
                .count()
                == 3
        })
    });
    for output in ["simple", "extended", "json"] {
        let said = bench.agree(&["-o", output, "alert"]);
        assert!(
            said.out.contains("foo") && said.out.contains("baz") && !said.out.contains("warning"),
            "{said:?}"
        );
    }
    assert!(bench.agree(&["alert", "query", "-i"]).out.contains("suppressed"));
    assert!(!bench.agree(&["alert", "foo"]).out.contains("baz"));
    assert!(bench.agree(&["alert", "query", "-r", "pager"]).out.contains("foo"));
    // What is no matcher is the name of an alert.
    assert_eq!(bench.agree(&["alert", "query", "a=~("]).code, Some(0));
    assert_eq!(bench.agree(&["alert", "add", "foo", "a!=b"]).code, Some(1));

    let far = ["--start=2035-01-02T03:04:05Z", "--end=2036-01-02T03:04:05Z"];
    let ids = bench.each(
        &[&["silence", "add", "foo", "team=~d.*", "x!=y", "-c", "<known>", "-a", "me"], &far[..]].concat(),
    );
    for output in ["simple", "extended", "json"] {
        assert!(bench.agree(&["-o", output, "silence"]).out.contains("team=~") || output == "json");
    }
    assert_eq!(bench.agree(&["silence", "query", "-q"]).out.lines().count(), 2, "one of each tool");
    bench.agree(&["silence", "query", "--created-by=you"]);
    bench.agree(&["silence", "query", "--within=1h"]);
    bench.agree(&["silence", "--expired"]);
    for args in
        [&["silence", "add"][..], &["silence", "add", "foo"], &["silence", "add", "a", "-c", "c", "-d", "0s"]]
    {
        assert_eq!(bench.agree(args).code, Some(1), "{args:?}");
    }
    let servers_and_tools =
        bench.servers.iter().flat_map(|server| bench.tools.iter().map(move |tool| (server, tool)));
    let runs: Vec<(&Server, &Tool)> = servers_and_tools.collect();
    let mut updates = Vec::new();
    for ((server, tool), id) in runs.iter().zip(&ids) {
        let args = ["silence", "update", id.trim(), "-d", "3h", "-c", "changed"];
        updates.push(bench.run(tool, Some(server), &args, ""));
    }
    assert!(updates.iter().all(|said| said.code == Some(0) && said.out.contains("changed")), "{updates:?}");
    assert!(updates.iter().all(|said| *said == updates[0] || !bench.is_newest), "{updates:?}");
    let unknown = "6e2c8f4e-1111-2222-3333-444455556666";
    assert_eq!(bench.agree(&["silence", "update", unknown, "-d", "1h"]).code, Some(1));
    let silences = bench.servers[0].get("/api/v2/silences").1;
    let imported = bench.agree_on(&["silence", "import", "-f"], &silences, true);
    assert_eq!(imported.out, "ID\nID", "{imported:?}");
    for ((server, tool), id) in runs.iter().zip(&ids) {
        let said = bench.run(tool, Some(server), &["silence", "expire", id.trim()], "");
        assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{said:?}");
    }

    assert!(bench.agree(&["config"]).out.contains("receiver: pager") || !bench.is_newest);
    bench.agree(&["cluster"]);
    bench.agree(&["-o", "extended", "cluster", "show"]);
    let tree = bench.agree(&["config", "routes"]).out;
    assert!(tree.contains("└── {instance") || tree.contains("{service=~\"^(?:chat.*)$\"}"), "{tree}");
    for args in [
        &["config", "routes", "test", "--tree", "severity=page", "team=db", "service=chatty"][..],
        &["config", "routes", "test", "--verify.receivers=x", "a=b"],
        &["config", "routes", "test", "--verify.receivers=none", "a=b"],
    ] {
        bench.agree(args);
    }
}

#[test]
fn commands_that_ask_nobody_say_what_amtool_says() {
    let Some(bench) = Bench::new("commands_that_ask_nobody_say_what_amtool_says") else { return };
    let offline = |args: &[&str]| bench.agree_on(args, "", false);
    let render = ["template", "render", "--template.glob=*.tmpl", "--template.text={{ template \"x\" . }}"];
    assert!(offline(&render).out.starts_with("alertstatus receiver [commonlabelvalue1,"));
    offline(&[&render[..], &["--template.type=html"]].concat());
    bench.home.write(
        "data.json",
        "{\"receiver\":\"r\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"a\":\"<b>\"}}]}",
    );
    offline(&[&render[..], &["--template.data=data.json"]].concat());
    offline(&["config", "routes", "--config.file=alertmanager.yml"]);
    offline(&["config", "routes", "test", "--config.file=alertmanager.yml", "severity=page", "team=db"]);
    assert!(offline(&["check-config", "alertmanager.yml"]).out.contains(" - 1 inhibit rules"));
    for args in [
        &["alert"][..],
        &["config"],
        &["config", "routes"],
        &["nope"],
        &["--nope"],
        &["check-config", "nope"],
    ] {
        assert_eq!(offline(args).code, Some(1), "{args:?}");
    }

    // Ours say where, too.
    let ours = |args: &[&str]| bench.run(&bench.tools[1], None, args, "");
    let bad = ours(&["check-config", "bad.yml"]);
    assert_eq!(bad.code, Some(1));
    assert!(
        bad.out.contains("FAILED: undefined receiver \"nobody\" used in route (line 1, column "),
        "{bad:?}"
    );

    // Files of defaults, and a link that is called as amtool is.
    bench.home.write(
        "home/.config/amtool/config.yml",
        &format!("alertmanager.url: {}\noutput: json\n", bench.servers[0].url),
    );
    // The older tool that some systems bring looks for its file elsewhere.
    let said = |args: &[&str]| if bench.is_newest { offline(args) } else { ours(args) };
    assert_eq!(said(&["alert"]).out, "[]");
    assert!(said(&["alert", "-o", "simple"]).out.starts_with("Alertname"));
    let link = bench.home.path("amtool");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferula"), &link).unwrap();
    let linked = bench.run(&Tool { program: link, first: None }, None, &["alert"], "");
    assert_eq!(linked.out, "[]");

    // What we add is left out for others, who then take the file.
    bench.home.write(
        "ours.yml",
        "global: {smtp_smarthost: 'h:25', smtp_from: a@b}\nroute: {receiver: a}\nreceivers:\n- name: a\n  \
         email_configs:\n  - {to: c@d, layout: alertmanager, max_alerts: 7}\n",
    );
    let exported = ours(&["export", "ours.yml"]);
    assert_eq!(exported.err, "left out, line 6: layout\nleft out, line 6: max_alerts");
    bench.home.write("exported.yml", &exported.out);
    let checks = |file: &str| bench.run(&bench.tools[0], None, &["check-config", file], "").code;
    assert_eq!((checks("ours.yml"), checks("exported.yml")), (Some(1), Some(0)), "{exported:?}");
    assert!(Path::new(&bench.home.path("exported.yml")).exists());
}
