//! The route tree: which receivers an alert goes to, and by which labels it is grouped.
//!
//! Compat: alertmanager `dispatch`, `Route` (keys byte for byte).

use std::sync::Arc;
use std::time::Duration;

use config::alertmanager::{Config, Receiver, Route};

use super::alert::{LabelSet, matches};

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
    /// The key and the place among siblings, unique.
    pub id: String,
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
        routes.add(config, &config.route, "", "");
        routes
    }

    fn add(&mut self, config: &Config, route: &Route, parent_key: &str, parent_id: &str) -> usize {
        let mut matchers: Vec<_> = route.matchers.iter().collect();
        matchers.sort_by(|a, b| (&a.name, &a.value, a.op).cmp(&(&b.name, &b.value, b.op)));
        let matchers: Vec<_> = matchers.iter().map(ToString::to_string).collect();
        let own = format!("{{{}}}", matchers.join(","));
        let slash = if parent_key.is_empty() { "" } else { "/" };
        let key = format!("{parent_key}{slash}{own}");
        let index = self.nodes.len();
        let id = format!("{parent_id}{slash}{own}/{index}");
        let receiver = config.receivers.iter().find(|receiver| receiver.name == route.receiver);
        // A loaded configuration names receivers that exist; one made by hand gets a sink.
        let receiver = receiver
            .cloned()
            .unwrap_or_else(|| Arc::new(Receiver { name: route.receiver.clone(), ..Receiver::default() }));
        self.nodes.push(Node {
            key: key.clone(),
            id: id.clone(),
            receiver,
            group_wait: route.group_wait,
            group_interval: route.group_interval,
            repeat_interval: route.repeat_interval,
            route: Route { routes: Vec::new(), ..route.clone() },
            children: Vec::new(),
        });
        for child in &route.routes {
            let child = self.add(config, child, &key, &id);
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

impl Node {
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
