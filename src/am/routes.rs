//! `ferula am config routes`: the routing tree as a drawing, and where an alert goes.
//!
//! Compat: alertmanager `cli`, `routingShow`; github.com/xlab/treeprint for the lines.

use std::path::{Path, PathBuf};

use ::config::alertmanager::{Config, Route, load_in, parse_in};
use ::config::matchers;
use clap::{Args, Subcommand};

use super::alert::pairs;
use super::api::{Api, LabelSet};
use super::check::message;
use super::{Common, Done, Failure, Streams, existing_file};
use crate::alertmanager::route::Routes;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Config file to be tested.
    #[arg(long = "config.file", global = true, value_parser = existing_file)]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the whole routing tree, of a local file or a running Alertmanager.
    Show,
    /// Print the receivers which an alert with the given labels resolves to.
    Test(Test),
}

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Fail if the labels do not route to these receivers, separated by commas.
    #[arg(long = "verify.receivers", default_value = "")]
    expected: String,
    /// Print out the tree of matching routes.
    #[arg(long)]
    tree: bool,
    /// List of labels to be tested against the configured routes.
    labels: Vec<String>,
}

pub(super) fn run(options: &Options, common: &Common, streams: &mut Streams<'_>) -> Done {
    let config = load(options.file.as_deref(), common, streams)?;
    match &options.command {
        Command::Show => {
            let mut tree = Tree::default();
            add_all(&config.route, &mut tree);
            writeln!(streams.out, "Routing tree:\n.\n{}", tree.draw())?;
            Ok(())
        }
        Command::Test(test) => run_test(test, &config, common, streams),
    }
}

fn load(file: Option<&Path>, common: &Common, streams: &mut Streams<'_>) -> Result<Config, Failure> {
    let mode = common.features;
    let fail = |e: ::config::Error| Failure::Text(message(&e));
    match (file, &common.url) {
        (None, None) => Err("You have to specify one of --config.file or --alertmanager.url flags.".into()),
        (Some(path), url) => {
            if url.is_some() {
                writeln!(streams.err, "Warning: --config.file flag overrides the --alertmanager.url.")?;
            }
            load_in(mode, path).map_err(fail)
        }
        (None, Some(_)) => {
            let status = Api::new(common, streams)?.status()?;
            parse_in(mode, &status.config.original, Path::new("")).map_err(fail)
        }
    }
}

fn run_test(test: &Test, config: &Config, common: &Common, streams: &mut Streams<'_>) -> Done {
    let labels = pairs(common.features, &test.labels, "Labels").map_err(|failure| match failure {
        Failure::Text(text) if !text.starts_with("Labels must") => {
            Failure::Text(format!("Failed to parse labels: {text}"))
        }
        failure => failure,
    })?;
    if test.tree {
        let mut tree = Tree::default();
        add_matching(&config.route, &labels, &mut tree);
        writeln!(streams.out, "Matching routes:\n.\n{}\n", tree.draw())?;
    }
    let routes = Routes::new(config);
    let found: Vec<&str> =
        routes.find(&labels).into_iter().map(|index| routes.node(index).receiver.name.as_str()).collect();
    let found = found.join(",");
    writeln!(streams.out, "{found}")?;
    if !test.expected.is_empty() && test.expected != found {
        writeln!(streams.out, "WARNING: Expected receivers did not match resolved receivers.")?;
        return Err(Failure::Silent);
    }
    Ok(())
}

// === Drawing ===

#[derive(Default)]
struct Tree {
    text: String,
    children: Vec<Tree>,
}

impl Tree {
    /// The children, a line each, and theirs below them.
    fn draw(&self) -> String {
        let mut out = String::new();
        self.draw_into("", &mut out);
        out
    }

    fn draw_into(&self, indent: &str, out: &mut String) {
        for (i, child) in self.children.iter().enumerate() {
            let is_last = i + 1 == self.children.len();
            let (edge, line) = if is_last { ("└── ", "    ") } else { ("├── ", "│   ") };
            out.extend([indent, edge, child.text.as_str(), "\n"]);
            child.draw_into(&format!("{indent}{line}"), out);
        }
    }

    fn add(&mut self, text: String) -> &mut Self {
        self.children.push(Self { text, children: Vec::new() });
        self.children.last_mut().expect("just pushed")
    }
}

fn describe(route: &Route, shows_continue: bool, shows_receiver: bool) -> String {
    let matchers: Vec<String> = route.matchers.iter().map(matchers::print).collect();
    let mut text =
        if matchers.is_empty() { "default-route".to_owned() } else { format!("{{{}}}", matchers.join(",")) };
    if route.continue_matching && shows_continue {
        text.push_str("  continue: true");
    }
    if shows_receiver {
        text.extend(["  receiver: ", route.receiver.as_str()]);
    }
    text
}

fn add_all(route: &Route, tree: &mut Tree) {
    let branch = tree.add(describe(route, true, true));
    route.routes.iter().for_each(|child| add_all(child, branch));
}

fn add_matching(route: &Route, labels: &LabelSet, tree: &mut Tree) {
    let branch = tree.add(describe(route, false, false));
    let mut is_final = true;
    for child in &route.routes {
        let value = |name: &[u8]| std::str::from_utf8(name).ok().and_then(|name| labels.get(name));
        let is_match = child
            .matchers
            .iter()
            .all(|matcher| matcher.matches(value(&matcher.name).map_or(&[][..], |value| value.as_bytes())));
        if !is_match {
            continue;
        }
        add_matching(child, labels, branch);
        is_final = false;
        if !child.continue_matching {
            break;
        }
    }
    if is_final {
        branch.text = describe(route, false, true);
    }
}
