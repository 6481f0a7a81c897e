//! Kubernetes discovery against an API server of our own, which a real `kubectl` and a real Prometheus use too.

mod alone;
mod change;
mod cluster;
mod differential;
mod faults;
mod kubectl;
mod load;
mod objects;
mod selector;
mod server;
mod table;
mod watch;

use std::time::Duration;

use cluster::{Maker, Size};
use server::{Api, Options};

/// A server with a cluster in it.
fn populated(seed: u64, size: &Size, options: Options) -> (Api, Maker) {
    let api = Api::start(options);
    let (maker, made) = cluster::generate(seed, size);
    api.change(|store| {
        for (kind, value) in made {
            store.put(kind, value);
        }
        store.compact();
    });
    (api, maker)
}

/// Serves a cluster for people to play with: `FERULA_KUBERNETES_SERVE=600 cargo test --test it -- kubernetes::serve
/// --nocapture` for ten minutes, with `FERULA_KUBERNETES_PODS` pods and a change every `FERULA_KUBERNETES_CHANGE_MS`.
#[test]
fn serve() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let Some(seconds) = number("FERULA_KUBERNETES_SERVE") else { return };
    let pods = number("FERULA_KUBERNETES_PODS").unwrap_or(200) as usize;
    let size = Size { nodes: 5 + pods / 100, namespaces: 4 + pods / 500, pods, is_newest: true };
    let (api, mut maker) = populated(1, &size, Options::default());
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, api.kubeconfig()).unwrap();
    eprintln!("{} for {seconds} s; export KUBECONFIG={}", api.url(), kubeconfig.display());
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let pause = number("FERULA_KUBERNETES_CHANGE_MS");
    while std::time::Instant::now() < end {
        std::thread::sleep(Duration::from_millis(pause.unwrap_or(100)));
        if pause.is_some() {
            api.change(|store| maker.disturb(store));
        }
    }
    for seen in api.seen().iter().filter(|seen| seen.kind.is_some()) {
        eprintln!("{:?} {} {:?} by {}", seen.verb, seen.path, seen.query, seen.user_agent);
    }
}
