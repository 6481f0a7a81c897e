//! The texts of messages: our own defaults, and the users' files over them.
//!
//! Compat: alertmanager `template` (names that configurations refer to; the words are ours).

use config::template::notification::{self, Data, NotificationFunctions};
use config::template::{Error, Mode, Set, Value};
use jiff::Timestamp;

/// The defaults, under the names that upstream's have.
const DEFAULT: &str = include_str!("default.tmpl");

/// All definitions of a configuration.
#[derive(Clone, Debug)]
pub struct Templates {
    set: Set,
    /// What the user's files define.
    own: Set,
}

impl Templates {
    /// Parses the defaults, then `files` (name and text) in order; later definitions win.
    ///
    /// # Errors
    /// A file does not parse.
    pub fn new<'f>(files: impl IntoIterator<Item = (&'f str, &'f str)>) -> Result<Self, Error> {
        let functions = NotificationFunctions { now: Timestamp::UNIX_EPOCH };
        let mut set = Set::default();
        set.parse("default.tmpl", DEFAULT, &functions)?;
        let mut own = Set::default();
        for (name, text) in files {
            set.parse(name, text, &functions)?;
            own.parse(name, text, &functions)?;
        }
        Ok(Self { set, own })
    }

    /// Whether a user's file defines `name`, which then is no longer ours.
    pub fn is_redefined(&self, name: &str) -> bool {
        self.own.contains(name)
    }

    /// Executes the fragment `text`, which may call any definition.
    ///
    /// # Errors
    /// It does not parse or does not execute.
    pub fn expand(&self, text: &str, data: &Data, mode: Mode, now: Timestamp) -> Result<String, Error> {
        notification::expand(&self.set, text, data, mode, now)
    }

    /// As [`Self::expand`], on data that may have any shape.
    ///
    /// # Errors
    /// As [`Self::expand`].
    pub fn expand_value(
        &self,
        text: &str,
        data: &Value,
        mode: Mode,
        now: Timestamp,
    ) -> Result<String, Error> {
        let functions = NotificationFunctions { now };
        let mut set = self.set.clone();
        set.parse("", text, &functions)?;
        set.execute("", data, &functions, mode)
    }
}
