//! `kubectl` of Debian against the server: that it is not only our own idea of the protocol.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::cluster::Size;
use super::objects::Kind;
use super::populated;
use super::server::{Api, Options};
use crate::process::{Process, skipped, until};

fn kubectl(test: &str) -> Option<PathBuf> {
    let own = std::env::var_os("FERULA_PEERS").map(|peers| Path::new(&peers).join("bin"));
    let folders = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect::<Vec<_>>();
    let found =
        own.into_iter().chain(folders).map(|folder| folder.join("kubectl")).find(|path| path.exists());
    if found.is_none() {
        skipped(test, "no kubectl (`make kubectl` brings it)");
    }
    found
}

struct Client {
    program: PathBuf,
    folder: tempfile::TempDir,
}

impl Client {
    fn new(program: PathBuf, api: &Api) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), api.kubeconfig()).unwrap();
        Self { program, folder }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let path = self.folder.path();
        // It keeps what it discovered below the home directory.
        command.env("HOME", path).env("KUBECONFIG", path.join("config")).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn get(&self, args: &[&str]) -> String {
        let output = self.run(&[&["get"], args].concat());
        assert!(output.status.success(), "get {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The items of `get -o json`.
    fn items(&self, args: &[&str]) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&self.get(&[args, &["-o", "json"]].concat())).unwrap();
        answer["items"].as_array().unwrap().iter().map(without_managed_fields).collect()
    }
}

/// Newer ones leave them out.
fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    object
}

const SIZE: Size = Size { nodes: 12, namespaces: 3, pods: 700, is_newest: true };

#[test]
fn kubectl_lists_every_kind() {
    let Some(program) = kubectl("kubernetes::kubectl::kubectl_lists_every_kind") else { return };
    let (api, _) = populated(11, &SIZE, Options::default());
    let client = Client::new(program, &api);
    // In pages of 500, which is what it asks for.
    for kind in Kind::ALL {
        let mut names = vec![kind.plural()];
        names.extend(kind.short());
        for name in names {
            let items = client.items(&[name, "-A"]);
            let expected: Vec<_> =
                api.store().all(kind).map(|object| without_managed_fields(&object.value)).collect();
            let different = items.iter().zip(&expected).find(|(item, expected)| item != expected);
            assert!(different.is_none() && items.len() == expected.len(), "{name}: {different:#?}");
        }
    }
    let pages = api.seen().iter().filter(|seen| !seen.parameter("continue").is_empty()).count();
    assert!(pages > 0, "nothing was read in pages");

    let wide = client.get(&["pods", "-A", "-o", "wide"]);
    let n_pods = api.store().all(Kind::Pod).count();
    assert_eq!(wide.lines().count(), n_pods + 1, "{wide}");
    let head: Vec<_> = wide.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(head, ["NAMESPACE", "NAME", "READY", "STATUS", "AGE", "IP", "NODE"]);
    for kind in ["nodes", "svc", "endpointslices", "ingress", "ns", "ep", "rs", "deploy", "jobs", "cronjobs"]
    {
        assert!(client.get(&[kind, "-A"]).lines().count() > 1, "{kind}");
    }
}

#[test]
fn kubectl_selects_and_is_refused() {
    let Some(program) = kubectl("kubernetes::kubectl::kubectl_selects_and_is_refused") else { return };
    let (api, _) = populated(12, &SIZE, Options::default());
    let client = Client::new(program.clone(), &api);
    let count = |args: &[&str]| client.items(args).len();
    let expected =
        |is: &dyn Fn(&Value) -> bool| api.store().all(Kind::Pod).filter(|pod| is(&pod.value)).count();
    let n_front = expected(&|pod| pod["metadata"]["labels"]["tier"] == "front");
    assert!(n_front > 0);
    assert_eq!(count(&["pods", "-A", "-l", "tier=front"]), n_front);
    assert_eq!(
        count(&["pods", "-A", "-l", "tier in (front,back),app"]),
        expected(&|pod| { pod["metadata"]["labels"]["tier"] != "none" })
    );
    assert_eq!(
        count(&["pods", "-n", "team-1", "--field-selector", "status.phase=Pending"]),
        expected(&|pod| pod["metadata"]["namespace"] == "team-1" && pod["status"]["phase"] == "Pending")
    );
    let one = without_managed_fields(&api.store().all(Kind::Pod).next().unwrap().value);
    let (namespace, name) =
        (one["metadata"]["namespace"].as_str().unwrap(), one["metadata"]["name"].as_str().unwrap());
    let got: Value =
        serde_json::from_str(&client.get(&["pod", "-n", namespace, name, "-o", "json"])).unwrap();
    assert_eq!(without_managed_fields(&got), one);
    assert!(client.get(&["pod", "-n", namespace, name]).contains(name));

    let refused = |client: &Client, args: &[&str]| {
        let output = client.run(args);
        assert!(!output.status.success(), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&client, &["get", "pod", "nobody"]).contains("Error from server (NotFound)"));
    let error = refused(&client, &["get", "pods", "--field-selector", "spec.colour=red"]);
    assert!(error.contains("field label not supported: spec.colour"), "{error}");
    // Over plain HTTP it never shows its token.
    let locked = Api::start(Options { token: Some("sesame".to_owned()), ..Options::default() });
    let stranger = Client::new(program, &locked);
    let error = refused(&stranger, &["get", "pods"]);
    assert!(error.to_lowercase().contains("unauthorized") || error.contains("logged in"), "{error}");
}

#[test]
fn kubectl_watches() {
    let Some(program) = kubectl("kubernetes::kubectl::kubectl_watches") else { return };
    let (api, _) = populated(13, &SIZE, Options::default());
    let client = Client::new(program, &api);
    let pod = |name: &str| json!({"metadata": {"namespace": "team-0", "name": name}, "status": {"phase": "Pending"}});
    // Once as tables and once as objects: what goes by is in one file each.
    for (form, sign) in [("wide", "Pending"), ("json", "\"phase\": \"Pending\"")] {
        let seen = client.folder.path().join(form);
        let args = ["get", "pods", "-n", "team-0", "--watch", "-o", form];
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" >\"$SEEN\""]).arg(&client.program).args(args);
        let path = client.folder.path();
        command.env("HOME", path).env("KUBECONFIG", path.join("config")).env("SEEN", &seen);
        let _watching = Process::spawn("kubectl", &mut command);
        until("kubectl to watch", || api.watched().contains(&Kind::Pod).then_some(()));
        let name = format!("late-{form}");
        api.change(|store| store.put(Kind::Pod, pod(&name)));
        until("kubectl to show the new pod", || {
            let text = std::fs::read_to_string(&seen).unwrap_or_default();
            let start = text.find(&name)?;
            text[start..].contains(sign).then_some(())
        });
    }
}
