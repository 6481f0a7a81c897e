//! `otlp`: how what arrives over OTLP becomes series.
//!
//! Compat: prometheus `config`, `OTLPConfig`.

use model::quote::go_quote;

use crate::relabel::NameScheme;
use crate::yaml::emit::Fields;
use crate::yaml::tree::Pos;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

#[expect(clippy::struct_excessive_bools, reason = "independent switches, named as in the file")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    pub promote_all_resource_attributes: bool,
    pub promote_resource_attributes: Vec<String>,
    pub ignore_resource_attributes: Vec<String>,
    /// `None` where the section is null, which is then taken for the default.
    pub translation_strategy: Option<TranslationStrategy>,
    pub keep_identifying_resource_attributes: bool,
    pub convert_histograms_to_nhcb: bool,
    pub promote_scope_metadata: bool,
    pub label_name_underscore_sanitization: bool,
    pub label_name_preserve_multiple_underscores: bool,
}

/// What becomes of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TranslationStrategy {
    #[default]
    UnderscoreEscapingWithSuffixes,
    UnderscoreEscapingWithoutSuffixes,
    NoUtf8EscapingWithSuffixes,
    NoTranslation,
}

impl TranslationStrategy {
    const ALL: [Self; 4] = [
        Self::UnderscoreEscapingWithSuffixes,
        Self::UnderscoreEscapingWithoutSuffixes,
        Self::NoUtf8EscapingWithSuffixes,
        Self::NoTranslation,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnderscoreEscapingWithSuffixes => "UnderscoreEscapingWithSuffixes",
            Self::UnderscoreEscapingWithoutSuffixes => "UnderscoreEscapingWithoutSuffixes",
            Self::NoUtf8EscapingWithSuffixes => "NoUTF8EscapingWithSuffixes",
            Self::NoTranslation => "NoTranslation",
        }
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            translation_strategy: Some(TranslationStrategy::default()),
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
            ..Self::null()
        }
    }
}

impl Otlp {
    fn null() -> Self {
        Self {
            promote_all_resource_attributes: false,
            promote_resource_attributes: Vec::new(),
            ignore_resource_attributes: Vec::new(),
            translation_strategy: None,
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: false,
            label_name_preserve_multiple_underscores: false,
        }
    }
}

/// The section before `global` is known.
pub(super) struct RawOtlp {
    pos: Pos,
    strategy: String,
    config: Otlp,
}

impl Default for RawOtlp {
    fn default() -> Self {
        let strategy = TranslationStrategy::default().as_str().to_owned();
        Self { pos: Pos::default(), strategy, config: Otlp::default() }
    }
}

impl RawOtlp {
    pub(super) fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        if node.is_nothing() {
            return Ok(Some(Self { pos: node.pos, strategy: String::new(), config: Otlp::null() }));
        }
        let mut raw = Self { pos: node.pos, ..Self::default() };
        let otlp = &mut raw.config;
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            let flag = match key {
                "promote_all_resource_attributes" => &mut otlp.promote_all_resource_attributes,
                "keep_identifying_resource_attributes" => &mut otlp.keep_identifying_resource_attributes,
                "convert_histograms_to_nhcb" => &mut otlp.convert_histograms_to_nhcb,
                "promote_scope_metadata" => &mut otlp.promote_scope_metadata,
                "label_name_underscore_sanitization" => &mut otlp.label_name_underscore_sanitization,
                "label_name_preserve_multiple_underscores" => {
                    &mut otlp.label_name_preserve_multiple_underscores
                }
                "promote_resource_attributes" => {
                    decoder.set(value, &mut otlp.promote_resource_attributes)?;
                    return Ok(true);
                }
                "ignore_resource_attributes" => {
                    decoder.set(value, &mut otlp.ignore_resource_attributes)?;
                    return Ok(true);
                }
                "translation_strategy" => {
                    let text = decoder.text_as(value, "otlptranslator.TranslationStrategyOption")?;
                    raw.strategy = text.unwrap_or_default();
                    return Ok(true);
                }
                _ => return Ok(false),
            };
            decoder.set(value, flag)?;
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        raw.tidy_attributes().map_err(|text| Issue::new(node.pos, text))?;
        Ok(Some(raw))
    }

    fn tidy_attributes(&mut self) -> Result<(), String> {
        let otlp = &mut self.config;
        if !otlp.promote_all_resource_attributes {
            if !otlp.ignore_resource_attributes.is_empty() {
                return Err("'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true".to_owned());
            }
            return tidy(&mut otlp.promote_resource_attributes, "promoted")
                .map_err(|text| format!("invalid 'promote_resource_attributes': {text}"));
        }
        if !otlp.promote_resource_attributes.is_empty() {
            return Err("'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured simultaneously".to_owned());
        }
        tidy(&mut otlp.ignore_resource_attributes, "ignored")
            .map_err(|text| format!("invalid 'ignore_resource_attributes': {text}"))
    }

    /// Upstream checks this when all else is known to be right.
    pub(super) fn resolve(self, scheme: NameScheme) -> Result<Otlp, Issue> {
        let mut otlp = self.config;
        let quoted = go_quote(self.strategy.as_bytes());
        otlp.translation_strategy =
            TranslationStrategy::ALL.into_iter().find(|s| s.as_str() == self.strategy);
        match otlp.translation_strategy {
            None if !self.strategy.is_empty() => {
                Err(Issue::new(self.pos, format!("unsupported OTLP translation strategy {quoted}")))
            }
            Some(TranslationStrategy::NoTranslation | TranslationStrategy::NoUtf8EscapingWithSuffixes)
                if scheme == NameScheme::Legacy =>
            {
                let text = format!("OTLP translation strategy {quoted} is not allowed when UTF8 is disabled");
                Err(Issue::new(self.pos, text))
            }
            _ => Ok(otlp),
        }
    }
}

/// Trims each; all empty and repeated ones are reported at once.
fn tidy(attributes: &mut [String], adjective: &str) -> Result<(), String> {
    let mut problems = Vec::new();
    for i in 0..attributes.len() {
        let name = attributes[i].trim().to_owned();
        if name.is_empty() {
            problems.push(format!("empty {adjective} OTel resource attribute"));
        } else if attributes[..i].contains(&name) {
            let name = go_quote(name.as_bytes());
            problems.push(format!("duplicated {adjective} OTel resource attribute {name}"));
        }
        attributes[i] = name;
    }
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

pub(super) fn print_otlp(otlp: &Otlp) -> Out {
    let mut fields = Fields::default();
    fields.some("promote_all_resource_attributes", otlp.promote_all_resource_attributes);
    fields.some(
        "promote_resource_attributes",
        otlp.promote_resource_attributes.iter().cloned().collect::<Out>(),
    );
    fields
        .some("ignore_resource_attributes", otlp.ignore_resource_attributes.iter().cloned().collect::<Out>());
    fields.some("translation_strategy", otlp.translation_strategy.map_or("", |s| s.as_str()));
    fields
        .some("keep_identifying_resource_attributes", otlp.keep_identifying_resource_attributes)
        .some("convert_histograms_to_nhcb", otlp.convert_histograms_to_nhcb)
        .some("promote_scope_metadata", otlp.promote_scope_metadata)
        .some("label_name_underscore_sanitization", otlp.label_name_underscore_sanitization)
        .some("label_name_preserve_multiple_underscores", otlp.label_name_preserve_multiple_underscores);
    fields.into_out()
}
