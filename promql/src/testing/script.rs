//! The language of upstream's `.test` scripts: load series, evaluate expressions, compare.
//!
//! Every instant evaluation whose result does not depend on the time of evaluation is repeated with `@` on all
//! selectors at other times, and all of them in the middle of a range query.
//!
//! Compat: prometheus `promql/promqltest/test.go` (3.14).

mod compare;
mod eval;
mod load;

use eval::Eval;
use load::Load;

use model::storage::{AppendError, Queryable};
use model::{Labels, Timestamp, Value};

use super::storage::Storage;
use crate::engine::Engine;

/// Where scripts keep their series.
pub trait Store {
    /// Forgets everything.
    fn clear(&mut self);

    /// Adds a sample that counts since `st` ms (0: not known).
    ///
    /// # Errors
    /// It is not later than the last one of its series and not the same, or a histogram contradicts itself. A store
    /// may also find that out in [`Store::loaded`].
    fn append(
        &mut self,
        labels: &Labels,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), AppendError>;

    /// Ends a batch.
    ///
    /// # Errors
    /// Some of it is refused.
    fn loaded(&mut self) -> Result<(), String>;

    fn queryable(&self) -> &dyn Queryable;
}

impl Store for Storage {
    fn clear(&mut self) {
        self.clear();
    }

    fn append(
        &mut self,
        labels: &Labels,
        st: Timestamp,
        t: Timestamp,
        value: Value<'_>,
    ) -> Result<(), AppendError> {
        self.append_value(labels, st, t, value)
    }

    fn loaded(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn queryable(&self) -> &dyn Queryable {
        self
    }
}

/// What came of a script.
#[derive(Debug, Default)]
pub struct Report {
    /// Evaluations that met all expectations in all variants.
    pub passed: usize,
    /// Evaluations that did not.
    pub failed: usize,
    /// Queries that were run, variants counted.
    pub queries: usize,
    /// What went wrong, the first of every evaluation.
    pub failures: Vec<String>,
}

impl Report {
    pub fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.queries += other.queries;
        self.failures.extend(other.failures);
    }

    fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }
}

enum Command<'a> {
    Clear,
    Load(Load),
    Eval(Box<Eval<'a>>),
}

/// Runs `text` on `engine` and a store in memory; `name` goes into the failures.
pub fn run(engine: &Engine, name: &str, text: &str) -> Report {
    run_on(&mut Storage::default(), engine, name, text)
}

/// As [`run`], on `store`, which is cleared first.
pub fn run_on(store: &mut dyn Store, engine: &Engine, name: &str, text: &str) -> Report {
    let mut report = Report::default();
    store.clear();
    // All is read before any is run, and what cannot be read does not hide the rest.
    for (line, command) in read(engine, text) {
        let place = format!("{name}:{line}");
        match command {
            Ok(Command::Clear) => store.clear(),
            Ok(Command::Load(load)) => {
                if let Err(e) = load.append(store) {
                    report.fail(format!("{place}: {e}"));
                }
            }
            Ok(Command::Eval(eval)) => match eval.run(engine, store.queryable(), &mut report.queries) {
                Ok(()) => report.passed += 1,
                Err(e) => report.fail(format!("{place}: {e}")),
            },
            Err(e) => report.fail(format!("{place}: {e}")),
        }
    }
    report
}

/// The commands with the numbers of their lines.
fn read<'a>(engine: &Engine, text: &'a str) -> Vec<(usize, Result<Command<'a>, String>)> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).map(|line| if line.starts_with('#') { "" } else { line }).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let (first, number) = (lines[at], at + 1);
        let end = (at + 1..lines.len()).find(|&i| lines[i].is_empty()).unwrap_or(lines.len());
        let block = &lines[at + 1..end];
        let command = match first.split_whitespace().next().unwrap_or_default().to_lowercase().as_str() {
            "" => {
                at += 1;
                continue;
            }
            "clear" => {
                at += 1;
                Ok(Command::Clear)
            }
            word if word.starts_with("load") => {
                at = end;
                Load::parse(first, block).map(Command::Load)
            }
            word if word.starts_with("eval") => match Eval::parse(engine, first, block) {
                Ok((eval, used)) => {
                    at += 1 + used;
                    Ok(Command::Eval(Box::new(eval)))
                }
                Err(e) => {
                    at = end;
                    Err(e)
                }
            },
            _ => {
                at += 1;
                Err(format!("invalid command {first:?}"))
            }
        };
        commands.push((number, command));
    }
    commands
}

/// The first word and the rest behind it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

fn duration(text: &str) -> Result<i64, String> {
    model::duration::parse_signed_ms(text).map_err(|e| format!("{text}: {e}"))
}
