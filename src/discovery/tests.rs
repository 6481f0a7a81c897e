//! Discovery of files on a real file system and of DNS answers by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use config::prometheus::FileDiscovery;
use model::Labels;

use super::dns::Record;
use super::file::Files;
use super::*;

fn shown(update: &Update) -> Vec<String> {
    update
        .iter()
        .map(|g| format!("{:?} {:?} {}", g.source.rsplit('/').next().unwrap(), g.targets, g.labels))
        .collect()
}

#[test]
fn files_keep_their_last_good_groups_and_lose_them_when_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let glob = path("*.yml").to_str().unwrap().to_owned();
    let mut files = Files::new(vec![glob]);
    let metrics = Metrics::new("scrape");
    assert_eq!(files.scan(&metrics).len(), 1, "an empty folder is an answer");

    std::fs::write(path("a.yml"), "- targets: [h:1]\n- targets: [h:2]\n  labels: {x: y}\n").unwrap();
    std::fs::write(path("a.json"), "not ours").unwrap();
    let update = files.scan(&metrics);
    let name = path("a.yml").display().to_string();
    let expected = [
        format!(r#""a.yml:0" [{{__address__="h:1"}}] {{__meta_filepath="{name}"}}"#),
        format!(r#""a.yml:1" [{{__address__="h:2"}}] {{__meta_filepath="{name}", x="y"}}"#),
    ];
    assert_eq!(shown(&update), expected);
    assert!(files.scan(&metrics).is_empty(), "nothing changed");

    // Half written: kept and counted.
    std::fs::write(path("a.yml"), "- targets: [h:3]\n- targ").unwrap();
    assert!(files.scan(&metrics).is_empty());
    assert_eq!(metrics.file_read_errors.get(), 1);

    // Replaced by rename, with a group less.
    std::fs::write(path("new"), "- targets: [h:4]\n").unwrap();
    std::fs::rename(path("new"), path("a.yml")).unwrap();
    let update = files.scan(&metrics);
    assert_eq!(update.iter().map(|g| g.targets.len()).collect::<Vec<_>>(), [1, 0]);

    std::fs::remove_file(path("a.yml")).unwrap();
    let update = files.scan(&metrics);
    assert_eq!(shown(&update), [r#""a.yml:0" [] {}"#]);
}

/// The watch alone brings the change: the poll is an hour away.
#[tokio::test]
async fn a_renamed_file_is_noticed_and_equal_sections_are_shared_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.json");
    std::fs::write(&path, r#"[{"targets": ["h:1"]}]"#).unwrap();
    let section = Discovery::File(FileDiscovery {
        files: vec![path.to_str().unwrap().to_owned()],
        refresh_interval: Duration::from_hours(1),
    });
    let stop = CancellationToken::new();
    let manager = Arc::new(Manager::new("scrape", stop.clone()));
    let mut sets = manager.subscribe();
    let running = Arc::clone(&manager);
    let task = tokio::spawn(async move { running.run().await });
    let jobs = BTreeMap::from([
        ("a".to_owned(), vec![section.clone()]),
        ("b".to_owned(), vec![section]),
        ("none".to_owned(), vec![]),
    ]);
    manager.apply(&jobs);
    let addresses = |sets: &TargetSets, job: &str| -> Vec<String> {
        sets[job].iter().flat_map(|g| g.targets.iter().map(Labels::to_string)).collect()
    };
    let first = |sets: &Arc<TargetSets>| sets.get("a").is_some_and(|groups| !groups.is_empty());
    let found =
        tokio::time::timeout(Duration::from_secs(20), sets.wait_for(first)).await.unwrap().unwrap().clone();
    assert_eq!(addresses(&found, "a"), [r#"{__address__="h:1"}"#]);
    assert_eq!(addresses(&found, "b"), addresses(&found, "a"));
    assert!(found["none"].is_empty());
    assert!(Arc::ptr_eq(&found["a"][0], &found["b"][0]), "discovered twice");

    // A reload keeps what the provider found.
    manager.apply(&jobs);
    let next = folder.path().join("next");
    std::fs::write(&next, r#"[{"targets": ["h:2"]}]"#).unwrap();
    std::fs::rename(&next, &path).unwrap();
    let second = |sets: &Arc<TargetSets>| {
        assert!(!sets["a"].is_empty(), "the reload lost the targets");
        addresses(sets, "a") == [r#"{__address__="h:2"}"#]
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), sets.wait_for(second)).await;
    drop(waited.expect("the rename went unnoticed"));
    stop.cancel();
    task.await.unwrap();
}

#[test]
fn dns_records_become_targets() {
    let records = [
        Record::Srv { target: "node.example.org.".to_owned(), port: 9100 },
        Record::Address("::1".parse().unwrap()),
        Record::Mx { target: "mx.example.org.".to_owned() },
    ];
    let group = dns::group("_p._tcp.example.org", 80, &records);
    let shown: Vec<String> = group.targets.iter().map(Labels::to_string).collect();
    assert_eq!(
        shown,
        [
            r#"{__address__="node.example.org:9100", __meta_dns_name="_p._tcp.example.org", __meta_dns_srv_record_port="9100", __meta_dns_srv_record_target="node.example.org."}"#,
            r#"{__address__="[::1]:80", __meta_dns_name="_p._tcp.example.org"}"#,
            r#"{__address__="mx.example.org:80", __meta_dns_mx_record_target="mx.example.org.", __meta_dns_name="_p._tcp.example.org"}"#,
        ]
    );
}
