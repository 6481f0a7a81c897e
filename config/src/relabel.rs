//! Relabelling: rules that rewrite, keep or drop a label set, compiled and applied.
//!
//! Used for discovered targets, for scraped series and for alerts alike. Decoding and validation of the
//! YAML form live in `relabel::decode`; a `Rule` that exists is valid.
//!
//! Compat: prometheus `model/relabel`, `Config` and `ProcessBuilder`.

pub(crate) mod decode;

use std::fmt;
use std::sync::{Arc, LazyLock};

use md5::{Digest, Md5};
use model::labels::is_legacy_label_name;
use model::{LabelsBuilder, Regex};

/// The pattern of a rule that names none.
pub const DEFAULT_PATTERN: &str = "(.*)";

/// The replacement of a rule that names none: the first group, which is the whole value.
pub const DEFAULT_REPLACEMENT: &str = "$1";

/// What joins the source values of a rule that does not say.
pub const DEFAULT_SEPARATOR: &str = ";";

static DEFAULT_REGEX: LazyLock<Arc<Regex>> = LazyLock::new(|| {
    Arc::new(Regex::wrapped(DEFAULT_PATTERN.as_bytes()).expect("the default pattern compiles"))
});

#[derive(Clone, Debug)]
pub struct Rule {
    pub source_labels: Vec<Arc<[u8]>>,
    pub separator: String,
    /// As written, and compiled.
    pub pattern: String,
    pub regex: Arc<Regex>,
    pub modulus: u64,
    pub target_label: String,
    pub replacement: String,
    pub action: Action,
    /// Which names a `replace` may produce.
    pub scheme: NameScheme,
}

/// What a rule without keys would do: copy nothing to nowhere. Tests and defaults start from it.
impl Default for Rule {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: DEFAULT_SEPARATOR.to_owned(),
            pattern: DEFAULT_PATTERN.to_owned(),
            regex: Arc::clone(&DEFAULT_REGEX),
            modulus: 0,
            target_label: String::new(),
            replacement: DEFAULT_REPLACEMENT.to_owned(),
            action: Action::Replace,
            scheme: NameScheme::Utf8,
        }
    }
}

/// Equal as configured; the compiled pattern follows from its text.
impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        let key = |rule: &Self| (rule.modulus, rule.action, rule.scheme);
        key(self) == key(other)
            && self.source_labels == other.source_labels
            && self.separator == other.separator
            && self.pattern == other.pattern
            && self.target_label == other.target_label
            && self.replacement == other.replacement
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

impl Action {
    const ALL: [Self; 11] = [
        Self::Replace,
        Self::Keep,
        Self::Drop,
        Self::KeepEqual,
        Self::DropEqual,
        Self::HashMod,
        Self::LabelMap,
        Self::LabelDrop,
        Self::LabelKeep,
        Self::Lowercase,
        Self::Uppercase,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Keep => "keep",
            Self::Drop => "drop",
            Self::KeepEqual => "keepequal",
            Self::DropEqual => "dropequal",
            Self::HashMod => "hashmod",
            Self::LabelMap => "labelmap",
            Self::LabelDrop => "labeldrop",
            Self::LabelKeep => "labelkeep",
            Self::Lowercase => "lowercase",
            Self::Uppercase => "uppercase",
        }
    }

    /// The action of that name in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(text))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which label and metric names are valid.
///
/// Compat: prometheus/common `model`, `ValidationScheme`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum NameScheme {
    /// Anything that is UTF-8 and not empty.
    #[default]
    Utf8,
    /// `[a-zA-Z_][a-zA-Z0-9_]*`, metric names with colons besides.
    Legacy,
}

impl NameScheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Legacy => "legacy",
        }
    }

    pub fn is_label_name(self, name: &[u8]) -> bool {
        match self {
            Self::Utf8 => !name.is_empty() && std::str::from_utf8(name).is_ok(),
            Self::Legacy => is_legacy_label_name(name),
        }
    }

    pub fn is_metric_name(self, name: &[u8]) -> bool {
        match self {
            Self::Utf8 => !name.is_empty() && std::str::from_utf8(name).is_ok(),
            Self::Legacy => model::labels::is_legacy_metric_name(name),
        }
    }
}

/// Applies the rules in order; `false` means that the whole set is dropped, at the first rule that says so.
///
/// After `false` the builder holds what the rules before the dropping one made of it.
///
/// Compat: prometheus `model/relabel`, `ProcessBuilder`.
pub fn apply(rules: &[Rule], labels: &mut LabelsBuilder) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

impl Rule {
    fn apply(&self, labels: &mut LabelsBuilder) -> bool {
        match self.action {
            Action::Keep => return self.regex.is_match(&self.source(labels)),
            Action::Drop => return !self.regex.is_match(&self.source(labels)),
            Action::KeepEqual => return self.is_source_equal_to_target(labels),
            Action::DropEqual => return !self.is_source_equal_to_target(labels),
            Action::Replace => self.replace(labels),
            Action::HashMod => {
                let remainder = hash(&self.source(labels)) % self.modulus.max(1);
                labels.set(self.target_label.as_bytes(), remainder.to_string().as_bytes());
            }
            Action::LabelMap => self.map_names(labels),
            Action::LabelDrop => labels.retain(|name, _| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name, _| self.regex.is_match(name)),
            Action::Lowercase => self.set_in_case(labels, simple_lowercase),
            Action::Uppercase => self.set_in_case(labels, simple_uppercase),
        }
        true
    }

    /// The values of the source labels, joined; an absent label counts as empty.
    fn source(&self, labels: &LabelsBuilder) -> Vec<u8> {
        let mut joined = Vec::new();
        for (i, name) in self.source_labels.iter().enumerate() {
            if i > 0 {
                joined.extend_from_slice(self.separator.as_bytes());
            }
            joined.extend_from_slice(labels.get(name).unwrap_or_default());
        }
        joined
    }

    fn is_source_equal_to_target(&self, labels: &LabelsBuilder) -> bool {
        self.source(labels) == labels.get(self.target_label.as_bytes()).unwrap_or_default()
    }

    /// Without a match nothing happens; neither does it when the expanded target is no valid name.
    fn replace(&self, labels: &mut LabelsBuilder) {
        let source = self.source(labels);
        let is_static = self.pattern == DEFAULT_PATTERN
            && !self.target_label.contains('$')
            && !self.replacement.contains('$');
        if is_static {
            labels.set(self.target_label.as_bytes(), self.replacement.as_bytes());
            return;
        }
        let Some(target) = self.expand(&source, &self.target_label) else { return };
        if !self.scheme.is_label_name(&target) {
            return;
        }
        let value = self.expand(&source, &self.replacement).unwrap_or_default();
        labels.set(&target, &value);
    }

    /// Copies the value of each label whose name matches to the name that the replacement makes of it.
    fn map_names(&self, labels: &mut LabelsBuilder) {
        let mapped: Vec<(Vec<u8>, Vec<u8>)> = labels
            .iter()
            .filter_map(|(name, value)| Some((self.expand(name, &self.replacement)?, value.to_vec())))
            .collect();
        for (name, value) in mapped {
            labels.set(&name, &value);
        }
    }

    fn set_in_case(&self, labels: &mut LabelsBuilder, map: fn(char) -> char) {
        let source = self.source(labels);
        let cased: String = String::from_utf8_lossy(&source).chars().map(map).collect();
        labels.set(self.target_label.as_bytes(), cased.as_bytes());
    }

    /// `template` with the groups of a match of `value` filled in, or `None` without a match.
    fn expand(&self, value: &[u8], template: &str) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(template.len() + value.len());
        self.regex.expand(value, template.as_bytes(), &mut out).then_some(out)
    }
}

/// The last eight bytes of the MD5 of `value`, big endian.
fn hash(value: &[u8]) -> u64 {
    let digest: [u8; 16] = Md5::digest(value).into();
    digest[8..].iter().fold(0, |hash, &b| hash << 8 | u64::from(b))
}

/// One character to one, as Go's `unicode.ToLower`: where Unicode's full mapping has several, only İ has
/// a simple one.
fn simple_lowercase(c: char) -> char {
    let mut mapped = c.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ if c == '\u{130}' => 'i',
        _ => c,
    }
}

/// One character to one, as Go's `unicode.ToUpper`; the Greek letters with iota subscript have a simple
/// mapping (title case) besides the full one.
fn simple_uppercase(c: char) -> char {
    let mut mapped = c.to_uppercase();
    if let (Some(one), None) = (mapped.next(), mapped.next()) {
        return one;
    }
    let offset = match c as u32 {
        0x1f80..=0x1f87 | 0x1f90..=0x1f97 | 0x1fa0..=0x1fa7 => 8,
        0x1fb3 | 0x1fc3 | 0x1ff3 => 9,
        _ => 0,
    };
    char::from_u32(c as u32 + offset).unwrap_or(c)
}

#[cfg(test)]
mod tests;
