//! `/rules` and `/alerts`.

use std::fmt::Write;

use axum::extract::State;
use model::{Labels, Matcher};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::series::{blocking, unnamed};
use super::{Answer, ok};
use crate::api::Shared;
use crate::error::ApiError;
use crate::params::Params;
use crate::view::{Alert, LabelMap, Rule, RuleGroup};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    groups: Vec<RuleGroup>,
    #[serde(skip_serializing_if = "String::is_empty")]
    group_next_token: String,
}

pub(super) async fn rules(State(api): Shared, params: Params) -> Answer {
    let params = params.strict()?;
    let filter = Filter::from_params(&params)?;
    let page = Page::from_params(&params)?;
    blocking(api, move |api| ok(&page.cut(api.rules.groups(), |group| filter.apply(group))?)).await
}

pub(super) async fn alerts(State(api): Shared) -> Answer {
    #[derive(Serialize)]
    struct Listed {
        alerts: Vec<Alert>,
    }
    blocking(api, |api| {
        let rules = api.rules.groups().into_iter().flat_map(|group| group.rules);
        let alerts = rules
            .filter_map(|rule| match rule {
                Rule::Alerting(rule) => rule.alerts,
                Rule::Recording(_) => None,
            })
            .flatten()
            .collect();
        ok(&Listed { alerts })
    })
    .await
}

/// What a request wants to see of the rules.
struct Filter {
    alerting: bool,
    recording: bool,
    names: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    selectors: Vec<Vec<Matcher>>,
    exclude_alerts: bool,
}

impl Filter {
    fn from_params(params: &Params) -> Result<Self, ApiError> {
        let kind = params.url("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::parameter("type", format!("not supported value \"{kind}\"")));
        }
        let exclude_alerts = match params.url("exclude_alerts").to_lowercase().as_str() {
            "" | "0" | "f" | "false" => false,
            "1" | "t" | "true" => true,
            text => {
                let quoted = model::quote::go_quote(text.as_bytes());
                return Err(ApiError::parameter(
                    "exclude_alerts",
                    format!(
                        "error converting exclude_alerts: strconv.ParseBool: parsing {quoted}: invalid syntax"
                    ),
                ));
            }
        };
        let all = |name| params.all(name).map(str::to_owned).collect();
        Ok(Self {
            alerting: kind != "record",
            recording: kind != "alert",
            names: all("rule_name[]"),
            groups: all("rule_group[]"),
            files: all("file[]"),
            selectors: unnamed(params.selectors())?,
            exclude_alerts,
        })
    }

    /// The group with the wanted rules, or nothing if none is left.
    fn apply(&self, mut group: RuleGroup) -> Option<RuleGroup> {
        let listed = |wanted: &[String], name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
        if !listed(&self.groups, &group.name) || !listed(&self.files, &group.file) {
            return None;
        }
        group.rules.retain_mut(|rule| {
            let (wanted_kind, name, labels) = match rule {
                Rule::Alerting(rule) => {
                    if self.exclude_alerts {
                        rule.alerts = None;
                    }
                    (self.alerting, &rule.name, &rule.labels)
                }
                Rule::Recording(rule) => (self.recording, &rule.name, &rule.labels),
            };
            wanted_kind && listed(&self.names, name) && self.selects(labels)
        });
        (!group.rules.is_empty()).then_some(group)
    }

    fn selects(&self, labels: &LabelMap) -> bool {
        let labels = Labels::from_pairs(labels);
        let passes = |matchers: &Vec<Matcher>| {
            matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
        };
        self.selectors.is_empty() || self.selectors.iter().any(passes)
    }
}

/// Which part of the groups a request wants.
struct Page {
    limit: Option<usize>,
    token: String,
}

impl Page {
    fn from_params(params: &Params) -> Result<Self, ApiError> {
        let token = params.url("group_next_token").to_owned();
        let limit = match params.url("group_limit") {
            "" if !token.is_empty() => {
                return Err(ApiError::parameter(
                    "group_next_token",
                    "group_limit needs to be present in order to paginate over the groups",
                ));
            }
            "" => None,
            text => match text.parse::<i32>() {
                Ok(n) if n > 0 => usize::try_from(n).ok(),
                Ok(_) => {
                    return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0"));
                }
                Err(e) => {
                    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
                    let what = match e.kind() {
                        PosOverflow | NegOverflow => "value out of range",
                        _ => "invalid syntax",
                    };
                    let quoted = model::quote::go_quote(text.as_bytes());
                    return Err(ApiError::parameter(
                        "group_limit",
                        format!(
                            "group_limit needs to be a valid number: strconv.ParseInt: parsing {quoted}: {what}"
                        ),
                    ));
                }
            },
        };
        Ok(Self { limit, token })
    }

    /// The page of the groups that pass `filter`. A token may name a group that does not.
    fn cut(
        self,
        groups: Vec<RuleGroup>,
        filter: impl Fn(RuleGroup) -> Option<RuleGroup>,
    ) -> Result<Listed, ApiError> {
        let mut groups = groups.into_iter().peekable();
        if !self.token.is_empty() {
            while groups.next_if(|group| token(group) != self.token).is_some() {}
            if groups.peek().is_none() {
                return Err(ApiError::parameter(
                    "group_next_token",
                    format!("invalid group_next_token '{}'. were rule groups changed?", self.token),
                ));
            }
        }
        let mut listed = Listed { groups: Vec::new(), group_next_token: String::new() };
        for group in groups {
            let name = token(&group);
            let Some(group) = filter(group) else { continue };
            if self.limit == Some(listed.groups.len()) {
                listed.group_next_token = name;
                break;
            }
            listed.groups.push(group);
        }
        Ok(listed)
    }
}

/// Names a group between two pages.
fn token(group: &RuleGroup) -> String {
    let mut text = String::with_capacity(64);
    for b in Sha256::digest(format!("{};{}", group.file, group.name)) {
        let _ = write!(text, "{b:02x}");
    }
    text
}
