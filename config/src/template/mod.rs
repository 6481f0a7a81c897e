//! Go templates: the language of alert annotations, notification texts and e-mails.
//!
//! A [`Set`] is parsed once and executed many times, on a [`Value`] and with the functions its user
//! gives. Two users have their data and functions here: [`alert`] (rules) and [`notification`]
//! (messages of the Alertmanager). Output, steps and depth are bounded, so that no template can
//! exhaust the server. Functions as values, channels, complex numbers and user types do not exist.
//!
//! Compat: Go `text/template` and, with [`Mode::Html`], `html/template`.

pub mod alert;
mod arithmetic;
mod builtin;
pub mod console;
mod escape;
mod exec;
mod format;
mod html;
pub mod humanize;
mod json;
mod lex;
pub mod notification;
mod parse;
mod parse_time;
pub mod time;
pub mod value;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use builtin::query_escape;
use parse::Tree;
pub use time::Time;
pub use value::{Class, Trust, Value};

/// What one execution may print, in bytes, unless its functions say otherwise.
pub const OUTPUT_MAX: usize = 1 << 20;
/// What one execution may do: nodes, commands and fields evaluated.
pub const STEPS_MAX: usize = 5_000_000;
/// How long one execution may take, without the queries it waits for.
pub const TIME_MAX: Duration = Duration::from_secs(1);
/// Templates, control structures and parentheses that may be open at once, in text and when executed.
pub const DEPTH_MAX: usize = 1000;

/// Why a template did not parse or execute; the text is Go's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    text: String,
    /// Line and column, counted from 1, and what is wrong there.
    place: Option<(usize, usize, String)>,
}

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), place: None }
    }

    /// The message as `context` wants it, for the same place.
    #[must_use]
    fn within(self, context: &str) -> Self {
        Self { text: format!("{context}: {}", self.text), place: self.place }
    }

    /// The message with the column as well, which Go's lacks when it parses.
    pub fn placed(&self) -> String {
        match &self.place {
            Some((line, column, _)) if !self.text.contains(": executing ") => {
                self.text.replacen(&format!(":{line}: "), &format!(":{line}:{column}: "), 1)
            }
            _ => self.text.clone(),
        }
    }

    /// The message for somebody who looks for `path`: `<path>:<line>:<column>: <reason>`.
    pub fn in_file(&self, path: &str) -> String {
        match &self.place {
            Some((line, column, reason)) => format!("{path}:{line}:{column}: {reason}"),
            None => format!("{path}: {}", self.text),
        }
    }
}

/// How values are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Text,
    /// Escaped for the place in the document they stand at.
    Html,
}

/// Functions beyond Go's own.
pub trait Functions {
    /// The parameters of `name`, or `None` when there is no such function.
    fn signature(&self, name: &str) -> Option<Signature>;

    /// Calls `name`; the arguments fit its signature.
    ///
    /// # Errors
    /// What went wrong; becomes `error calling <name>: <message>`.
    fn call(&self, name: &str, args: &[Value]) -> Result<Value, String>;

    /// How long calls have waited for something else than the template.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// How long one execution may take, waits aside.
    fn time_max(&self) -> Duration {
        TIME_MAX
    }

    /// What one execution may print, in bytes.
    fn output_max(&self) -> usize {
        OUTPUT_MAX
    }
}

/// What a function takes.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    pub params: &'static [Param],
    /// The type of any further arguments.
    pub variadic: Option<Param>,
}

impl Signature {
    pub const fn fixed(params: &'static [Param]) -> Self {
        Self { params, variadic: None }
    }

    pub const fn variadic(params: &'static [Param], rest: Param) -> Self {
        Self { params, variadic: Some(rest) }
    }
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    Any,
    Str,
    Int,
    Float,
    Time,
    Duration,
    /// A list of strings, whatever its class.
    Strings,
    /// Go's name of another type.
    Class(&'static str),
}

impl Param {
    fn type_name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Str => "string",
            Self::Int => "int",
            Self::Float => "float64",
            Self::Time => "time.Time",
            Self::Duration => "time.Duration",
            Self::Strings => "[]string",
            Self::Class(name) => name,
        }
    }

    fn takes_nil(self) -> bool {
        matches!(self, Self::Any | Self::Strings | Self::Class(_))
    }
}

/// Templates that may call each other by name.
#[derive(Clone, Debug, Default)]
pub struct Set {
    trees: BTreeMap<String, Arc<Tree>>,
}

impl Set {
    /// Adds the template `text` under `name`, and those it defines. A later definition replaces an
    /// earlier one unless it is blank.
    ///
    /// # Errors
    /// The text does not parse; nothing is added.
    pub fn parse(&mut self, name: &str, text: &str, functions: &dyn Functions) -> Result<(), Error> {
        for tree in parse::parse(name, text, functions)? {
            if tree.is_empty() && self.trees.contains_key(&tree.name) {
                continue;
            }
            self.trees.insert(tree.name.clone(), Arc::new(tree));
        }
        Ok(())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.trees.contains_key(name)
    }

    /// Runs the template `name` on `data`.
    ///
    /// # Errors
    /// As Go's: the message names template, line, column and expression.
    pub fn execute(
        &self,
        name: &str,
        data: &Value,
        functions: &dyn Functions,
        mode: Mode,
    ) -> Result<String, Error> {
        exec::execute(self, name, data, functions, mode)
    }

    fn tree(&self, name: &str) -> Option<&Tree> {
        self.trees.get(name).map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests;
