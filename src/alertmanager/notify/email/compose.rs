//! From an alert message to the bytes of an e-mail.
//!
//! What it says comes from our own layout, or from the user's templates, or, where a template or the layout
//! failed or the result is too large, from a fallback that lists the bare alerts: an alert is never lost to
//! the looks of its mail. Only addresses that cannot be made out keep a mail from being composed.
//!
//! Headers are in a fixed order: `Date`, `From`, `To`, `Subject`, `Message-ID`, `In-Reply-To`, `References`,
//! `MIME-Version`, `Content-Type`, ours, then those of the user's that are none of these. A header that the
//! user sets wins over ours of that name, but for those that say how the body is encoded.
//!
//! Compat: alertmanager `notify/email`, `Email.Notify` (0.34): parts, templates and error texts.

use std::fmt::Write;

use aws_lc_rs::digest;
use config::alertmanager::{Email, Layout};
use config::template::Mode;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use jiff::tz::TimeZone;

use super::content::{Content, Image};
use super::mime::{self, Part};
use super::thread::{self, Thread};
use super::{address, fallback};
use crate::alertmanager::notify::{Failure, Message, layout};

/// Upstream's defaults; what a user has left alone is ours to choose.
const DEFAULT_HTML: &str = "{{ template \"email.default.html\" . }}";
const DEFAULT_TEXT: &str = "{{ template \"email.default.text\" . }}";
const DEFAULT_SUBJECT: &str = "{{ template \"email.default.subject\" . }}";

/// Text parts that are larger together give way to the fallback: servers refuse mails of that size.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// The same of all images.
const IMAGES_BYTES_MAX: usize = 4 << 20;
/// Headers of a layout beyond these are left out.
const EXTRA_HEADERS_MAX: usize = 30;

/// These say how the body is encoded, which is not the user's to change.
const OF_THE_BODY: [&str; 3] = ["MIME-Version", "Content-Type", "Content-Transfer-Encoding"];

/// A message that is ready to go.
#[derive(Debug)]
pub(in crate::alertmanager::notify) struct Composed {
    /// Addresses of the envelope.
    pub(super) from: String,
    pub(super) to: Vec<String>,
    pub(in crate::alertmanager::notify) bytes: Vec<u8>,
    pub(in crate::alertmanager::notify) thread: Thread,
}

/// Which form a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::alertmanager::notify) enum Form {
    /// As configured.
    Full,
    /// The fallback, for a server that refused the size of the other.
    Small,
}

/// Makes an e-mail of `message`.
///
/// # Errors
/// The addresses cannot be made out.
pub(in crate::alertmanager::notify) async fn compose(
    config: &Email,
    message: &Message<'_>,
    form: Form,
) -> Result<Composed, Failure> {
    let content = match form {
        Form::Full => content(config, message).await,
        Form::Small => fallback::content("the mail server refused the message for its size", message),
    };
    assemble(config, message, &content)
}

/// Makes an e-mail that says `content`.
pub(super) fn assemble(
    config: &Email,
    message: &Message<'_>,
    content: &Content,
) -> Result<Composed, Failure> {
    let address = |template: &str, what: &str| {
        let expanded = message.templates.expand(template, &message.data, Mode::Text, message.now);
        let expanded = expanded.map_err(|e| Failure::last(format!("execute '{what}' template: {e}")))?;
        address::parse(&expanded, what)
    };
    let from = address(&config.from, "from")?;
    let [from] = from.as_slice() else {
        return Err(Failure::last(format!("must be exactly one 'from' address (got: {})", from.len())));
    };
    let to = address(&config.to, "to")?;
    let envelope_from = address::of_envelope(from);
    let domain = domain(&envelope_from);
    let mut headers = Headers::new(config, message);
    headers.date();
    headers.addresses("From", std::slice::from_ref(from));
    headers.addresses("To", &to);
    let before = Thread::from_memory(&message.memory);
    let own_subject = headers.subject(content.subject.as_deref(), before.as_ref());
    let thread = headers.thread(before.as_ref(), own_subject, &domain);
    let body = body(content, &domain);
    headers.out.push_str("MIME-Version: 1.0\r\n");
    // Writing to a string cannot fail.
    let _ = write!(headers.out, "Content-Type: {}\r\n", body.kind);
    headers.extras(content, &domain);
    headers.others();

    let mut bytes = headers.out.into_bytes();
    bytes.extend_from_slice(b"\r\n");
    bytes.append(&mut body.into_body());
    let mut recipients = Vec::with_capacity(to.len());
    for address in to.iter().map(address::of_envelope) {
        if !recipients.contains(&address) {
            recipients.push(address);
        }
    }
    Ok(Composed { from: envelope_from, to: recipients, bytes, thread })
}

/// The identity of a group in headers, which its labels need not be readable from.
fn group_hash(key: &str) -> String {
    let hash = digest::digest(&digest::SHA256, key.as_bytes());
    hash.as_ref()[..8].iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// What follows the `@`; an address literal has brackets that have no place elsewhere.
fn domain(address: &str) -> String {
    let domain = address.rsplit('@').next().unwrap_or_default();
    let clean: String =
        domain.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    if clean.is_empty() { "localhost".to_owned() } else { clean }
}

// === Content ===

/// What the mail says, from whoever has a say in it.
async fn content(config: &Email, message: &Message<'_>) -> Content {
    let mut content = if is_ours(config, message) {
        layout::render(config, message).await
    } else {
        templates(config, message)
    };
    let size = |part: &Option<String>| part.as_ref().map_or(0, String::len);
    let bytes = size(&content.text) + size(&content.html);
    if bytes > TEXT_BYTES_MAX {
        let why = format!("the message of {bytes} bytes is too large for an e-mail");
        return Content { headers: content.headers, ..fallback::content(&why, message) };
    }
    let images: usize = content.images.iter().map(|image| image.png.len()).sum();
    if images > IMAGES_BYTES_MAX {
        content.images.clear();
        content.note.push(format!("images of {images} bytes are too large for an e-mail"));
    }
    if !content.note.is_empty() {
        tracing::info!(
            group = message.group_key,
            left_out = content.note.join("; "),
            "an e-mail goes without"
        );
    }
    if content.html.is_none() && content.text.is_none() {
        return Content { headers: content.headers, ..fallback::content("it has no text", message) };
    }
    content
}

/// Whether the mail looks as we think best: nobody chose otherwise, in the file or by a template.
fn is_ours(config: &Email, message: &Message<'_>) -> bool {
    config.layout == Layout::Ferula && has_default_html(config, message) && config.text.is_empty()
}

fn has_default_html(config: &Email, message: &Message<'_>) -> bool {
    config.html.trim() == DEFAULT_HTML && !message.templates.is_redefined("email.default.html")
}

/// The templates of the file, which a user's files may have redefined.
fn templates(config: &Email, message: &Message<'_>) -> Content {
    let expand = |template: &str, mode| message.templates.expand(template, &message.data, mode, message.now);
    let text = match config.text.as_str() {
        // Nobody chose to have no text part.
        "" if has_default_html(config, message) => DEFAULT_TEXT,
        "" if message.templates.is_redefined("email.default.text") => DEFAULT_TEXT,
        text => text,
    };
    let part = |template: &str, mode| match template {
        "" => Ok(None),
        template => expand(template, mode).map(Some),
    };
    let parts = part(text, Mode::Text).and_then(|text| Ok((text, part(&config.html, Mode::Html)?)));
    match parts {
        Ok((text, html)) => Content { text, html, ..Content::default() },
        Err(e) => {
            let receiver = &message.data.receiver;
            tracing::error!(receiver, error = %e, "template of an e-mail failed, sending the bare alerts");
            fallback::content(&e.to_string(), message)
        }
    }
}

/// The parts: `related { alternative { text, html }, images }`, as far as there are any.
fn body(content: &Content, domain: &str) -> Part {
    let unique = format!("{:016x}", fastrand::u64(..));
    let boundary = |n: usize| format!("=_{n}_{unique}");
    let images: Vec<&Image> = match content.html {
        Some(_) => content.images.iter().filter(|image| is_cid(&image.cid)).collect(),
        None => Vec::new(),
    };
    let suffix = format!(".{unique}@{domain}");
    let mut parts = Vec::new();
    if let Some(text) = &content.text {
        parts.push(Part::text("plain", text.clone()));
    }
    if let Some(html) = &content.html {
        let cids: Vec<_> = images.iter().map(|image| image.cid.as_str()).collect();
        parts.push(Part::text("html", mime::rename_images(html, &cids, &suffix)));
    }
    let alternative = Part::multipart("alternative", &boundary(1), &parts);
    if images.is_empty() {
        return alternative;
    }
    let mut parts = vec![alternative];
    let png = |image: &&Image| Part::png(&format!("{}{suffix}", image.cid), &image.png, &image.alt);
    parts.extend(images.iter().map(png));
    Part::multipart("related", &boundary(0), &parts)
}

fn is_cid(cid: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=60).contains(&cid.len()) && cid.bytes().all(is_plain)
}

// === Headers ===

/// The headers of a message as far as they are written.
struct Headers<'c> {
    config: &'c Email,
    message: &'c Message<'c>,
    out: String,
    /// Names that are written, or that are not to be.
    done: Vec<String>,
}

impl<'c> Headers<'c> {
    fn new(config: &'c Email, message: &'c Message<'c>) -> Self {
        Self { config, message, out: String::new(), done: OF_THE_BODY.map(str::to_lowercase).into() }
    }

    /// The user's value of `name`, expanded. A template that fails leaves its error, for a message with an
    /// odd header is better than none.
    fn users(&self, name: &str) -> Option<String> {
        let mut headers = self.config.headers.iter();
        let (_, template) = headers.find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        Some(self.expand(template).unwrap_or_else(|e| e))
    }

    fn expand(&self, template: &str) -> Result<String, String> {
        let message = self.message;
        let expanded = message.templates.expand(template, &message.data, Mode::Text, message.now);
        expanded.map_err(|e| e.to_string())
    }

    fn is_done(&self, name: &str) -> bool {
        self.done.iter().any(|done| done.eq_ignore_ascii_case(name))
    }

    fn note(&mut self, name: &str) {
        self.done.push(name.to_lowercase());
    }

    /// Writes a header, or the user's of that name; what it says in the end.
    fn put(&mut self, name: &str, value: &str) -> String {
        let value = self.users(name).unwrap_or_else(|| value.to_owned());
        self.out.push_str(&mime::header(name, &value));
        self.note(name);
        value
    }

    fn date(&mut self) {
        self.put("Date", &date(self.message.now));
    }

    /// The addresses of the envelope, or what the user wants to be seen instead.
    fn addresses(&mut self, name: &str, boxes: &[lettre::message::Mailbox]) {
        self.note(name);
        let Some(shown) = self.users(name) else {
            self.out.push_str(&address::header(name, boxes));
            return;
        };
        // A mail without a sender or with a broken one would be refused as spam.
        let written = match address::parse(&shown, name) {
            Ok(parsed) => address::header(name, &parsed),
            Err(_) if name == "From" || shown.trim().is_empty() => address::header(name, boxes),
            Err(_) => mime::header(name, &shown),
        };
        self.out.push_str(&written);
    }

    /// The subject; what it says where it is ours to keep through a thread.
    fn subject(&mut self, of_layout: Option<&str>, before: Option<&Thread>) -> Option<String> {
        const NAME: &str = "Subject";
        self.note(NAME);
        let templates = self.message.templates;
        let is_chosen = self.config.has_subject
            || templates.is_redefined("email.default.subject")
            || templates.is_redefined("__subject");
        let own = of_layout.filter(|_| !is_chosen).map(mime::one_line).filter(|own| !own.is_empty());
        let (subject, kept) = if let Some(own) = own {
            let subject = before.and_then(|thread| thread.subject.clone()).unwrap_or(own);
            (subject.clone(), Some(subject))
        } else {
            let chosen = self.config.headers.get(NAME).map_or(DEFAULT_SUBJECT, String::as_str);
            let subject = self.expand(chosen).unwrap_or_else(|_| fallback::subject(self.message));
            (subject, None)
        };
        self.out.push_str(&mime::header(NAME, &subject));
        kept
    }

    /// Who this is and whom it answers.
    fn thread(&mut self, before: Option<&Thread>, subject: Option<String>, domain: &str) -> Thread {
        let group = group_hash(self.message.group_key);
        let unix = self.message.now.as_second();
        let made = format!("<{group}.{unix}.{:016x}@{domain}>", fastrand::u64(..));
        let id = self.put("Message-ID", &made);
        let id = thread::as_id(&id).unwrap_or(&made).to_owned();
        let thread = match before {
            Some(before) => before.answered_by(id, subject),
            None => Thread::begin(id, subject),
        };
        let phantom = self.config.threading.map(|by| thread::phantom_root(by, &group, self.message.now));
        let sets = |name| self.users(name).is_some();
        if sets("In-Reply-To") || sets("References") {
            return thread;
        }
        let answered = before.map(|before| before.last.clone()).or_else(|| phantom.clone());
        let mut references: Vec<_> = phantom.into_iter().collect();
        references.extend(before.map(Thread::references).unwrap_or_default());
        if let Some(answered) = answered {
            self.out.push_str(&mime::fold("In-Reply-To", &[answered]));
            self.out.push_str(&mime::fold("References", &references));
        }
        thread
    }

    /// What readers and their filters may go by.
    fn extras(&mut self, content: &Content, domain: &str) {
        let data = &self.message.data;
        let status = data.status();
        let severity = fallback::severity(data);
        let mut extras = vec![
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("X-Auto-Response-Suppress", "All".to_owned()),
            ("List-Id", list_id(&data.receiver, domain)),
            ("X-Ferula-Status", status.to_owned()),
            ("X-Ferula-Group", group_hash(self.message.group_key)),
        ];
        let alertname = data.common_labels.get("alertname").or_else(|| data.group_labels.get("alertname"));
        extras.extend(alertname.map(|name| ("X-Ferula-Alertname", name.clone())));
        if status == "firing" && severity.as_deref() == Some("critical") {
            extras.push(("Importance", "high".to_owned()));
        }
        extras.extend(severity.map(|severity| ("X-Ferula-Severity", severity)));
        let extras: Vec<_> = extras.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let of_layout = content.headers.iter().take(EXTRA_HEADERS_MAX);
        let of_layout = of_layout.map(|(name, value)| (name.as_str(), value.as_str()));
        // What the layout says is closer to the message.
        for (name, value) in of_layout.chain(extras) {
            if !self.is_done(name) && mime::is_header_name(name) {
                self.put(name, value);
            }
        }
    }

    /// The user's that have no place of their own.
    fn others(&mut self) {
        let config = self.config;
        for name in config.headers.keys() {
            if self.is_done(name) || !mime::is_header_name(name) {
                continue;
            }
            let value = self.users(name).unwrap_or_default();
            let is_ids = ["In-Reply-To", "References"].iter().any(|ids| name.eq_ignore_ascii_case(ids));
            if is_ids {
                let ids: Vec<_> = mime::one_line(&value).split_whitespace().map(str::to_owned).collect();
                self.out.push_str(&mime::fold(name, &ids));
            } else {
                self.out.push_str(&mime::header(name, &value));
            }
            self.note(name);
        }
    }
}

/// RFC 5322, 3.3, with a numeric zone as upstream writes it.
fn date(now: Timestamp) -> String {
    let zoned = now.to_zoned(TimeZone::UTC);
    rfc2822::to_string(&zoned).unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned())
}

/// RFC 2919: `<receiver.alerts.domain>`.
fn list_id(receiver: &str, domain: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = receiver.chars().map(plain).take(60).collect();
    let name = name.trim_matches('-');
    let name = if name.is_empty() { "receiver" } else { name };
    format!("<{name}.alerts.{domain}>")
}
