//! The kinds of receivers: which key holds each, and in which of upstream's three orders they come.
//!
//! A receiver lists its sections by kind in one order, inherits from `global` in another and is run in a third;
//! what a user sees of each differs (text of `/api/v2/status`, the first error, the notification log).
//!
//! Compat: alertmanager `config`, `Receiver`, `Config.UnmarshalYAML`; `config/receiver`,
//! `BuildReceiverIntegrations`.

mod chat;
mod email;
mod mattermost;
mod pager;
mod rocketchat;
mod slack;
mod ticket;
mod webhook;

pub(super) use email::EXTENSIONS;

use std::collections::BTreeMap;
use std::path::Path;

use model::quote::go_quote;

use super::global::Global;
use super::record::{self, Key, Record, always, some};
use super::{Integration, Notifier, Receiver};
use crate::http_client::decode::secret_source;
use crate::http_client::{HttpClient, SecretSource};
use crate::yaml::emit::Fields;
use crate::yaml::tree::Pos;
use crate::yaml::{Decode as _, Decoded, Decoder, Issue, Node, Out};
use crate::{Secret, paths};

/// A section of one kind, as it is read.
trait Kind: Record + Sized + 'static {
    /// With its defaults.
    fn new() -> Self;

    /// Takes what it does not set from `global`.
    fn inherit(&mut self, global: &mut Global) -> Result<(), String>;

    /// Whether resolved alerts are sent, and how; relative paths belong to `base`.
    fn finish(self, base: &Path) -> (bool, Notifier);
}

/// A section whose kind is not known statically.
trait Section {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<bool, Issue>;
    fn inherit(&mut self, global: &mut Global) -> Result<(), String>;
    fn print(&mut self) -> Out;
    fn finish(self: Box<Self>, base: &Path) -> (bool, Notifier);
}

impl<K: Kind> Section for K {
    fn read(&mut self, decoder: &mut Decoder, base: &Path, node: &Node) -> Result<bool, Issue> {
        record::read(self, decoder, base, node)
    }

    fn inherit(&mut self, global: &mut Global) -> Result<(), String> {
        Kind::inherit(self, global)
    }

    fn print(&mut self) -> Out {
        record::fields(self).into_out()
    }

    fn finish(self: Box<Self>, base: &Path) -> (bool, Notifier) {
        Kind::finish(*self, base)
    }
}

fn boxed<K: Kind>() -> Box<dyn Section> {
    Box::new(K::new())
}

struct Entry {
    /// As in `<name>_configs`.
    name: &'static str,
    /// What error texts call the list.
    go_type: &'static str,
    new: fn() -> Box<dyn Section>,
    /// The place in the order in which kinds inherit.
    inherits: usize,
    /// The place in the order in which they are run.
    runs: usize,
    /// Judged as an empty section where an item is null.
    takes_null: bool,
}

const fn entry(
    name: &'static str,
    go_type: &'static str,
    new: fn() -> Box<dyn Section>,
    inherits: usize,
    runs: usize,
) -> Entry {
    Entry { name, go_type, new, inherits, runs, takes_null: false }
}

#[expect(clippy::needless_pass_by_value, reason = "made where it is given")]
const fn lenient(entry: Entry) -> Entry {
    Entry { takes_null: true, ..entry }
}

const N_KINDS: usize = 18;

/// In the order in which they are printed.
static KINDS: [Entry; N_KINDS] = [
    entry("discord", "[]*discord.DiscordConfig", boxed::<chat::RawDiscord>, 11, 10),
    entry("email", "[]*config.EmailConfig", boxed::<email::RawEmail>, 1, 1),
    entry("incidentio", "[]*incidentio.IncidentioConfig", boxed::<webhook::RawIncidentio>, 5, 15),
    entry("pagerduty", "[]*pagerduty.PagerdutyConfig", boxed::<pager::RawPagerduty>, 4, 2),
    lenient(entry("slack", "[]*config.SlackConfig", boxed::<slack::RawSlack>, 2, 5)),
    entry("webhook", "[]*webhook.WebhookConfig", boxed::<webhook::RawWebhook>, 0, 0),
    lenient(entry("opsgenie", "[]*opsgenie.OpsGenieConfig", boxed::<pager::RawOpsgenie>, 6, 3)),
    lenient(entry("wechat", "[]*config.WechatConfig", boxed::<chat::RawWechat>, 7, 4)),
    entry("pushover", "[]*config.PushoverConfig", boxed::<pager::RawPushover>, 3, 7),
    entry("victorops", "[]*config.VictorOpsConfig", boxed::<pager::RawVictorops>, 8, 6),
    entry("sns", "[]*config.SNSConfig", boxed::<ticket::RawSns>, 9, 8),
    entry("telegram", "[]*telegram.TelegramConfig", boxed::<chat::RawTelegram>, 10, 9),
    entry("webex", "[]*config.WebexConfig", boxed::<chat::RawWebex>, 12, 11),
    entry("msteams", "[]*msteams.MSTeamsConfig", boxed::<chat::RawMsteams>, 13, 12),
    entry("msteamsv2", "[]*msteamsv2.MSTeamsV2Config", boxed::<chat::RawMsteamsv2>, 14, 13),
    entry("jira", "[]*jira.JiraConfig", boxed::<ticket::RawJira>, 15, 14),
    lenient(entry("rocketchat", "[]*config.RocketchatConfig", boxed::<rocketchat::RawRocketchat>, 16, 16)),
    entry("mattermost", "[]*mattermost.MattermostConfig", boxed::<mattermost::RawMattermost>, 17, 17),
];

/// The kinds in the order of `place`.
fn in_order(place: fn(&Entry) -> usize) -> impl Iterator<Item = usize> {
    let mut order = [0; N_KINDS];
    for (kind, entry) in KINDS.iter().enumerate() {
        order[place(entry)] = kind;
    }
    order.into_iter()
}

/// A section and where it stands; `None` is a null.
type Found = (Pos, Option<Box<dyn Section>>);

/// A receiver as it is read.
pub(super) struct RawReceiver {
    pub(super) pos: Pos,
    pub(super) name: String,
    labels: BTreeMap<String, String>,
    sections: [Vec<Found>; N_KINDS],
}

impl RawReceiver {
    pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Decoded<Self> {
        let mut receiver = Self {
            pos: node.pos,
            name: String::new(),
            labels: BTreeMap::new(),
            sections: std::array::from_fn(|_| Vec::new()),
        };
        if node.is_null() {
            return Ok(Some(receiver));
        }
        let is_sound = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "name" => decoder.set(value, &mut receiver.name)?,
                "labels" => {
                    receiver.labels = BTreeMap::decode(decoder, value)?.unwrap_or_default();
                }
                _ => {
                    let kind = key.strip_suffix("_configs");
                    let kind = kind.and_then(|kind| KINDS.iter().position(|entry| entry.name == kind));
                    let Some(kind) = kind else { return Ok(false) };
                    read_sections(decoder, base, value, &KINDS[kind], &mut receiver.sections[kind])?;
                }
            }
            Ok(true)
        })?;
        if !is_sound {
            return Ok(None);
        }
        receiver.check().map_err(|text| Issue::new(node.pos, text))?;
        Ok(Some(receiver))
    }

    fn check(&mut self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("missing name in receiver".to_owned());
        }
        if let Some(label) = self.labels.get("name").filter(|label| **label != self.name) {
            let (name, label) = (go_quote(self.name.as_bytes()), go_quote(label.as_bytes()));
            return Err(format!("receiver label \"name\" must match receiver name {name}, got {label}"));
        }
        self.labels.insert("name".to_owned(), self.name.clone());
        Ok(())
    }

    pub(super) fn inherit(&mut self, global: &mut Global) -> Result<(), Issue> {
        for kind in in_order(|entry| entry.inherits) {
            let entry = &KINDS[kind];
            for (pos, section) in &mut self.sections[kind] {
                let fail = |text: String| Issue::new(*pos, text);
                if let Some(section) = section {
                    section.inherit(global).map_err(fail)?;
                    continue;
                }
                if entry.takes_null {
                    (entry.new)().inherit(global).map_err(fail)?;
                }
                return Err(Issue::new(*pos, format!("missing {} config", entry.name)));
            }
        }
        Ok(())
    }

    pub(super) fn print(&mut self) -> Out {
        let mut fields = Fields::default();
        fields.put("name", self.name.as_str()).some("labels", record::print_map(&self.labels));
        for (entry, sections) in KINDS.iter().zip(&mut self.sections) {
            let printed = sections.iter_mut().filter_map(|(_, section)| Some(section.as_mut()?.print()));
            fields.some(&format!("{}_configs", entry.name), Out::List(printed.collect()));
        }
        fields.into_out()
    }

    pub(super) fn finish(mut self, base: &Path) -> Receiver {
        let mut integrations = Vec::new();
        for kind in in_order(|entry| entry.runs) {
            let sections =
                std::mem::take(&mut self.sections[kind]).into_iter().filter_map(|(_, section)| section);
            for (index, section) in sections.enumerate() {
                let (send_resolved, notifier) = section.finish(base);
                integrations.push(Integration { index, send_resolved, notifier });
            }
        }
        Receiver { name: self.name, labels: self.labels, integrations }
    }
}

fn read_sections(
    decoder: &mut Decoder,
    base: &Path,
    node: &Node,
    entry: &Entry,
    out: &mut Vec<(Pos, Option<Box<dyn Section>>)>,
) -> Result<(), Issue> {
    decoder.items(node, entry.go_type, &mut |decoder, item| {
        if item.is_null() {
            out.push((item.pos, None));
            return Ok(());
        }
        let mut section = (entry.new)();
        if section.read(decoder, base, item)? {
            out.push((item.pos, Some(section)));
        }
        Ok(())
    })?;
    Ok(())
}

/// What most kinds begin with.
#[derive(Default)]
struct Common {
    send_resolved: bool,
    http: Option<HttpClient>,
}

impl Common {
    fn new(send_resolved: bool) -> Self {
        Self { send_resolved, http: None }
    }

    fn keys(&mut self) -> Vec<Key<'_>> {
        vec![always("send_resolved", &mut self.send_resolved), some("http_config", &mut self.http)]
    }

    fn inherit(&mut self, global: &Global) {
        if self.http.is_none() {
            self.http.clone_from(&global.http);
        }
    }

    fn has_authorization(&self) -> bool {
        self.http.as_ref().is_some_and(|http| http.authorization.is_some())
    }

    fn client(&self) -> HttpClient {
        self.http.clone().unwrap_or_default()
    }
}

/// A secret or the file that holds it.
#[derive(Clone, Default)]
pub(super) struct Source {
    pub(super) secret: Secret,
    pub(super) file: String,
    /// The form that the section sets itself, where the other one may have come from `global`.
    own: Option<Form>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Inline,
    File,
}

impl Source {
    pub(super) fn is_set(&self) -> bool {
        !self.secret.is_empty() || !self.file.is_empty()
    }

    fn is_ambiguous(&self) -> bool {
        !self.secret.is_empty() && !self.file.is_empty()
    }

    /// Takes both from `global` unless one of them is set.
    fn inherit(&mut self, global: &Self) {
        if !self.is_set() {
            self.clone_from(global);
        }
    }

    /// Takes each from `global` unless it is set. Upstream then uses the one or the other, by kind; here what the
    /// section sets itself wins.
    fn inherit_each(&mut self, global: &Self) {
        self.own = match (self.secret.is_empty(), self.file.is_empty()) {
            (false, _) => Some(Form::Inline),
            (true, false) => Some(Form::File),
            (true, true) => None,
        };
        if self.secret.is_empty() {
            self.secret = global.secret.clone();
        }
        if self.file.is_empty() {
            self.file.clone_from(&global.file);
        }
    }

    fn finish(self, base: &Path) -> SecretSource {
        match self.own {
            Some(Form::Inline) => SecretSource::Inline(self.secret),
            Some(Form::File) | None => secret_source(base, self.secret, &self.file),
        }
    }
}

/// A [`Source`] whose secret may be there and empty.
#[derive(Clone, Default)]
pub(super) struct OptionalSource {
    pub(super) secret: Option<Secret>,
    pub(super) file: String,
    own: Option<Form>,
}

impl OptionalSource {
    fn is_set(&self) -> bool {
        self.secret.is_some() || !self.file.is_empty()
    }

    pub(super) fn is_ambiguous(&self) -> bool {
        self.secret.is_some() && !self.file.is_empty()
    }

    /// As [`Source::inherit_each`].
    fn inherit(&mut self, global: &Self) {
        self.own = match (&self.secret, self.file.is_empty()) {
            (Some(_), _) => Some(Form::Inline),
            (None, false) => Some(Form::File),
            (None, true) => None,
        };
        if self.secret.is_none() {
            self.secret.clone_from(&global.secret);
        }
        if self.file.is_empty() {
            self.file.clone_from(&global.file);
        }
    }

    fn finish(self, base: &Path) -> SecretSource {
        Source { secret: self.secret.unwrap_or_default(), file: self.file, own: self.own }.finish(base)
    }
}

fn at_most_one(is_ambiguous: bool, first: &str, second: &str) -> Result<(), String> {
    if is_ambiguous {
        return Err(format!("at most one of {first} & {second} must be configured"));
    }
    Ok(())
}

fn demand(holds: bool, text: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text.to_owned()) }
}

fn template(name: &str) -> String {
    format!("{{{{ template \"{name}\" . }}}}")
}

fn join(base: &Path, file: &str) -> std::path::PathBuf {
    paths::join(base, file).into()
}
