//! Jira: an issue for each group, found again by a label, changed, closed and opened again.
//!
//! Compat: alertmanager `notify/jira` (0.34).

use config::alertmanager::Jira;
use http::Method;
use http::header::{ACCEPT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderValue};
use model::quote::go_quote;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

use super::exchange::{Exchange, encode, parse, path_escape, shown};
use super::truncate::in_runes;
use super::{Failure, Message};

const SUMMARY_RUNES_MAX: usize = 255;
const DESCRIPTION_RUNES_MAX: usize = 32_767;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Found {
    issues: Vec<Issue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Issue {
    key: String,
    fields: Option<Fields>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    status_category: Category,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Category {
    key: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transitions {
    transitions: Vec<Transition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transition {
    id: String,
    name: String,
}

pub(super) async fn send(config: &Jira, message: &Message<'_>) -> Result<(), Failure> {
    let service = Service { config, exchange: Exchange::new(&config.http) };
    let found = service.find(message).await;
    let issue = found.map_err(|failure| failure.within("failed to look up existing issues"))?;
    if issue.is_none() && !message.is_firing() {
        // What nobody has seen needs no issue any more.
        return Ok(());
    }
    let mut fields = fields(config, message)?;
    let (method, path) = match &issue {
        None => (Method::POST, "issue".to_owned()),
        Some(issue) => {
            // Where an update of them is switched off, what people wrote stays.
            if config.summary.enable_update == Some(false) {
                fields.remove("summary");
            }
            if config.description.enable_update == Some(false) {
                fields.remove("description");
            }
            (Method::PUT, format!("issue/{}", path_escape(&issue.key)))
        }
    };
    // Fields of the user's own go before ours.
    for (name, value) in &config.fields {
        let value = message.deep(value).map_err(|failure| failure.within("fields template"))?;
        fields.insert(name.clone(), value);
    }
    let within = format!("failed to {method} request to {}", go_quote(path.as_bytes()));
    let url = service.url(&path);
    let body = json!({ "fields": fields });
    service.ask(method, &url, Some(&body)).await.map_err(|failure| failure.within(&within))?;
    match issue {
        Some(issue) => service.transit(&issue, message.is_firing()).await,
        None => Ok(()),
    }
}

/// The label that an issue is found by.
fn label(message: &Message<'_>) -> String {
    format!("ALERT{{{}}}", message.group_key_hash())
}

fn fields(config: &Jira, message: &Message<'_>) -> Result<Map<String, Value>, Failure> {
    let text = |what: &str, template: &str| {
        message.text(template).map_err(|failure| failure.within(&format!("{what} template")))
    };
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    let summary = message.told(&config.summary.template);
    set("summary", in_runes(summary, SUMMARY_RUNES_MAX, "summary", message.group_key).into());
    let description = message.told(&config.description.template);
    let description = in_runes(description, DESCRIPTION_RUNES_MAX, "description", message.group_key);
    if let Some(description) = describe(config, description) {
        set("description", description);
    }
    set("project", json!({ "key": text("project", &config.project)? }));
    set("issuetype", named(&text("issue_type", &config.issue_type)?));
    let labels = config.labels.iter().enumerate();
    let labels = labels.map(|(i, template)| text(&format!("labels[{i}]"), template));
    let mut labels = labels.collect::<Result<Vec<_>, _>>()?;
    labels.push(label(message));
    labels.sort();
    set("labels", labels.into());
    let priority = text("priority", &config.priority)?;
    if !priority.is_empty() {
        set("priority", named(&priority));
    }
    Ok(fields)
}

fn named(name: &str) -> Value {
    if name.is_empty() { json!({}) } else { json!({ "name": name }) }
}

/// Text, or for version 3 of the API a document, which the template writes as JSON. Upstream gives up on a text
/// there, its own default among them; we make a document of it.
fn describe(config: &Jira, text: String) -> Option<Value> {
    let is_v3 = parse(&config.api_url).is_ok_and(|url| url.path().trim_end_matches('/').ends_with("/3"));
    if !is_v3 {
        return (!text.is_empty()).then_some(Value::String(text));
    }
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    Some(serde_json::from_str(text).unwrap_or_else(|_| {
        let paragraph = json!({"type": "paragraph", "content": [{"type": "text", "text": text}]});
        json!({"type": "doc", "version": 1, "content": [paragraph]})
    }))
}

/// Jira at one address.
struct Service<'c> {
    config: &'c Jira,
    exchange: Exchange<'c>,
}

impl Service<'_> {
    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.config.api_url.trim_end_matches('/'))
    }

    /// The issue of the group that is open, or was until not long ago.
    async fn find(&self, message: &Message<'_>) -> Result<Option<Issue>, Failure> {
        let config = self.config;
        let mut jql = String::new();
        if !config.wont_fix_resolution.is_empty() {
            let resolution = go_quote(config.wont_fix_resolution.as_bytes());
            let _ = write!(jql, "(resolution is EMPTY or resolution != {resolution}) and ");
        }
        let minutes = config.reopen_duration.as_secs() / 60;
        if message.is_firing() && !config.reopen_transition.is_empty() && minutes > 0 {
            let _ = write!(jql, "(resolutiondate is EMPTY OR resolutiondate >= -{minutes}m) and ");
        } else {
            jql.push_str("statusCategory != Done and ");
        }
        let project = message.text(&config.project);
        let project = project.map_err(|failure| failure.within("invalid project template or value"))?;
        let (project, label) = (go_quote(project.as_bytes()), go_quote(label(message).as_bytes()));
        let _ = write!(jql, "project={project} and labels={label} order by status ASC,resolutiondate DESC");
        let body = json!({"fields": ["status"], "jql": jql, "maxResults": 2});
        let answer = self.ask(Method::POST, &self.search_url(), Some(&body)).await;
        let answer = answer.map_err(|failure| failure.within("HTTP request to JIRA API"))?;
        let mut found: Found = understood(&answer)?;
        if found.issues.len() > 1 {
            let first = &found.issues[0].key;
            tracing::warn!(issue = first, "more than one issue matched, the most recently resolved is taken");
        }
        Ok(if found.issues.is_empty() { None } else { Some(found.issues.swap_remove(0)) })
    }

    /// The cloud has given up what data centres still have.
    fn search_url(&self) -> String {
        let is_cloud = match self.config.api_type.as_str() {
            "datacenter" => false,
            "cloud" => true,
            _ => parse(&self.config.api_url).is_ok_and(|url| {
                url.port().is_none() && url.host_str().is_some_and(|h| h.ends_with("atlassian.net"))
            }),
        };
        if is_cloud {
            self.url("search/jql").replacen("/rest/api/2/", "/rest/api/3/", 1)
        } else {
            self.url("search")
        }
    }

    /// Opens or closes an issue where its state is not that of the group.
    async fn transit(&self, issue: &Issue, is_firing: bool) -> Result<(), Failure> {
        let Some(status) = issue.fields.as_ref().and_then(|fields| fields.status.as_ref()) else {
            return Ok(());
        };
        let is_done = status.status_category.key == "done";
        let name = if is_firing { &self.config.reopen_transition } else { &self.config.resolve_transition };
        if issue.key.is_empty() || name.is_empty() || is_firing != is_done {
            return Ok(());
        }
        let url = self.url(&format!("issue/{}/transitions", path_escape(&issue.key)));
        let answer = self.ask(Method::GET, &url, None).await?;
        let known: Transitions = understood(&answer)?;
        let Some(transition) = known.transitions.iter().find(|transition| transition.name == *name) else {
            return Err(Failure::last(format!("can't find transition {name} for issue {}", issue.key)));
        };
        let body = json!({"transition": {"id": transition.id}});
        self.ask(Method::POST, &url, Some(&body)).await.map(drop)
    }

    async fn ask(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Vec<u8>, Failure> {
        let headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT_LANGUAGE, HeaderValue::from_static("en")),
        ]);
        let body = body.map(encode).transpose()?;
        let mut answer = self.exchange.ask(method, parse(url)?, headers, body).await?;
        answer.check_with(&[429], |_, body| shown(body)).await?;
        answer.body().await
    }
}

fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::last(format!("understand Jira's answer: {error}")))
}
