//! The route tree: which receivers an alert goes to, and by which labels it is grouped.
//!
//! Compat: alertmanager `dispatch`, `Route` (keys byte for byte).

use std::sync::Arc;
use std::time::Duration;

use config::alertmanager::{Config, Receiver, Route};
use config::template::Mode;
use config::template::notification::Data;
use jiff::Timestamp;

use model::Matcher;

use super::alert::{LabelSet, matches};
use super::notify::templates::Templates;

/// The tree, flattened; index 0 is the root.
#[derive(Debug)]
pub struct Routes {
    nodes: Vec<Node>,
}

/// One route with what it inherited.
#[derive(Debug)]
pub struct Node {
    /// `{}/{severity="page"}`; equal for identical siblings.
    pub key: String,
    /// The key with the place among its siblings behind each element but the first, unique.
    pub id: String,
    /// The way from the root for people: `root › team=db › severity=critical`.
    pub path: String,
    pub receiver: Arc<Receiver>,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    route: Route,
    children: Vec<usize>,
}

impl Routes {
    pub fn new(config: &Config) -> Self {
        let mut routes = Self { nodes: Vec::new() };
        routes.add(config, &config.route, None);
        routes
    }

    fn add(&mut self, config: &Config, route: &Route, parent: Option<(usize, usize)>) -> usize {
        let mut matchers: Vec<_> = route.matchers.iter().collect();
        matchers.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
        let texts: Vec<_> = matchers.iter().map(ToString::to_string).collect();
        let own = format!("{{{}}}", texts.join(","));
        let (key, id, path) = match parent {
            None => (own.clone(), own, "root".to_owned()),
            Some((parent, place)) => {
                let parent = &self.nodes[parent];
                let key = format!("{}/{own}", parent.key);
                let id = format!("{}/{own}/{place}", parent.id);
                (key, id, format!("{} › {}", parent.path, shown(&matchers)))
            }
        };
        let receiver = config.receivers.iter().find(|receiver| receiver.name == route.receiver);
        // A loaded configuration names receivers that exist; one made by hand gets a sink.
        let receiver = receiver
            .cloned()
            .unwrap_or_else(|| Arc::new(Receiver { name: route.receiver.clone(), ..Receiver::default() }));
        let index = self.nodes.len();
        self.nodes.push(Node {
            key,
            id,
            path,
            receiver,
            group_wait: route.group_wait,
            group_interval: route.group_interval,
            repeat_interval: route.repeat_interval,
            route: Route { routes: Vec::new(), ..route.clone() },
            children: Vec::new(),
        });
        for (place, child) in route.routes.iter().enumerate() {
            let child = self.add(config, child, Some((index, place)));
            self.nodes[index].children.push(child);
        }
        index
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The routes that `labels` ends at, in the tree's order.
    pub fn find(&self, labels: &LabelSet) -> Vec<usize> {
        let mut found = Vec::new();
        self.visit(0, labels, &mut found);
        found
    }

    fn visit(&self, index: usize, labels: &LabelSet, found: &mut Vec<usize>) -> bool {
        let node = &self.nodes[index];
        if !matches(&node.route.matchers, labels) {
            return false;
        }
        let before = found.len();
        for &child in &node.children {
            if self.visit(child, labels, found) && !self.nodes[child].route.continue_matching {
                break;
            }
        }
        if found.len() == before {
            found.push(index);
        }
        true
    }
}

/// Matchers as people write them, without quotes.
fn shown(matchers: &[&Matcher]) -> String {
    if matchers.is_empty() {
        return "any".to_owned();
    }
    let texts: Vec<_> = matchers
        .iter()
        .map(|matcher| {
            let (name, value) =
                (String::from_utf8_lossy(&matcher.name), String::from_utf8_lossy(&matcher.value));
            format!("{name}{}{value}", matcher.op.as_str())
        })
        .collect();
    texts.join(", ")
}

impl Node {
    pub fn mute_time_intervals(&self) -> &[String] {
        &self.route.mute_time_intervals
    }

    pub fn active_time_intervals(&self) -> &[String] {
        &self.route.active_time_intervals
    }

    /// Templates of the labels of the route.
    pub const fn labels(&self) -> &LabelSet {
        &self.route.labels
    }

    /// A hash of what the timer of a group depends on: who is told, and how often.
    pub fn timers(&self) -> u64 {
        let text = format!(
            "{}/{:?}/{:?}/{:?}",
            self.receiver.name, self.group_wait, self.group_interval, self.repeat_interval
        );
        model::fnv1a([text.as_bytes()])
    }

    /// The labels that name the alert's group.
    pub fn group_labels(&self, labels: &LabelSet) -> LabelSet {
        match &self.route.group_by {
            None => labels.clone(),
            Some(names) => {
                let known = names.iter().filter_map(|name| labels.get_key_value(name));
                known.map(|(name, value)| (name.clone(), value.clone())).collect()
            }
        }
    }
}

/// The labels of a route, their templates executed for the data of a group. A label may refer to others by
/// `{{ routeLabels "x" }}`. One that cannot be rendered, as when two refer to each other, is left out, and the log says
/// why.
///
/// Compat: alertmanager `dispatch`, `aggrGroup.renderRouteLabels`.
pub fn render_labels(labels: &LabelSet, mut data: Data, templates: &Templates, now: Timestamp) -> LabelSet {
    let mut rendered = LabelSet::new();
    data.route_labels.clone_from(labels);
    for (name, text) in labels {
        match templates.expand(text, &data, Mode::Text, now) {
            Ok(value) => drop(rendered.insert(name.clone(), value)),
            Err(error) => tracing::error!(label = name, %error, "render a label of a route"),
        }
    }
    rendered
}
