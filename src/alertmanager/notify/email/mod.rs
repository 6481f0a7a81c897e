//! Alerts as e-mails: composing the message and the session with the SMTP server.
//!
//! lettre builds the MIME message and speaks the protocol; the order of the session, its timeouts and the
//! judgement of replies are ours. A permanent reply ends the attempts, where upstream repeats them until
//! the deadline. CRAM-MD5 and an authorisation identity are not spoken.
//!
//! Compat: alertmanager `notify/email` (0.34).

pub mod content;

use std::fmt::Write;
use std::future::Future;
use std::time::Duration;

use config::alertmanager::Email;
use config::http_client::SecretSource;
use config::template::{self, Mode};
use lettre::message::header::{
    ContentTransferEncoding, ContentType, Date, From, HeaderName, HeaderValue, To,
};
use lettre::message::{Body, Mailbox, Mailboxes, Message as Mail, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, Identity, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::{Address, transport::smtp};

use super::Sent;
use super::{Failure, Message};
use crate::alertmanager::nflog::{Datum, Memory};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The server may look closely at a message before it accepts it.
const DATA_TIMEOUT: Duration = Duration::from_mins(2);
/// A header's value is cut beyond this many characters.
const HEADER_CHARS_MAX: usize = 2_000;

const DEFAULT_HTML: &str = "{{ template \"email.default.html\" . }}";
const DEFAULT_TEXT: &str = "{{ template \"email.default.text\" . }}";
const DEFAULT_SUBJECT: &str = "{{ template \"email.default.subject\" . }}";

/// Composes and sends `message`; what it leaves behind is the thread it now belongs to.
pub(super) async fn send(config: &Email, message: &Message<'_>) -> Result<Sent, Failure> {
    let composed = compose(config, message)?;
    transmit(config, &composed).await?;
    Ok(Sent { id: Some(composed.thread.last.clone()), memory: composed.thread.into_memory() })
}

/// The e-mails of one life of a group, to be answered by the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Thread {
    pub(super) root: String,
    pub(super) last: String,
}

const ROOT: &str = "rootMessageId";
const LAST: &str = "lastMessageId";

impl Thread {
    fn from_memory(memory: &Memory) -> Option<Self> {
        match (memory.get(ROOT)?, memory.get(LAST)?) {
            (Datum::Text(root), Datum::Text(last)) => Some(Self { root: root.clone(), last: last.clone() }),
            _ => None,
        }
    }

    pub(super) fn into_memory(self) -> Memory {
        let entries = [(ROOT, self.root), (LAST, self.last)];
        entries.map(|(name, id)| (name.to_owned(), Datum::Text(id))).into()
    }
}

/// A message that is ready to go.
#[derive(Debug)]
pub(super) struct Composed {
    from: Address,
    to: Vec<Address>,
    pub(super) bytes: Vec<u8>,
    pub(super) thread: Thread,
}

pub(super) fn compose(config: &Email, message: &Message<'_>) -> Result<Composed, Failure> {
    let expand = |text: &str, what: &str| {
        let expanded = message.templates.expand(text, &message.data, Mode::Text, message.now);
        expanded.map_err(|e| Failure::last(format!("execute {what} template: {e}")))
    };
    let from = parse_addresses(&expand(&config.from, "'from'")?, "from")?;
    let [from] = from.as_slice() else {
        return Err(Failure::last(format!("must be exactly one 'from' address (got: {})", from.len())));
    };
    let to = parse_addresses(&expand(&config.to, "'to'")?, "to")?;
    let bodies = bodies(config, message);

    let id = format!("<{}.{:016x}@{}>", message.now.as_nanosecond(), fastrand::u64(..), from.email.domain());
    let mut builder = Mail::builder().header(Date::new(message.now.into()));
    let is_set = |wanted: &str| config.headers.keys().any(|name| name.eq_ignore_ascii_case(wanted));
    // Headers of the configuration may show other addresses than those of the envelope.
    let shown = |name: &str| {
        let template = config.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?.1;
        let expanded = expand(template, name).ok()?;
        parse_addresses(&expanded, name).ok().map(Mailboxes::from_iter)
    };
    let shown_from = shown("From").unwrap_or_else(|| Mailboxes::from(from.clone()));
    let shown_to = shown("To").unwrap_or_else(|| to.iter().cloned().collect());
    builder = builder.mailbox(From::from(shown_from)).mailbox(To::from(shown_to));
    if !is_set("Subject") {
        let subject = expand(DEFAULT_SUBJECT, "subject").unwrap_or_else(|e| e.to_string());
        builder = builder.raw_header(header("Subject", &subject)?);
    }
    for (name, text) in &config.headers {
        let is_managed = ["From", "To", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"]
            .iter()
            .any(|managed| name.eq_ignore_ascii_case(managed));
        if is_managed {
            continue;
        }
        // A message with an odd header is better than none.
        let value = expand(text, name).unwrap_or_else(|e| e.to_string());
        builder = builder.raw_header(header(name, &value)?);
    }
    if !is_set("Message-Id") {
        builder = builder.raw_header(header("Message-ID", &id)?);
    }
    let thread = match Thread::from_memory(&message.memory) {
        Some(before) => {
            if !is_set("In-Reply-To") && !is_set("References") {
                builder = builder.raw_header(header("In-Reply-To", &before.last)?);
                let references = if before.root == before.last {
                    before.root.clone()
                } else {
                    format!("{} {}", before.root, before.last)
                };
                builder = builder.raw_header(header("References", &references)?);
            }
            Thread { root: before.root.clone(), last: id }
        }
        None => Thread { root: id.clone(), last: id },
    };
    for (name, value) in [
        ("Auto-Submitted", "auto-generated"),
        ("X-Auto-Response-Suppress", "All"),
        ("X-Ferula-Status", message.data.status()),
    ] {
        if !is_set(name) {
            builder = builder.raw_header(header(name, value)?);
        }
    }
    let envelope = lettre::address::Envelope::new(
        Some(from.email.clone()),
        to.iter().map(|mailbox| mailbox.email.clone()).collect(),
    );
    let envelope = envelope.map_err(|e| Failure::last(format!("address e-mail: {e}")))?;
    let mail = builder.envelope(envelope.clone()).multipart(bodies);
    let mail = mail.map_err(|e| Failure::last(format!("compose e-mail: {e}")))?;
    Ok(Composed { from: from.email.clone(), to: envelope.to().to_vec(), bytes: mail.formatted(), thread })
}

/// The text and the HTML part; when a template fails, a plain one with the error and the bare alerts, for
/// an alert must not be lost to a typing error.
fn bodies(config: &Email, message: &Message<'_>) -> MultiPart {
    let expand = |text: &str, mode| message.templates.expand(text, &message.data, mode, message.now);
    let text = match config.text.as_str() {
        // The default mail has both parts.
        "" if config.html.trim() == DEFAULT_HTML || config.html.is_empty() => DEFAULT_TEXT,
        text => text,
    };
    let parts = expand(text, Mode::Text).and_then(|text| Ok((text, expand(&config.html, Mode::Html)?)));
    let (text, html) = parts.unwrap_or_else(|e| (fallback(&e, message), String::new()));
    let part = |kind: ContentType, body: String| {
        // Quoted-printable takes any text.
        let body =
            Body::new_with_encoding(body, ContentTransferEncoding::QuotedPrintable).unwrap_or_else(Body::new);
        SinglePart::builder().header(kind).body(body)
    };
    let multipart = MultiPart::alternative();
    match (text.is_empty(), html.is_empty()) {
        (false, true) => multipart.singlepart(part(ContentType::TEXT_PLAIN, text)),
        (true, _) => multipart.singlepart(part(ContentType::TEXT_HTML, html)),
        (false, false) => {
            let both = multipart.singlepart(part(ContentType::TEXT_PLAIN, text));
            both.singlepart(part(ContentType::TEXT_HTML, html))
        }
    }
}

fn fallback(error: &template::Error, message: &Message<'_>) -> String {
    let mut out = format!("The template of this message failed: {error}\n\nThe alerts as they are:\n\n");
    for alert in &message.data.alerts {
        out.push_str(alert.status());
        for (name, value) in alert.labels.iter().chain(&alert.annotations) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\n  {name} = {value}");
        }
        out.push_str("\n\n");
    }
    out
}

/// A header whose value cannot contain another: control characters become blanks, what is not ASCII is encoded.
fn header(name: &str, value: &str) -> Result<HeaderValue, Failure> {
    let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
    let name = is_token.then(|| HeaderName::new_from_ascii(name.to_owned()));
    let Some(Ok(name)) = name else {
        return Err(Failure::last("invalid name of an e-mail header"));
    };
    let value: String = value
        .chars()
        .map(|c| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c })
        .take(HEADER_CHARS_MAX)
        .collect();
    Ok(HeaderValue::new(name, value.trim().to_owned()))
}

fn parse_addresses(text: &str, what: &str) -> Result<Vec<Mailbox>, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::last(format!("parse '{what}' addresses: {e}"));
    if text.contains(['\r', '\n']) {
        return Err(bad(&"line break in address"));
    }
    let boxes: Mailboxes = text.parse().map_err(|e: lettre::address::AddressError| bad(&e))?;
    let boxes: Vec<_> = boxes.into_iter().collect();
    if boxes.is_empty() { Err(bad(&"no address")) } else { Ok(boxes) }
}

// === Session ===

async fn transmit(config: &Email, mail: &Composed) -> Result<(), Failure> {
    let (host, port) = config
        .smarthost
        .rsplit_once(':')
        .ok_or_else(|| Failure::last(format!("address {:?}: missing port in address", config.smarthost)))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_implicit = config.force_implicit_tls.unwrap_or(port == "465");
    let tls = || tls_parameters(config, host, is_implicit || config.require_tls);
    let hello = if config.hello.is_empty() { "localhost" } else { config.hello.as_str() };
    let hello = ClientId::Domain(hello.to_owned());

    let implicit = if is_implicit { Some(tls()?) } else { None };
    let server = format!("{}:{port}", if host.contains(':') { format!("[{host}]") } else { host.to_owned() });
    let connect = || {
        let timeout = Some(CONNECT_TIMEOUT);
        let opened =
            AsyncSmtpConnection::connect_tokio1(server.as_str(), timeout, &hello, implicit.clone(), None);
        step("connect to the smarthost", COMMAND_TIMEOUT, opened)
    };
    let mut connection = connect().await?;

    if !is_implicit && connection.can_starttls() {
        let upgraded = step("STARTTLS", COMMAND_TIMEOUT, connection.starttls(tls()?, &hello)).await;
        match upgraded {
            Ok(()) => {}
            Err(failure) if config.require_tls => return Err(failure),
            // TLS was a bonus: without it this server would be used in the clear as well.
            Err(failure) => {
                tracing::warn!(smarthost = config.smarthost, error = %failure, "STARTTLS failed, sending in the clear");
                connection = connect().await?;
            }
        }
    } else if !is_implicit && config.require_tls {
        return Err(Failure::again(format!(
            "'require_tls' is true (default) but {:?} does not advertise the STARTTLS extension",
            config.smarthost
        )));
    }
    authenticate(config, host, &mut connection).await?;
    deliver(&mut connection, mail).await?;
    // The message is accepted; a server that goes without a farewell changes nothing.
    let _ = tokio::time::timeout(COMMAND_TIMEOUT, connection.quit()).await;
    Ok(())
}

async fn deliver(connection: &mut AsyncSmtpConnection, mail: &Composed) -> Result<(), Failure> {
    let mut parameters = Vec::new();
    if connection.server_info().supports_feature(Extension::EightBitMime) {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let from = MailFrom::new(Some(mail.from.clone()), parameters);
    step("MAIL FROM", COMMAND_TIMEOUT, connection.command(from)).await?;
    let mut refused = Vec::new();
    for to in &mail.to {
        match step("RCPT TO", COMMAND_TIMEOUT, connection.command(Rcpt::new(to.clone(), Vec::new()))).await {
            Ok(_) => {}
            // A session that broke is no answer about the recipient.
            Err(failure) if failure.reason == BROKEN => return Err(failure),
            Err(failure) => refused.push((to, failure)),
        }
    }
    if refused.len() == mail.to.len() {
        // One that may be accepted later is reason to come back.
        let worst = refused.into_iter().max_by_key(|(_, failure)| failure.retry);
        return Err(worst.map_or_else(|| Failure::last("no recipients"), |(_, failure)| failure));
    }
    for (to, failure) in &refused {
        tracing::warn!(recipient = %to, error = %failure, "recipient refused, the others get the e-mail");
    }
    step("DATA", COMMAND_TIMEOUT, connection.command(Data)).await?;
    step("send the message", DATA_TIMEOUT, connection.message(&mail.bytes)).await?;
    Ok(())
}

/// The metric's reason of a failure below the protocol.
const BROKEN: &str = "other";

/// One step of the session, within its time; replies become failures that say whether to come back.
async fn step<T>(
    what: &str,
    limit: Duration,
    future: impl Future<Output = Result<T, smtp::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(judge(what, &e)),
        Err(_) => Err(Failure::again(format!("{what}: no answer within {limit:?}"))),
    }
}

fn judge(what: &str, error: &smtp::Error) -> Failure {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    let message = format!("{what}: {error}{source}").replace(['\r', '\n'], " ");
    match error.status().map(u16::from) {
        Some(530 | 534 | 535 | 538) => Failure::last(message).because("authError"),
        Some(500..) => Failure::last(message).because("clientError"),
        Some(_) => Failure::again(message).because("serverError"),
        None => Failure::again(message).because(BROKEN),
    }
}

async fn authenticate(
    config: &Email,
    host: &str,
    connection: &mut AsyncSmtpConnection,
) -> Result<(), Failure> {
    let offered = connection.server_info();
    let mechanisms: Vec<_> = [Mechanism::Plain, Mechanism::Login]
        .into_iter()
        .filter(|mechanism| offered.supports_auth_mechanism(*mechanism))
        .collect();
    let offers_any = !mechanisms.is_empty();
    if config.auth_username.is_empty() || !offers_any {
        return Ok(());
    }
    let is_local = matches!(host, "localhost" | "127.0.0.1" | "::1");
    let mechanism = match mechanisms[0] {
        Mechanism::Plain if !connection.is_encrypted() && !is_local => {
            return Err(Failure::last("PLAIN auth: unencrypted connection").because("authError"));
        }
        mechanism => mechanism,
    };
    let password = read_secret(&config.auth_password).await?;
    if password.is_empty() {
        let name = if mechanism == Mechanism::Plain { "PLAIN" } else { "LOGIN" };
        return Err(Failure::last(format!("missing password for {name} auth mechanism")).because("authError"));
    }
    let credentials = Credentials::new(config.auth_username.clone(), password);
    step("AUTH", COMMAND_TIMEOUT, connection.auth(&[mechanism], &credentials)).await?;
    Ok(())
}

/// The secret itself; a file is read at each use, so that it may be changed.
pub(super) async fn read_secret(source: &SecretSource) -> Result<String, Failure> {
    match source {
        SecretSource::Inline(secret) => Ok(secret.expose().to_owned()),
        SecretSource::File(path) => {
            let read = path.clone();
            let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(read)).await;
            let text = text.map_err(|e| Failure::again(e.to_string()))?;
            let text = text.map_err(|e| Failure::again(format!("read {}: {e}", path.display())))?;
            Ok(text.trim().to_owned())
        }
        SecretSource::Ref(_) => Err(Failure::last("cannot use secret ref without manager".to_owned())),
    }
}

/// TLS as configured. Where it is not demanded any certificate will do, for the alternative is clear text.
fn tls_parameters(config: &Email, host: &str, is_demanded: bool) -> Result<TlsParameters, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::last(format!("parse TLS configuration: {e}"));
    let read = |text: std::io::Result<Vec<u8>>, path: Option<&std::path::Path>| {
        text.map_err(|e| {
            bad(&format_args!("read {}: {e}", path.unwrap_or(std::path::Path::new("")).display()))
        })
    };
    let name = config.tls.server_name.clone().unwrap_or_else(|| host.to_owned());
    let mut builder = TlsParameters::builder(name);
    if let Some(ca) = &config.tls.ca {
        for certificate in split_certificates(&read(ca.read(), ca.path())?) {
            builder = builder.add_root_certificate(Certificate::from_pem(&certificate).map_err(|e| bad(&e))?);
        }
    }
    if let (Some(cert), Some(key)) = (&config.tls.cert, &config.tls.key) {
        let (cert, key) = (read(cert.read(), cert.path())?, read(key.read(), key.path())?);
        let identity = Identity::from_pem(&cert, &key).map_err(|e| bad(&e))?;
        builder = builder.identify_with(identity);
    }
    let accepts_any = config.tls.insecure_skip_verify || (!is_demanded && config.tls.ca.is_none());
    builder.dangerous_accept_invalid_certs(accepts_any).build().map_err(|e| bad(&e))
}

/// The certificates of a PEM file, one by one.
fn split_certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(pem);
    let parts = text.split_inclusive(END).filter(|part| part.contains(END));
    parts.map(|part| part.trim_start().as_bytes().to_vec()).collect()
}
