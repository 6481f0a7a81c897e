//! The labels of a series: those of its point, its resource and its scope.
//!
//! Compat: prometheus `storage/remote/otlptranslator/prometheusremotewrite`, `createAttributes`, `setResourceContext`,
//! `setScopeContext`. Names that occur twice in the attributes of a point are refused where names are not escaped;
//! so is the empty name, which upstream stores then.

use foldhash::{HashMap, HashMapExt};
use model::labels::{METRIC_NAME, METRIC_TYPE, METRIC_UNIT};
use model::quote::go_quote;
use model::storage::Metadata;
use model::wire::otlp::{KeyValue, ScopeMetrics};
use model::wire::parse::MetricType;
use model::{Labels, LabelsBuilder};

use super::super::names::Names;
use super::super::value;
use super::{Blame, Failure, IDENTIFYING, Settings};

/// The most bytes of a label's name or value.
const LABEL_BYTES_MAX: usize = 1 << 20;

/// What is said of a metric.
#[derive(Debug)]
pub(in crate::remote::otlp) struct Family {
    pub(super) name: String,
    pub(super) metadata: Metadata,
    pub(super) unit_label: String,
    /// It has values rather than counts: a sum that may fall is none, though its type is that of gauges.
    pub(super) is_gauge: bool,
}

/// Whose attributes are made into labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Point,
    Resource,
}

impl Source {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Point => "data point",
            Self::Resource => "resource",
        }
    }
}

pub(super) struct Series<'r> {
    settings: Settings<'r>,
    names: Names,
    builder: LabelsBuilder,
    /// What became of the names of attributes.
    known: HashMap<&'r str, String>,
    resource: ResourceLabels,
    /// None if scopes are not told.
    scope: Option<Vec<(String, String)>>,
    /// What is said of collisions, by the name that they have in common.
    collisions: HashMap<String, String>,
}

#[derive(Default)]
struct ResourceLabels {
    job: String,
    instance: String,
    promoted: Vec<(String, String)>,
}

type Built<T> = Result<T, Failure>;

impl<'r> Series<'r> {
    pub(super) fn new(settings: Settings<'r>) -> Self {
        Self {
            settings,
            names: Names::new(settings.config),
            builder: LabelsBuilder::default(),
            known: HashMap::new(),
            resource: ResourceLabels::default(),
            scope: None,
            collisions: HashMap::new(),
        }
    }

    pub(super) fn into_collisions(self) -> impl Iterator<Item = String> {
        self.collisions.into_values()
    }

    pub(super) fn enter_resource(&mut self, attributes: &'r [KeyValue<'r>]) -> Built<()> {
        let get = |name: &str| {
            let found = attributes.iter().find(|pair| pair.key == name);
            found.map(|pair| value::text(&pair.value))
        };
        let [namespace, service, instance] = IDENTIFYING.map(get);
        let job = match (namespace, service) {
            (_, None) => String::new(),
            (None, Some(service)) => service.into_owned(),
            (Some(namespace), Some(service)) => format!("{namespace}/{service}"),
        };
        let mut promoted = LabelsBuilder::default();
        let config = self.settings.config;
        for pair in attributes {
            let is_promoted = if config.promote_all_resource_attributes {
                !config.ignore_resource_attributes.iter().any(|name| **name == *pair.key)
            } else {
                config.promote_resource_attributes.iter().any(|name| **name == *pair.key)
            };
            if is_promoted {
                let name = label_name(&mut self.known, self.names, &pair.key)?;
                promoted.set(name.as_bytes(), value::text(&pair.value).as_bytes());
            }
        }
        let instance = instance.unwrap_or_default().into_owned();
        for text in [&job, &instance] {
            check_size(text)?;
        }
        self.resource = ResourceLabels { job, instance, promoted: pairs_of(&promoted)? };
        self.scope = None;
        Ok(())
    }

    pub(super) fn enter_scope(&mut self, scope: &'r ScopeMetrics<'r>) -> Built<()> {
        self.scope = None;
        let ScopeMetrics { scope, schema_url, .. } = scope;
        if !self.settings.config.promote_scope_metadata || scope.name.is_empty() {
            return Ok(());
        }
        let mut labels = LabelsBuilder::default();
        for pair in &scope.attributes {
            let name = self.names.label(&format!("otel_scope_{}", pair.key))?;
            labels.set(name.as_bytes(), value::text(&pair.value).as_bytes());
        }
        let mut pairs = pairs_of(&labels)?;
        for (name, value) in [("name", &scope.name), ("version", &scope.version), ("schema_url", schema_url)]
        {
            check_size(value)?;
            pairs.push((format!("otel_scope_{name}"), value.clone().into_owned()));
        }
        self.scope = Some(pairs);
        Ok(())
    }

    /// Begins a label set with all but the name.
    pub(super) fn begin(
        &mut self,
        attributes: &'r [KeyValue<'r>],
        family: &Family,
        source: Source,
    ) -> Built<()> {
        self.builder.clear();
        let is_ignored = |name: &str| match source {
            Source::Point => name.as_bytes() == METRIC_NAME,
            Source::Resource => {
                !self.settings.config.keep_identifying_resource_attributes && IDENTIFYING.contains(&name)
            }
        };
        let mut sorted: Vec<&'r KeyValue<'r>> =
            attributes.iter().filter(|pair| !is_ignored(&pair.key)).collect();
        sorted.sort_by(|a, b| a.key.cmp(&b.key));
        if self.names.escapes {
            self.set_escaped(&sorted, source)?;
        } else {
            self.set_unescaped(&sorted)?;
        }
        if source == Source::Point {
            for (name, value) in &self.resource.promoted {
                if self.builder.get(name.as_bytes()).is_none() {
                    self.builder.set(name.as_bytes(), value.as_bytes());
                }
            }
        }
        let ResourceLabels { job, instance, .. } = &self.resource;
        for (name, value) in [("job", job), ("instance", instance)] {
            if !value.is_empty() {
                self.builder.set(name.as_bytes(), value.as_bytes());
            }
        }
        if source == Source::Resource && self.settings.type_and_unit_labels {
            // Nobody but the receiver says what type a series is.
            self.builder.remove(METRIC_TYPE);
        }
        if source == Source::Point {
            for (name, value) in self.scope.iter().flatten() {
                self.builder.set(name.as_bytes(), value.as_bytes());
            }
            if self.settings.type_and_unit_labels {
                if family.metadata.kind != MetricType::Unknown {
                    self.builder.set(METRIC_TYPE, family.metadata.kind.as_str().as_bytes());
                }
                if !family.metadata.unit.is_empty() {
                    self.builder.set(METRIC_UNIT, family.unit_label.as_bytes());
                }
            }
        }
        Ok(())
    }

    fn set_escaped(&mut self, sorted: &[&'r KeyValue<'r>], source: Source) -> Built<()> {
        for pair in sorted {
            let name = label_name(&mut self.known, self.names, &pair.key)?;
            let text = value::text(&pair.value);
            check_size(name)?;
            if let Some(present) = self.builder.get(name.as_bytes()) {
                let joined = [present, b";", text.as_bytes()].concat();
                if joined.len() > LABEL_BYTES_MAX {
                    return Err(too_long(joined.len()));
                }
                let name = name.to_owned();
                self.builder.set(name.as_bytes(), &joined);
                self.note_collision(name, sorted, source);
            } else {
                check_size(&text)?;
                self.builder.set(name.as_bytes(), text.as_bytes());
            }
        }
        Ok(())
    }

    fn set_unescaped(&mut self, sorted: &[&'r KeyValue<'r>]) -> Built<()> {
        for same in sorted.chunk_by(|a, b| a.key == b.key) {
            let [pair, others @ ..] = same else { continue };
            let text = value::text(&pair.value);
            if pair.key.is_empty() {
                let text = "label name is empty".to_owned();
                return Err(Failure { text, blame: Blame::Sender });
            }
            if !others.is_empty() {
                // An empty one takes the others with it.
                if same.iter().any(|pair| value::text(&pair.value).is_empty()) {
                    continue;
                }
                return Err(format!(
                    "label name {} is not unique: invalid sample",
                    go_quote(pair.key.as_bytes())
                )
                .into());
            }
            check_size(&pair.key)?;
            check_size(&text)?;
            self.builder.set(pair.key.as_bytes(), text.as_bytes());
        }
        Ok(())
    }

    #[cold]
    fn note_collision(&mut self, name: String, sorted: &[&'r KeyValue<'r>], source: Source) {
        if self.collisions.contains_key(&name) || self.collisions.len() >= super::WARNINGS_MAX {
            return;
        }
        let mut keys = Vec::new();
        for pair in sorted {
            if label_name(&mut self.known, self.names, &pair.key).is_ok_and(|found| *found == *name) {
                keys.push(go_quote(pair.key.as_bytes()));
            }
        }
        let text = format!(
            "OTLP {} attributes {} collide as label {} after name sanitization, values are concatenated with ';'",
            source.as_str(),
            keys.join(", "),
            go_quote(name.as_bytes())
        );
        self.collisions.insert(name, text);
    }

    /// Sets the name to `base` and `suffix`.
    pub(super) fn set_name(&mut self, base: &str, suffix: &str) -> Built<()> {
        check_size(base)?;
        if suffix.is_empty() {
            self.builder.set(METRIC_NAME, base.as_bytes());
        } else {
            self.builder.set(METRIC_NAME, [base, suffix].concat().as_bytes());
        }
        Ok(())
    }

    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        self.builder.set(name, value);
    }

    pub(super) fn labels(&self) -> Labels {
        self.builder.build()
    }
}

/// The label name of an attribute, remembered for the next point.
fn label_name<'k, 'r>(known: &'k mut HashMap<&'r str, String>, names: Names, key: &'r str) -> Built<&'k str> {
    use std::collections::hash_map::Entry;
    match known.entry(key) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => Ok(entry.insert(names.label(key)?)),
    }
}

fn pairs_of(labels: &LabelsBuilder) -> Built<Vec<(String, String)>> {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        check_size(&text).map(|()| text)
    };
    labels.iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

fn check_size(text: &str) -> Built<()> {
    if text.len() > LABEL_BYTES_MAX { Err(too_long(text.len())) } else { Ok(()) }
}

fn too_long(n_bytes: usize) -> Failure {
    let text = format!("label name or value has {n_bytes} bytes, at most {LABEL_BYTES_MAX} are taken");
    Failure { text, blame: Blame::Sender }
}
