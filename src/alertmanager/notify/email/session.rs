//! A session with an SMTP server: connection, TLS, login, and one transaction after the other.
//!
//! Each step has its own time and the whole ends at a deadline. What goes wrong is a [`Fault`] that says
//! whether the server answered, and what. It is not decided here whether to come back. The library that the
//! addresses are parsed with speaks SMTP too, but neither CRAM-MD5 nor the server's order of mechanisms,
//! and it knows no answers to single recipients; hence this client of our own.
//!
//! Compat: Go `net/smtp`, `Client`, and alertmanager `notify/email` for order and error texts (0.34). STARTTLS
//! is used where it is demanded and never else; a size that the server does not take is not sent.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::time::Duration;

use config::alertmanager::Email;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::auth;
use super::mime::one_line;
use crate::alertmanager::notify::Failure;
use crate::http_client::{self, TlsSource};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The server may look closely at a message before it accepts it.
const ACCEPT_TIMEOUT: Duration = Duration::from_mins(2);
/// A farewell is a courtesy.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
const CHUNK_BYTES: usize = 64 << 10;
/// RFC 5321 has lines of 512 bytes; some servers are chatty.
const LINE_BYTES_MAX: u64 = 4 << 10;
const LINES_MAX: usize = 200;

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// The text as logs show it.
    pub(super) fn text(&self) -> String {
        let text = one_line(&self.lines.join(" "));
        if text.is_empty() { self.code.to_string() } else { format!("{} {text}", self.code) }
    }
}

/// What kept a step from succeeding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server said no, with this code.
    Refused(u16),
    /// The login failed for good: the server said no, or there is nothing to log in with.
    Login,
    /// The connection failed or broke, or took too long.
    Network,
    /// What this server offers is not what the configuration demands.
    Unsuitable,
    /// The configuration cannot be used, on any server.
    Config,
}

impl Fault {
    pub(super) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into() }
    }

    fn network(what: &str, error: &io::Error) -> Self {
        Self::new(Cause::Network, format!("{what}: {}", words(error)))
    }

    fn refused(what: &str, reply: &Reply) -> Self {
        Self::new(Cause::Refused(reply.code), format!("{what}: {}", reply.text()))
    }

    /// Whether the same may succeed later.
    pub(super) const fn is_temporary(&self) -> bool {
        match self.cause {
            Cause::Refused(code) => code < 500,
            Cause::Network | Cause::Unsuitable => true,
            Cause::Login | Cause::Config => false,
        }
    }

    /// Whether it is the message that is too large.
    pub(super) const fn is_size(&self) -> bool {
        matches!(self.cause, Cause::Refused(552 | 523))
    }

    /// Whether the session can go on after it.
    const fn leaves_session(&self) -> bool {
        // 421 announces that the server hangs up.
        matches!(self.cause, Cause::Refused(code) if code != 421)
    }

    /// The class that metrics count it under.
    pub(super) const fn class(&self) -> &'static str {
        match self.cause {
            Cause::Refused(500..) => "5xx",
            Cause::Refused(_) => "4xx",
            Cause::Login => "auth",
            Cause::Network => "network",
            Cause::Unsuitable | Cause::Config => "config",
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let reason = match fault.cause {
            Cause::Refused(500..) => "clientError",
            Cause::Refused(_) => "serverError",
            Cause::Login => "authError",
            Cause::Network | Cause::Unsuitable | Cause::Config => "other",
        };
        let retry = fault.is_temporary();
        let failure = if retry { Self::again(fault.message) } else { Self::last(fault.message) };
        failure.because(reason)
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => one_line(&error.to_string()),
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Io for T {}

/// An open connection to a server that knows who we are.
pub(super) struct Session {
    io: BufReader<Box<dyn Io>>,
    deadline: Instant,
    /// What EHLO promised: the argument by upper-case keyword.
    extensions: BTreeMap<String, String>,
    pub(super) is_encrypted: bool,
    /// The server's name, as configured.
    pub(super) host: String,
    pub(super) port: String,
    /// Nothing more can be said in this session.
    is_broken: bool,
}

/// The parts of `host:port`; an IPv6 address has brackets.
pub(super) fn split_smarthost(smarthost: &str) -> Result<(&str, &str), Fault> {
    let bad = || Fault::new(Cause::Config, format!("address {smarthost:?}: missing port in address"));
    let (host, port) = smarthost.rsplit_once(':').ok_or_else(bad)?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

impl Session {
    /// Connects, makes TLS as configured and logs in.
    pub(super) async fn open(config: &Email, deadline: Instant) -> Result<Self, Fault> {
        let (host, port) = split_smarthost(&config.smarthost)?;
        let is_implicit = config.force_implicit_tls.unwrap_or(port == "465");
        // What cannot be used is found out before anybody is bothered.
        let tls = is_implicit || config.require_tls;
        let tls = if tls { Some(connector(config)?) } else { None };

        let what = "establish connection to server";
        let number = port
            .parse::<u16>()
            .map_err(|_| Fault::new(Cause::Config, format!("{what}: dial tcp: unknown port {port:?}")))?;
        let stream = within(what, CONNECT_TIMEOUT, deadline, TcpStream::connect((host, number))).await;
        let stream = stream.map_err(|fault| Fault {
            message: fault.message.replacen(": ", &format!(": dial tcp {}: ", config.smarthost), 1),
            ..fault
        })?;
        // Commands are small and each waits for its answer.
        let _ = stream.set_nodelay(true);
        let mut io: Box<dyn Io> = Box::new(stream);
        if is_implicit && let Some(tls) = &tls {
            io = tls.secure("establish TLS connection to server", io, host, deadline).await?;
        }
        let mut session = Self {
            io: BufReader::new(io),
            deadline,
            extensions: BTreeMap::new(),
            is_encrypted: is_implicit,
            host: host.to_owned(),
            port: port.to_owned(),
            is_broken: false,
        };
        session.begin(config, tls).await?;
        Ok(session)
    }

    async fn begin(&mut self, config: &Email, tls: Option<Tls>) -> Result<(), Fault> {
        let greeting = self.reply("create SMTP client", COMMAND_TIMEOUT).await?;
        if greeting.code != 220 {
            return Err(Fault::refused("create SMTP client", &greeting));
        }
        let hello = one_line(&config.hello);
        let hello = if hello.is_empty() { "localhost" } else { &hello };
        self.hello(hello).await?;
        if let Some(tls) = tls.filter(|_| !self.is_encrypted) {
            if self.extension("STARTTLS").is_none() {
                let message = format!(
                    "'require_tls' is true (default) but {:?} does not advertise the STARTTLS extension",
                    config.smarthost
                );
                self.quit().await;
                return Err(Fault::new(Cause::Unsuitable, message));
            }
            self.starttls(&tls).await?;
            self.hello(hello).await?;
        }
        let done = auth::authenticate(config, self).await;
        if done.is_err() {
            self.quit().await;
        }
        done
    }

    /// EHLO, or HELO for servers that do not know it.
    async fn hello(&mut self, name: &str) -> Result<(), Fault> {
        let what = "send EHLO command";
        self.extensions.clear();
        let reply = self.say(what, &format!("EHLO {name}")).await?;
        if reply.code >= 500 {
            return self.command(what, &format!("HELO {name}"), 250).await.map(drop);
        }
        if reply.code != 250 {
            return Err(Fault::refused(what, &reply));
        }
        for line in reply.lines.iter().skip(1) {
            let (keyword, argument) = line.split_once(' ').unwrap_or((line, ""));
            self.extensions.insert(keyword.to_ascii_uppercase(), argument.trim().to_owned());
        }
        Ok(())
    }

    async fn starttls(&mut self, tls: &Tls) -> Result<(), Fault> {
        let what = "send STARTTLS command";
        self.command(what, "STARTTLS", 220).await?;
        if !self.io.buffer().is_empty() {
            // Somebody in between would have the server say what is not encrypted.
            return Err(Fault::new(Cause::Network, format!("{what}: data before the TLS handshake")));
        }
        let plain = std::mem::replace(&mut self.io, BufReader::new(Box::new(tokio::io::empty())));
        let secured = tls.secure(what, plain.into_inner(), &self.host, self.deadline).await?;
        self.io = BufReader::new(secured);
        self.is_encrypted = true;
        Ok(())
    }

    /// The argument of an extension, if the server has it.
    pub(super) fn extension(&self, keyword: &str) -> Option<&str> {
        self.extensions.get(keyword).map(String::as_str)
    }

    /// From now on everything has to be done at `deadline`.
    pub(super) const fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Whether another transaction can be tried.
    pub(super) const fn is_usable(&self) -> bool {
        !self.is_broken
    }

    /// Sends one message; the answer about each of `to`, in order.
    ///
    /// # Errors
    /// Nobody got the message, or that is not known because the connection broke.
    pub(super) async fn transact(
        &mut self,
        from: &str,
        to: &[String],
        message: &[u8],
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let done = self.try_transact(from, to, message).await;
        let refused_all = matches!(&done, Ok(answers) if answers.iter().all(Result::is_err));
        let refused = matches!(&done, Err(fault) if fault.leaves_session());
        if refused_all || refused {
            // The next transaction begins anew.
            if self.command("send RSET command", "RSET", 250).await.is_err() {
                self.is_broken = true;
            }
        } else if done.is_err() {
            self.is_broken = true;
        }
        done
    }

    async fn try_transact(
        &mut self,
        from: &str,
        to: &[String],
        message: &[u8],
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let mut mail = format!("MAIL FROM:<{from}>");
        if let Some(limit) = self.extension("SIZE") {
            if limit.parse().is_ok_and(|limit: usize| limit > 0 && message.len() > limit) {
                let message = format!(
                    "send MAIL command: the message of {} bytes is larger than the server takes ({limit})",
                    message.len()
                );
                return Err(Fault::new(Cause::Refused(552), message));
            }
            mail.extend([" SIZE=", message.len().to_string().as_str()]);
        }
        let is_utf8 = self.extension("SMTPUTF8").is_some();
        if is_utf8 && (!from.is_ascii() || to.iter().any(|to| !to.is_ascii())) {
            mail.push_str(" SMTPUTF8");
        } else if !from.is_ascii() {
            return Err(no_utf8("send MAIL command", from));
        }
        self.command("send MAIL command", &mail, 250).await?;
        let mut answers = Vec::with_capacity(to.len());
        for to in to {
            let what = "send RCPT command";
            if !to.is_ascii() && !is_utf8 {
                answers.push(Err(no_utf8(what, to)));
                continue;
            }
            let reply = self.say(what, &format!("RCPT TO:<{to}>")).await?;
            answers.push(match reply.code {
                200..=299 => Ok(()),
                421 => return Err(Fault::refused(what, &reply)),
                _ => Err(Fault::refused(what, &reply)),
            });
        }
        if answers.iter().all(Result::is_err) {
            return Ok(answers);
        }
        self.command("send DATA command", "DATA", 354).await?;
        let what = "delivery failure";
        self.send_body(what, message).await?;
        let reply = self.reply(what, ACCEPT_TIMEOUT).await?;
        match reply.code {
            200..=299 => Ok(answers),
            _ => Err(Fault::refused(what, &reply)),
        }
    }

    /// The message with its dots doubled, and the dot that ends it.
    async fn send_body(&mut self, what: &str, message: &[u8]) -> Result<(), Fault> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + 1_000);
        for line in message.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                chunk.push(b'.');
            }
            chunk.extend_from_slice(line);
            if chunk.len() >= CHUNK_BYTES {
                self.write(what, &chunk).await?;
                chunk.clear();
            }
        }
        if !message.ends_with(b"\r\n") {
            chunk.extend_from_slice(b"\r\n");
        }
        chunk.extend_from_slice(b".\r\n");
        self.write(what, &chunk).await
    }

    /// Says goodbye; a server that goes without a farewell changes nothing.
    pub(super) async fn quit(&mut self) {
        if !self.is_broken {
            self.is_broken = true;
            self.deadline = self.deadline.min(Instant::now() + QUIT_TIMEOUT);
            let _ = self.say("send QUIT command", "QUIT").await;
        }
        let _ = tokio::time::timeout(QUIT_TIMEOUT, self.io.shutdown()).await;
    }

    // === Lines ===

    /// Says `line` and expects `code`.
    pub(super) async fn command(&mut self, what: &str, line: &str, code: u16) -> Result<Reply, Fault> {
        let reply = self.say(what, line).await?;
        // Servers take some liberty: 251 is a kind of 250.
        if reply.code / 100 == code / 100 { Ok(reply) } else { Err(Fault::refused(what, &reply)) }
    }

    /// Says `line`; what the server answers, whatever it is.
    pub(super) async fn say(&mut self, what: &str, line: &str) -> Result<Reply, Fault> {
        if line.contains(|c: char| c.is_control()) {
            return Err(Fault::new(Cause::Config, format!("{what}: control character in command")));
        }
        self.write(what, format!("{line}\r\n").as_bytes()).await?;
        self.reply(what, COMMAND_TIMEOUT).await
    }

    async fn write(&mut self, what: &str, bytes: &[u8]) -> Result<(), Fault> {
        let io = self.io.get_mut();
        let write = async {
            io.write_all(bytes).await?;
            io.flush().await
        };
        let written = within(what, COMMAND_TIMEOUT, self.deadline, write).await;
        self.is_broken |= written.is_err();
        written
    }

    async fn reply(&mut self, what: &str, limit: Duration) -> Result<Reply, Fault> {
        let read = within(what, limit, self.deadline, read_reply(&mut self.io)).await;
        self.is_broken |= read.is_err();
        read
    }
}

fn no_utf8(what: &str, address: &str) -> Fault {
    let message = format!("{what}: address {address:?} needs SMTPUTF8, which the server does not have");
    // 5.6.7, as a server would say.
    Fault::new(Cause::Refused(553), message)
}

async fn read_reply(io: &mut BufReader<Box<dyn Io>>) -> io::Result<Reply> {
    let bad = |line: &str| io::Error::other(format!("short or odd response: {:?}", one_line(line)));
    let mut reply: Option<Reply> = None;
    loop {
        let mut bytes = Vec::new();
        let n = (&mut *io).take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&bytes);
        if !line.ends_with('\n') {
            // Cut off in its middle, or endless.
            let is_long = bytes.len() as u64 == LINE_BYTES_MAX;
            return Err(if is_long {
                bad("a line without end")
            } else {
                io::ErrorKind::UnexpectedEof.into()
            });
        }
        let line = line.trim_end();
        let code = line.get(..3).and_then(|code| code.parse().ok()).filter(|code| (200..600).contains(code));
        let code: u16 = code.ok_or_else(|| bad(line))?;
        let (is_last, text) = match line.get(3..4) {
            None => (true, ""),
            Some(" ") => (true, &line[4..]),
            Some("-") => (false, &line[4..]),
            Some(_) => return Err(bad(line)),
        };
        let reply = reply.get_or_insert_with(|| Reply { code, lines: Vec::new() });
        if reply.code != code || reply.lines.len() >= LINES_MAX {
            return Err(bad(line));
        }
        reply.lines.push(text.to_owned());
        if is_last {
            return Ok(reply.clone());
        }
    }
}

/// A step within its own time and that of the whole.
async fn within<T>(
    what: &str,
    limit: Duration,
    deadline: Instant,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, Fault> {
    let end = deadline.min(Instant::now() + limit);
    match tokio::time::timeout_at(end, step).await {
        Ok(done) => done.map_err(|e| Fault::network(what, &e)),
        Err(_) if end == deadline => {
            Err(Fault::new(Cause::Network, format!("{what}: context deadline exceeded")))
        }
        Err(_) => Err(Fault::new(Cause::Network, format!("{what}: no answer within {limit:?}"))),
    }
}

// === TLS ===

struct Tls {
    connector: TlsConnector,
    name: Option<String>,
}

fn connector(config: &Email) -> Result<Tls, Fault> {
    let source = TlsSource::new(config.tls.clone(), &[]);
    let bad = |e: http_client::Error| Fault::new(Cause::Config, format!("parse TLS configuration: {e}"));
    let client = source.current().map_err(bad)?;
    Ok(Tls { connector: TlsConnector::from(client), name: source.server_name().map(str::to_owned) })
}

impl Tls {
    async fn secure(
        &self,
        what: &str,
        io: Box<dyn Io>,
        host: &str,
        deadline: Instant,
    ) -> Result<Box<dyn Io>, Fault> {
        let name = self.name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name.clone())
            .map_err(|_| Fault::new(Cause::Config, format!("{what}: invalid server name {name:?}")))?;
        let handshake = async {
            let stream = self.connector.connect(name, io).await.map_err(|e| {
                // The words for HTTP do not fit.
                let why = http_client::explain(&e);
                let is_plain = why.starts_with("http: ");
                let plain = "tls: first record does not look like a TLS handshake";
                io::Error::other(if is_plain { plain.to_owned() } else { why })
            })?;
            Ok(Box::new(stream) as Box<dyn Io>)
        };
        within(what, COMMAND_TIMEOUT, deadline, handshake).await
    }
}
