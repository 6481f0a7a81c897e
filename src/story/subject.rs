//! Whom a story is about: an alert, a rule, or the server.

use model::{Labels, LabelsBuilder};

/// The identity of a subject. That of an alert is the Alertmanager's fingerprint of its labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Alert = 0,
    Rule = 1,
    Server = 2,
}

impl Kind {
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Alert),
            1 => Some(Self::Rule),
            2 => Some(Self::Server),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub kind: Kind,
    pub labels: Labels,
}

/// Where a rule's file and group stand among the labels of its subject.
pub const FILE_LABEL: &str = "__file__";
pub const GROUP_LABEL: &str = "__group__";

impl Subject {
    pub fn alert(labels: &Labels) -> Self {
        Self { kind: Kind::Alert, labels: labels.clone() }
    }

    /// A rule is the same before and after a reload if file, group, name and the text of its labels are.
    pub fn rule<'a>(
        file: &str,
        group: &str,
        name: &str,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let mut builder = LabelsBuilder::from(&Labels::empty());
        for (label, text) in labels {
            builder.set(label.as_bytes(), text.as_bytes());
        }
        builder.set(b"alertname", name.as_bytes());
        builder.set(FILE_LABEL.as_bytes(), file.as_bytes());
        builder.set(GROUP_LABEL.as_bytes(), group.as_bytes());
        Self { kind: Kind::Rule, labels: builder.build() }
    }

    pub fn server() -> Self {
        Self { kind: Kind::Server, labels: Labels::empty() }
    }

    pub fn id(&self) -> Id {
        const END: &[u8] = &[0xff];
        let kind: &[u8] = match self.kind {
            Kind::Alert => &[],
            Kind::Rule => b"rule",
            Kind::Server => b"server",
        };
        let pairs = self.labels.iter().flat_map(|(name, value)| [name, END, value, END]);
        Id(model::fnv1a(std::iter::once(kind).chain(pairs)))
    }

    /// The value of a label as text, empty if there is none.
    pub fn label(&self, name: &str) -> String {
        String::from_utf8_lossy(self.labels.get(name.as_bytes()).unwrap_or_default()).into_owned()
    }
}
