//! Alerts, silences and the state of the server as text: short, long or JSON.
//!
//! Compat: alertmanager `cli/format`.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;

use ::config::matchers;
use ::config::template::Time;
use jiff::Timestamp;
use model::MatchOp;
use serde::Serialize;

use super::Output;
use super::api::{Alert, Cluster, LabelSet, Matcher, Peer, Silence, Status};
use super::table::align;

pub(super) struct Format<'a> {
    pub(super) output: Output,
    /// In Go's layout language.
    pub(super) date: &'a str,
}

impl Format<'_> {
    pub(super) fn silences(&self, mut silences: Vec<Silence>, out: &mut dyn Write) -> io::Result<()> {
        if self.output == Output::Json {
            return json(&silences, out);
        }
        silences.sort_by_key(|silence| instant(&silence.fields.ends_at));
        let mut text = match self.output {
            Output::Extended => "ID\tMatchers\tStarts At\tEnds At\tUpdated At\tCreated By\tComment\t\n",
            _ => "ID\tMatchers\tEnds At\tCreated By\tComment\t\n",
        }
        .to_owned();
        for Silence { id, updated_at, fields, .. } in &silences {
            let matchers: Vec<String> = fields.matchers.iter().map(matcher).collect();
            let (by, comment, ends) = (&fields.created_by, &fields.comment, self.date(&fields.ends_at));
            let _ = match self.output {
                Output::Extended => {
                    let (starts, updated) = (self.date(&fields.starts_at), self.date(updated_at));
                    let matchers = matchers.join(",");
                    writeln!(text, "{id}\t{{{matchers}}}\t{starts}\t{ends}\t{updated}\t{by}\t{comment}\t")
                }
                _ => writeln!(text, "{id}\t{}\t{ends}\t{by}\t{comment}\t", matchers.join(" ")),
            };
        }
        out.write_all(align(&text).as_bytes())
    }

    pub(super) fn alerts(&self, mut alerts: Vec<Alert>, out: &mut dyn Write) -> io::Result<()> {
        if self.output == Output::Json {
            return json(&alerts, out);
        }
        alerts.sort_by_key(|alert| instant(&alert.starts_at));
        let mut text = match self.output {
            Output::Extended => "Labels\tAnnotations\tStarts At\tEnds At\tGenerator URL\tState\t\n",
            _ => "Alertname\tStarts At\tSummary\tState\t\n",
        }
        .to_owned();
        for alert in &alerts {
            let (starts, state) = (self.date(&alert.starts_at), &alert.status.state);
            let _ = if self.output == Output::Extended {
                writeln!(
                    text,
                    "{}\t{}\t{starts}\t{}\t{}\t{state}\t",
                    pairs(&alert.labels),
                    pairs(&alert.annotations),
                    self.date(&alert.ends_at),
                    alert.generator_url,
                )
            } else {
                let one = |set: &LabelSet, name: &str| set.get(name).cloned().unwrap_or_default();
                let (name, summary) = (one(&alert.labels, "alertname"), one(&alert.annotations, "summary"));
                writeln!(text, "{name}\t{starts}\t{summary}\t{state}\t")
            };
        }
        out.write_all(align(&text).as_bytes())
    }

    pub(super) fn config(&self, status: &Status, out: &mut dyn Write) -> io::Result<()> {
        if self.output == Output::Json {
            return json(status, out);
        }
        writeln!(out, "{}", status.config.original)?;
        if self.output == Output::Extended {
            let version = &status.version_info;
            writeln!(out, "buildUser {}", version.build_user)?;
            writeln!(out, "goVersion {}", version.go_version)?;
            writeln!(out, "revision {}", version.revision)?;
            writeln!(out, "version {}", version.version)?;
            writeln!(out, "branch {}", version.branch)?;
            writeln!(out, "buildDate {}", version.build_date)?;
            writeln!(out, "uptime {}", status.uptime)?;
        }
        Ok(())
    }

    pub(super) fn cluster(&self, cluster: &Cluster, out: &mut dyn Write) -> io::Result<()> {
        if self.output == Output::Json {
            return json(cluster, out);
        }
        let mut text = format!("Cluster Status:\t{}\nNode Name:\t{}\n", cluster.status, cluster.name);
        if self.output == Output::Extended {
            text.push_str("\nAddress\tName\n");
            let mut peers: Vec<&Peer> = cluster.peers.iter().flatten().collect();
            peers.sort_by(|a, b| by_address(&a.address, &b.address));
            for peer in peers {
                let _ = writeln!(text, "{}\t{}\t", peer.address, peer.name);
            }
        }
        out.write_all(align(&text).as_bytes())
    }

    /// What is no time is shown as it came.
    fn date(&self, text: &str) -> String {
        instant(text).map_or_else(|| text.to_owned(), |at| Time::utc(at).format(self.date))
    }
}

pub(super) fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A line of JSON with what could end a script escaped, as Go's encoder does it.
fn json<T: Serialize>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string(value)?;
    let escapes = [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ];
    let text = escapes.iter().fold(text, |text, (c, escaped)| text.replace(*c, escaped));
    writeln!(out, "{text}")
}

fn matcher(matcher: &Matcher) -> String {
    let op = match (matcher.is_regex, matcher.is_equal.unwrap_or(true)) {
        (false, true) => MatchOp::Eq,
        (false, false) => MatchOp::Ne,
        (true, true) => MatchOp::Re,
        (true, false) => MatchOp::Nre,
    };
    matchers::print_parts(&matcher.name, op, &matcher.value)
}

fn pairs(set: &LabelSet) -> String {
    let mut pairs: Vec<String> = set.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    pairs.sort();
    pairs.join(" ")
}

fn by_address(left: &str, right: &str) -> Ordering {
    let key = |address: &str| {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        (ip, port.parse::<u16>().unwrap_or(0))
    };
    key(left).cmp(&key(right))
}
