//! What can happen to an alert on its way from an expression to a mailbox, and how equal happenings become one.
//!
//! A run of equal evaluations, flushes or sends is one [`Entry`] with its first and last time, a count and,
//! for values, the lowest and highest. [`Event::track`] says which events follow each other, and
//! [`Event::absorb`] whether the next one continues the last.

use std::sync::Arc;

use model::{Labels, Timestamp};

use super::code::Code;

/// Shared text: groups, receivers and expressions occur in many entries.
pub type Text = Arc<str>;

/// One line of a story.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Grows over all stories; a later version of an entry has the number of the earlier.
    pub number: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    pub count: u64,
    pub event: Event,
}

/// The state of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    #[default]
    Inactive = 0,
    Pending = 1,
    Firing = 2,
}

impl State {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }

    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Inactive),
            1 => Some(Self::Pending),
            2 => Some(Self::Firing),
            _ => None,
        }
    }
}

/// Why an expression gave no alert: a code and what its sentence needs.
#[derive(Clone, Debug)]
pub struct Finding {
    pub code: Code,
    /// The part of the expression that is to blame, or the text of an error.
    pub expr: Text,
    /// The labels that it is about.
    pub labels: Text,
    /// The value that was seen; NaN for none.
    pub value: f64,
    /// What the value was compared with: `> 0.9`.
    pub bound: Text,
    /// A time that it is about, such as that of the last sample; 0 for none.
    pub at: Timestamp,
}

/// No value equals no value.
impl PartialEq for Finding {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
            && self.expr == other.expr
            && self.labels == other.labels
            && self.value.to_bits() == other.value.to_bits()
            && self.bound == other.bound
            && self.at == other.at
    }
}

impl Finding {
    pub fn new(code: Code) -> Self {
        let none: Text = Arc::from("");
        Self { code, expr: Arc::clone(&none), labels: Arc::clone(&none), value: f64::NAN, bound: none, at: 0 }
    }

    #[must_use]
    pub fn of(mut self, expr: impl Into<Text>) -> Self {
        self.expr = expr.into();
        self
    }

    #[must_use]
    pub fn with_labels(mut self, labels: impl Into<Text>) -> Self {
        self.labels = labels.into();
        self
    }

    #[must_use]
    pub fn with_value(mut self, value: f64, bound: impl Into<Text>) -> Self {
        self.value = value;
        self.bound = bound.into();
        self
    }

    #[must_use]
    pub fn with_bound(mut self, bound: impl Into<Text>) -> Self {
        self.bound = bound.into();
        self
    }

    #[must_use]
    pub fn at(mut self, t: Timestamp) -> Self {
        self.at = t;
        self
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    // === A rule's alert ===
    /// The expression gave the alert.
    Held {
        low: f64,
        high: f64,
        value: f64,
    },
    /// The expression did not give it, but `keep_firing_for` holds on until then.
    Kept {
        until: Timestamp,
        why: Finding,
    },
    /// It became pending, or firing; `because` says what was special.
    Began {
        state: State,
        active_at: Timestamp,
        hold_ms: i64,
        value: f64,
        because: Code,
        detail: Text,
    },
    /// It is not active any more, after so long. Without `for` behind it: the `for` was reset.
    Ended {
        was: State,
        active_ms: i64,
        hold_ms: i64,
        why: Finding,
    },

    // === A rule ===
    /// It gave so many alerts.
    Evaluated {
        low: u64,
        high: u64,
    },
    Failed {
        error: Text,
    },
    /// A reload added, changed or removed it.
    Reloaded {
        code: Code,
        what: Text,
    },

    // === The notifier ===
    /// Alertmanagers know the alert by these labels.
    KnownAs {
        labels: Labels,
    },
    /// Relabelling dropped it, or nobody was there to take it.
    Stopped {
        code: Code,
        by: Text,
    },
    /// What became of it on the way to one external Alertmanager.
    Posted {
        to: Text,
        code: Code,
        error: Text,
    },

    // === The built-in Alertmanager ===
    Received {
        starts_at: Timestamp,
        ends_at: Timestamp,
        is_timeout: bool,
        code: Code,
    },
    /// It came into a group, whose next flush is then.
    Grouped {
        group: Text,
        receiver: Text,
        due: Timestamp,
        code: Code,
    },
    /// The group's time came: the alert went on, or a stage stopped it.
    Flushed {
        group: Text,
        receiver: Text,
        is_resolved: bool,
        verdict: Verdict,
        next: Timestamp,
    },
    /// One integration was told, or not.
    Told {
        group: Text,
        receiver: Text,
        integration: Text,
        telling: Telling,
    },

    // === The server ===
    Server {
        code: Code,
        detail: Text,
    },
}

/// What the stages before the integrations said.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub code: Code,
    /// The inhibiting alert, the silence, the interval.
    pub by: Text,
    pub author: Text,
    pub comment: Text,
    /// When that ends, if it is known; else 0.
    pub until: Timestamp,
}

impl Verdict {
    pub fn new(code: Code) -> Self {
        let none: Text = Arc::from("");
        Self { code, by: Arc::clone(&none), author: Arc::clone(&none), comment: none, until: 0 }
    }
}

/// What became of a message to one integration.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    pub code: Code,
    /// Why it was sent, in upstream's words.
    pub reason: Text,
    pub attempts: u64,
    /// The error, or what was special about the message.
    pub error: Text,
    /// The identity of the message, such as a Message-ID.
    pub message: Text,
    /// When it would be repeated, or tried again; 0 for unknown.
    pub next: Timestamp,
}

impl Telling {
    pub fn new(code: Code) -> Self {
        let none: Text = Arc::from("");
        Self {
            code,
            reason: Arc::clone(&none),
            attempts: 0,
            error: Arc::clone(&none),
            message: none,
            next: 0,
        }
    }
}

/// The tracks of a story; on each the newest entry may be continued.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Track {
    Values,
    State,
    Rule,
    Name,
    Hand,
    Post(Text),
    Received,
    /// By group and receiver: siblings among routes may have groups of one key.
    Group(Text, Text),
    Tell(Text, Text, Text),
    Server,
}

impl Event {
    pub fn track(&self) -> Track {
        match self {
            Self::Held { .. } | Self::Kept { .. } => Track::Values,
            Self::Began { .. } | Self::Ended { .. } => Track::State,
            Self::Evaluated { .. } | Self::Failed { .. } | Self::Reloaded { .. } => Track::Rule,
            Self::KnownAs { .. } => Track::Name,
            Self::Stopped { .. } => Track::Hand,
            Self::Posted { to, .. } => Track::Post(Arc::clone(to)),
            Self::Received { .. } => Track::Received,
            Self::Grouped { group, receiver, .. } | Self::Flushed { group, receiver, .. } => {
                Track::Group(Arc::clone(group), Arc::clone(receiver))
            }
            Self::Told { group, receiver, integration, .. } => {
                Track::Tell(Arc::clone(group), Arc::clone(receiver), Arc::clone(integration))
            }
            Self::Server { .. } => Track::Server,
        }
    }

    /// Takes `next` in, if it says the same again; gives it back if it is news.
    pub(super) fn absorb(&mut self, next: Self) -> Option<Self> {
        match (&mut *self, next) {
            (Self::Held { low, high, value }, Self::Held { value: v, .. }) => {
                *low = low.min(v);
                *high = high.max(v);
                *value = v;
                None
            }
            (Self::Kept { until, why }, Self::Kept { until: new_until, why: new })
                if *until == new_until && why.code == new.code =>
            {
                *why = new;
                None
            }
            (Self::Evaluated { low, high }, Self::Evaluated { low: n, .. }) => {
                *low = (*low).min(n);
                *high = (*high).max(n);
                None
            }
            (
                Self::Received { starts_at, ends_at, is_timeout, code },
                Self::Received { starts_at: s, ends_at: e, is_timeout: t, code: c },
            ) if *starts_at == s && *is_timeout == t && *code == c && c == Code::ExpressionTrue => {
                *ends_at = e;
                None
            }
            (
                Self::Flushed { is_resolved, verdict, next, .. },
                Self::Flushed { is_resolved: r, verdict: v, next: n, .. },
            ) if *is_resolved == r && *verdict == v => {
                *next = n;
                None
            }
            (Self::Told { telling, .. }, Self::Told { telling: new, .. })
                if telling.code == new.code
                    && matches!(
                        new.code,
                        Code::AlreadyTold
                            | Code::SendResolvedFalse
                            | Code::ResolvedUntold
                            | Code::NullReceiver
                            | Code::Retrying
                    ) =>
            {
                *telling = new;
                None
            }
            (old, next) if *old == next && !matches!(next, Self::Server { .. }) => None,
            (_, next) => Some(next),
        }
    }
}
