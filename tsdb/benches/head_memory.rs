//! Who holds the head's memory: bytes per series by owner, beside what the kernel says that the process has.
//!
//! `SERIES` series (400,000 if nothing is said) in targets of 1000 with ten labels each, in order, warm. What no owner
//! admits to is the allocator's and the tables' of batches. Budget, in bytes per series: line 64, open chunk 112, chunk
//! descriptors 64 after two hours, cold record 32, label set and its table 56, strings and pairs 12, postings 20; with what
//! pages and size classes waste some 390. `SERIES=400000 cargo bench --bench head_memory`.

#![expect(clippy::print_stdout, reason = "a bench is a program that prints")]

mod measure;

use measure::fleet::{Fleet, SERIES as OF_TARGET};
use measure::{number, status_bytes};
use tsdb::head::{Head, Options, ReplayProgress};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let n_series = number("SERIES", 400_000).next_multiple_of(OF_TARGET);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let before = status_bytes("RssAnon");
    let head =
        Head::open(dir.path(), Options::default(), i64::MIN, &ReplayProgress::default()).expect("opens");
    let mut fleet = Fleet::new(&head, n_series / OF_TARGET);
    let mut columns = Vec::new();
    let mut scrapes = 1;
    for round in [1, 30, 60, 90, 120, 150, 240, 300, 480] {
        while scrapes < round {
            fleet.prepare(15_000);
            fleet.scrape_all(&head);
            scrapes += 1;
        }
        let held = status_bytes("RssAnon").saturating_sub(before + fleet.own_bytes() as u64);
        let mut rows: Vec<(&str, f64)> = Vec::new();
        rows.extend(head.memory().map(|(owner, bytes)| (owner, bytes as f64 / n_series as f64)));
        let admitted: f64 = rows.iter().map(|row| row.1).sum();
        let held = held as f64 / n_series as f64;
        rows.extend([("(all owners)", admitted), ("(RssAnon)", held), ("(nobody's)", held - admitted)]);
        columns.push((round, rows));
    }
    print!("{:<20}", "B/series after");
    for (round, _) in &columns {
        print!("{round:>8}");
    }
    println!(" scrapes of {n_series} series");
    for (i, (owner, _)) in columns[0].1.iter().enumerate() {
        print!("{owner:<20}");
        for (_, rows) in &columns {
            print!("{:>8.1}", rows[i].1);
        }
        println!();
    }
    std::mem::forget(head);
}
