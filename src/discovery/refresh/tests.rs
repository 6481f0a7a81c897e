//! The loop alone: what an answer replaces, and what a failure leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::TargetGroup;
use model::Labels;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::testing::{context, shown};
use super::super::{Discoverer as _, Error, Update};
use super::{Answer, Discoverer, Source, replaced};

fn group(source: &str, n: usize) -> Arc<TargetGroup> {
    let targets = (0..n).map(|i| Labels::from_pairs([("__address__", format!("{source}:{i}"))]));
    Arc::new(TargetGroup { source: source.to_owned(), targets: targets.collect(), labels: Labels::empty() })
}

fn failed(sources: &[&str]) -> BTreeMap<String, Error> {
    sources.iter().map(|source| ((*source).to_owned(), Error("no".to_owned()))).collect()
}

#[test]
fn sources_that_are_gone_are_emptied_and_failing_ones_are_left_alone() {
    let mut known = BTreeSet::new();
    let mut step = |groups: Update, failed: BTreeMap<String, Error>| {
        replaced(groups, &failed, &mut known)
            .iter()
            .map(|g| (g.source.clone(), g.targets.len()))
            .collect::<Vec<_>>()
    };
    let named = |source: &str, n: usize| (source.to_owned(), n);
    assert_eq!(step(vec![group("a", 1), group("b", 1)], failed(&[])), [named("a", 1), named("b", 1)]);
    assert_eq!(step(vec![group("b", 2)], failed(&["a"])), [named("b", 2)]);
    assert_eq!(step(vec![group("c", 1)], failed(&["a"])), [named("c", 1), named("b", 0)]);
    assert_eq!(step(vec![], failed(&[])), [named("a", 0), named("c", 0)]);
    assert_eq!(step(vec![], failed(&[])), []);
}

struct Script(Mutex<Vec<Result<Answer, Error>>>);

impl Source for Arc<Script> {
    async fn refresh(&self) -> Result<Answer, Error> {
        let mut left = self.0.lock();
        if left.is_empty() { Err(Error("the end".to_owned())) } else { left.remove(0) }
    }
}

/// At once, then at every tick; after an error nothing is sent.
#[tokio::test(start_paused = true)]
async fn errors_send_nothing_and_show_until_all_is_well() {
    let script = vec![
        Err(Error("refused".to_owned())),
        Ok(Answer { groups: vec![group("a", 1)], failed: failed(&["b"]) }),
        Ok(Answer { groups: vec![], failed: failed(&["a", "b"]) }),
        Ok(Answer { groups: vec![group("a", 1), group("b", 1)], failed: failed(&[]) }),
        Ok(Answer::default()),
    ];
    let script = Arc::new(Script(Mutex::new(script)));
    let context = context("dns");
    let counts = context.metrics.refreshes("dns", "job");
    context.health.set_jobs(vec!["job".to_owned()], vec![Arc::clone(&counts)]);
    let discoverer = Box::new(Discoverer::new(Arc::clone(&script), Duration::from_secs(10), &context));
    let (updates, mut received) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(discoverer.run(updates, stop.clone()));
    let begin = tokio::time::Instant::now();

    assert_eq!(shown(&received.recv().await.unwrap()), [r#"a: {__address__="a:0"}"#]);
    assert_eq!(begin.elapsed().as_secs(), 10, "the first question came at once and failed");
    assert_eq!(context.health.failure().unwrap().error, "b: no");
    let unknown = ["a", "b", "c"].map(|source| context.health.is_unknown(source));
    assert_eq!(unknown, [false, true, false], "b keeps what an old section had found");
    assert_eq!(counts.failures.get(), 1, "a part that fails is no failure of the refresh");

    let update = received.recv().await.unwrap();
    assert_eq!(shown(&update), [r#"a: {__address__="a:0"}"#, r#"b: {__address__="b:0"}"#]);
    assert_eq!(begin.elapsed().as_secs(), 30);
    assert_eq!(context.health.failure(), None);
    assert!(!context.health.is_unknown("b"));
    assert_eq!(shown(&received.recv().await.unwrap()), ["a: none", "b: none"]);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(context.health.failure().unwrap().error, "the end");
    stop.cancel();
    task.await.unwrap();
    assert!(received.recv().await.is_none());
}
