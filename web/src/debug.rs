//! `/debug/pprof/…`: what of Go's profiles makes sense here.
//!
//! `profile` measures which threads spend the CPU's time, from the system's own accounts: it costs nothing while nobody
//! asks and interrupts nothing, but knows no stacks; whoever wants those takes `perf record -g -p PID`. What is of Go alone
//! answers that it is not here.
//!
//! Compat: Go `net/http/pprof`; the format is pprof's `profile.proto`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::api::Api;
use crate::params::Params;
use crate::routes::{GET_POST, Routes, not_found, redirect, text_error};
use crate::view::running::Thread;

/// How long a profile measures unless the request says otherwise, and at most.
const SECONDS: u64 = 30;
const SECONDS_MAX: u64 = 300;

/// What Go has and this server has not.
const ABSENT: [&str; 7] = ["allocs", "block", "fgprof", "goroutineleak", "heap", "mutex", "trace"];

const INDEX: &str = "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>/debug/pprof/</title></head><body>\
<h1>/debug/pprof/</h1><ul>\
<li><a href=\"profile\">profile</a>: CPU time by thread over <code>seconds</code> (30), for <code>go tool pprof</code>. \
For stacks use <code>perf record -g</code>.</li>\
<li><a href=\"goroutine\">goroutine</a>: the threads, what they do now and the CPU time they have used, as text.</li>\
<li><a href=\"cmdline\">cmdline</a>: the command line, parts divided by zero bytes.</li>\
<li><a href=\"symbol\">symbol</a>: there are no addresses to name.</li></ul>\
<p>Profiles of memory, locks and traces are not here. What holds memory is in the metrics that begin with \
<code>ferula_memory_</code>.</p></body></html>";

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.on(GET_POST, "/debug/{*subpath}", debug)
}

async fn debug(State(api): State<Arc<Api>>, subpath: Option<Path<String>>, params: Params) -> Response {
    let subpath = subpath.map(|Path(subpath)| subpath).unwrap_or_default();
    if subpath == "pprof" {
        let to = format!("{}/debug/pprof/", api.options.route_prefix);
        return redirect(StatusCode::MOVED_PERMANENTLY, &to);
    }
    let Some(name) = subpath.strip_prefix("pprof/") else { return not_found().await };
    match name {
        "" => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], INDEX).into_response(),
        "cmdline" => text(api.running.command_line().join("\0")),
        "symbol" => text("num_symbols: 0\n".to_owned()),
        "goroutine" | "threadcreate" => text(listed(&api.running.threads())),
        "profile" => profile(&api, params.get("seconds")).await,
        name if ABSENT.contains(&name) => text_error(
            StatusCode::NOT_IMPLEMENTED,
            format!(
                "{name} is a profile of the Go runtime, which this server does not run in; see /debug/pprof/\n"
            ),
        ),
        _ => text_error(StatusCode::NOT_FOUND, "Unknown profile\n"),
    }
}

fn text(body: String) -> Response {
    let no_sniffing =
        [(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"))];
    (no_sniffing, body).into_response()
}

fn listed(threads: &[Thread]) -> String {
    let mut out = format!("threads: total {}\n", threads.len());
    for thread in threads {
        let Thread { id, name, state, user, kernel } = thread;
        let _ = writeln!(
            out,
            "{id} {state} {name} user {:.2}s kernel {:.2}s",
            user.as_secs_f64(),
            kernel.as_secs_f64()
        );
    }
    out
}

async fn profile(api: &Api, seconds: &str) -> Response {
    let Ok(_turn) = api.profiling.try_lock() else {
        let busy = "Could not enable CPU profiling: cpu profiling already in use\n";
        return text_error(StatusCode::INTERNAL_SERVER_ERROR, busy);
    };
    // What is no number counts as none, as in Go.
    let seconds = seconds.parse().ok().filter(|&s: &u64| s > 0).unwrap_or(SECONDS).min(SECONDS_MAX);
    let (began, before) = ((api.options.now)(), api.running.threads());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = api.running.threads();
    let body = encode(&spent(&before, &after), began, Duration::from_secs(seconds));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"profile\"")),
    ];
    (headers, body).into_response()
}

/// Time spent between two looks, by the thread's name and by where.
fn spent<'t>(before: &[Thread], after: &'t [Thread]) -> BTreeMap<(&'t str, &'static str), Duration> {
    let mut spent = BTreeMap::new();
    for thread in after {
        // A number that stands for another thread now began at zero.
        let old = before.iter().find(|old| old.id == thread.id && old.name == thread.name);
        let since = |now: Duration, then: Option<Duration>| now.saturating_sub(then.unwrap_or_default());
        for (place, time) in [
            ("user", since(thread.user, old.map(|old| old.user))),
            ("kernel", since(thread.kernel, old.map(|old| old.kernel))),
        ] {
            if !time.is_zero() {
                *spent.entry((thread.name.as_str(), place)).or_insert(Duration::ZERO) += time;
            }
        }
    }
    spent
}

// === profile.proto ===

/// The fields of `Profile` that are written, by number.
mod field {
    pub(super) const SAMPLE_TYPE: u64 = 1;
    pub(super) const SAMPLE: u64 = 2;
    pub(super) const LOCATION: u64 = 4;
    pub(super) const FUNCTION: u64 = 5;
    pub(super) const STRINGS: u64 = 6;
    pub(super) const TIME_NANOS: u64 = 9;
    pub(super) const DURATION_NANOS: u64 = 10;
}

fn encode(spent: &BTreeMap<(&str, &str), Duration>, began_ms: i64, took: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    let mut strings = vec![String::new(), "cpu".to_owned(), "nanoseconds".to_owned()];
    put_message(&mut out, field::SAMPLE_TYPE, |out| {
        put_number(out, 1, 1);
        put_number(out, 2, 2);
    });
    // A function and a location of the same number for each name.
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for name in spent.keys().flat_map(|&(thread, place)| [place, thread]) {
        let next = numbers.len() as u64 + 1;
        if let std::collections::btree_map::Entry::Vacant(entry) = numbers.entry(name) {
            entry.insert(next);
            let text = strings.len() as u64;
            strings.push(name.to_owned());
            put_message(&mut out, field::LOCATION, |out| {
                put_number(out, 1, next);
                put_message(out, 4, |out| put_number(out, 1, next));
            });
            put_message(&mut out, field::FUNCTION, |out| {
                put_number(out, 1, next);
                put_number(out, 2, text);
                put_number(out, 3, text);
            });
        }
    }
    for (&(thread, place), time) in spent {
        put_message(&mut out, field::SAMPLE, |out| {
            // The innermost first.
            put_number(out, 1, numbers[place]);
            put_number(out, 1, numbers[thread]);
            put_number(out, 2, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        });
    }
    for string in &strings {
        put_bytes(&mut out, field::STRINGS, string.as_bytes());
    }
    put_number(&mut out, field::TIME_NANOS, began_ms.unsigned_abs().saturating_mul(1_000_000));
    put_number(&mut out, field::DURATION_NANOS, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    out
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

fn put_number(out: &mut Vec<u8>, field: u64, n: u64) {
    put_varint(out, field << 3);
    put_varint(out, n);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_message(out: &mut Vec<u8>, field: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut message = Vec::new();
    write(&mut message);
    put_bytes(out, field, &message);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Thread, encode, spent};

    fn thread(id: u64, name: &str, user: u64, kernel: u64) -> Thread {
        let ms = Duration::from_millis;
        Thread { id, name: name.to_owned(), state: 'S', user: ms(user), kernel: ms(kernel) }
    }

    #[test]
    fn time_is_told_by_thread_and_place() {
        let before = [thread(1, "web", 100, 50), thread(2, "promql", 10, 0), thread(3, "gone", 5, 5)];
        let after = [thread(1, "web", 130, 50), thread(2, "promql", 40, 20), thread(3, "promql", 7, 0)];
        let spent = spent(&before, &after);
        let shown: Vec<_> =
            spent.iter().map(|(&(name, place), time)| (name, place, time.as_millis())).collect();
        assert_eq!(shown, [("promql", "kernel", 20), ("promql", "user", 37), ("web", "user", 30)]);
    }

    /// The bytes as `go tool pprof -raw` was seen to read them: one function per name, two frames per sample.
    #[test]
    fn a_profile_has_a_sample_for_each() {
        let after = [thread(1, "web", 3, 0)];
        let bytes = encode(&spent(&[], &after), 7, Duration::from_secs(1));
        let expected: &[&[u8]] = &[
            &[10, 4, 8, 1, 16, 2],
            &[34, 6, 8, 1, 34, 2, 8, 1],
            &[42, 6, 8, 1, 16, 3, 24, 3],
            &[34, 6, 8, 2, 34, 2, 8, 2],
            &[42, 6, 8, 2, 16, 4, 24, 4],
            // 3,000,000 ns
            &[18, 9, 8, 1, 8, 2, 16, 192, 141, 183, 1],
            &[50, 0, 50, 3],
            b"cpu",
            &[50, 11],
            b"nanoseconds",
            &[50, 4],
            b"user",
            &[50, 3],
            b"web",
            &[72, 192, 159, 171, 3],
            &[80, 128, 148, 235, 220, 3],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
