//! Which connections leave through a proxy, and how one is asked to let us through.
//!
//! Compat: prometheus/common `config`, `ProxyConfig`; Go `golang.org/x/net/http/httpproxy` for the rules and `net/http` for
//! what is said to the proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use url::Url;

use super::Error;
use super::headers::{basic_value, sensitive};

/// The proxies of one block of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    /// `None` where everything is sent through the proxy, this very host included.
    exceptions: Option<Arc<Exceptions>>,
}

/// One proxy.
pub struct Proxy {
    url: Url,
    pub kind: Kind,
    pub host: String,
    pub port: u16,
    /// Sent with CONNECT.
    connect_headers: HeaderMap,
    authorization: Option<HeaderValue>,
}

/// The language of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Http,
    /// The same over TLS.
    Https,
    Socks5,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}:{}", self.kind, self.host, self.port)
    }
}

impl Proxies {
    /// # Errors
    /// The URL is none, or a header cannot be sent.
    pub fn new(config: &config::http_client::Proxy) -> Result<Self, Error> {
        Self::with_environment(config, |name| std::env::var(name).ok())
    }

    fn with_environment(
        config: &config::http_client::Proxy,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Error> {
        let mut headers = HeaderMap::new();
        for (name, values) in &config.connect_headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header("proxy_connect_header"))?;
            for value in values {
                headers.append(name.clone(), sensitive(value.expose(), "proxy_connect_header")?);
            }
        }
        if config.from_environment {
            let variable = |upper: &str, lower: &str| {
                [upper, lower].into_iter().find_map(|name| variable(name).filter(|text| !text.is_empty()))
            };
            let proxy = |text: Option<String>| {
                // What cannot be understood there is ignored.
                let proxy = text.and_then(|text| Proxy::parse(&text, &headers).ok());
                proxy.map(Arc::new)
            };
            return Ok(Self {
                http: proxy(variable("HTTP_PROXY", "http_proxy")),
                https: proxy(variable("HTTPS_PROXY", "https_proxy")),
                exceptions: Some(Arc::new(Exceptions::parse(
                    &variable("NO_PROXY", "no_proxy").unwrap_or_default(),
                ))),
            });
        }
        let Some(url) = config.url.as_ref().filter(|url| !url.is_empty()) else { return Ok(Self::default()) };
        let proxy = Some(Arc::new(Proxy::parse(url.expose(), &headers)?));
        let exceptions = (!config.no_proxy.is_empty()).then(|| Arc::new(Exceptions::parse(&config.no_proxy)));
        Ok(Self { http: proxy.clone(), https: proxy, exceptions })
    }

    pub fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }

    /// The proxy through which `host` is reached; `None` if it is reached directly. An IPv6 address comes without brackets.
    pub fn of(&self, is_tls: bool, host: &str, port: u16) -> Option<&Arc<Proxy>> {
        let proxy = if is_tls { self.https.as_ref() } else { self.http.as_ref() };
        proxy.filter(|_| !self.exceptions.as_ref().is_some_and(|rules| rules.contain(host, port)))
    }

    /// The same rules for the other client.
    pub(super) fn for_reqwest(&self) -> Vec<reqwest::Proxy> {
        let rule = |proxy: &Arc<Proxy>, scheme: &'static str| {
            let rules = self.clone();
            let mut url = proxy.url.clone();
            if proxy.kind == Kind::Socks5 {
                // There, `socks5` would resolve names itself. Fails for no scheme that is no special one.
                let _ = url.set_scheme("socks5h");
            }
            let of =
                move |to: &Url| (to.scheme() == scheme && rules.of_url(to).is_some()).then(|| url.clone());
            reqwest::Proxy::custom(of)
        };
        let http = self.http.iter().map(|proxy| rule(proxy, "http"));
        // The headers are for CONNECT alone: what is sent to the proxy as it is would pass them on to the target.
        let https =
            self.https.iter().map(|proxy| rule(proxy, "https").headers(proxy.connect_headers.clone()));
        http.chain(https).collect()
    }

    /// The same for a URL.
    pub(super) fn of_url(&self, url: &Url) -> Option<&Arc<Proxy>> {
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
        self.of(url.scheme() == "https", host, url.port_or_known_default()?)
    }
}

impl Proxy {
    fn parse(text: &str, connect_headers: &HeaderMap) -> Result<Self, Error> {
        // What the parser says of a URL may hold a password.
        let bad = |what: &str| Error::Proxy(format!("unable to use the configured proxy URL: {what}"));
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&whole).map_err(|_| bad("it is none"))?;
        let (kind, default_port) = match url.scheme() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            other => return Err(bad(&format!("unsupported proxy scheme {other:?}"))),
        };
        let host = url.host_str().ok_or_else(|| bad("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (user, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        let authorization = match (user.is_empty(), url.password()) {
            (true, None) => None,
            _ => Some(basic_value(&user, &password)?),
        };
        let port = url.port().unwrap_or(default_port);
        Ok(Self { kind, host, port, connect_headers: connect_headers.clone(), authorization, url })
    }

    /// What a request that is handed over to the proxy as it is needs besides its own headers.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Asks over `stream`, which is connected to the proxy, for a connection to `host`.
    ///
    /// # Errors
    /// The proxy refuses or says something else; the text is the user's.
    pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        host: &str,
        port: u16,
    ) -> Result<(), String> {
        match self.kind {
            Kind::Http | Kind::Https => self.connect(stream, host, port).await,
            Kind::Socks5 => {
                let text = |what: &str| {
                    format!("socks connect tcp {}:{}->{host}:{port}: {what}", self.host, self.port)
                };
                self.socks5(stream, host, port).await.map_err(|error| text(&error))
            }
        }
    }

    async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        host: &str,
        port: u16,
    ) -> Result<(), String> {
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        let authorization = self.authorization.iter().map(|value| (&PROXY_AUTHORIZATION, value));
        for (name, value) in self.connect_headers.iter().chain(authorization) {
            request.extend_from_slice(name.as_str().as_bytes());
            request.extend_from_slice(b": ");
            request.extend_from_slice(value.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await.map_err(|error| super::plain(&error))?;
        let head = read_head(stream).await?;
        let status = head.split("\r\n").next().unwrap_or_default();
        let mut words = status.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(version), Some("200"), _) if version.starts_with("HTTP/1.") => Ok(()),
            (Some(version), Some(_), Some(text)) if version.starts_with("HTTP/1.") && !text.is_empty() => {
                Err(text.to_owned())
            }
            (Some(version), Some(code), _) if version.starts_with("HTTP/1.") => {
                Err(format!("proxy answered with status {code}"))
            }
            _ => Err(format!("malformed HTTP response {status:?}")),
        }
    }

    /// RFC 1928 and, where there is a user name, RFC 1929. Names are resolved by the proxy.
    async fn socks5<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        host: &str,
        port: u16,
    ) -> Result<(), String> {
        const VERSION: u8 = 5;
        const NO_AUTHENTICATION: u8 = 0;
        const PASSWORD: u8 = 2;
        let io = |error: std::io::Error| super::plain(&error);
        let counted = |text: &str, what: &str| {
            let n = u8::try_from(text.len()).map_err(|_| format!("{what} too long"))?;
            Ok::<_, String>([&[n], text.as_bytes()].concat())
        };
        let methods: &[u8] = if self.authorization.is_some() {
            &[VERSION, 2, NO_AUTHENTICATION, PASSWORD]
        } else {
            &[VERSION, 1, NO_AUTHENTICATION]
        };
        stream.write_all(methods).await.map_err(io)?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.map_err(io)?;
        match answer {
            [VERSION, NO_AUTHENTICATION] => {}
            [VERSION, PASSWORD] if self.authorization.is_some() => {
                let user = counted(&decoded(self.url.username()), "user name")?;
                let password = counted(&decoded(self.url.password().unwrap_or_default()), "password")?;
                stream.write_all(&[&[1], &user[..], &password].concat()).await.map_err(io)?;
                stream.read_exact(&mut answer).await.map_err(io)?;
                if answer[1] != 0 {
                    return Err("username/password authentication failed".to_owned());
                }
            }
            [VERSION, _] => return Err("no acceptable authentication methods".to_owned()),
            [version, _] => return Err(format!("unexpected protocol version {version}")),
        }
        let address = match host.parse() {
            Ok(IpAddr::V4(ip)) => [&[1], &ip.octets()[..]].concat(),
            Ok(IpAddr::V6(ip)) => [&[4], &ip.octets()[..]].concat(),
            Err(_) => [&[3], &counted(host, "host name")?[..]].concat(),
        };
        let request = [&[VERSION, 1, 0], &address[..], &port.to_be_bytes()].concat();
        stream.write_all(&request).await.map_err(io)?;
        let mut head = [0; 4];
        stream.read_exact(&mut head).await.map_err(io)?;
        if head[0] != VERSION {
            return Err(format!("unexpected protocol version {}", head[0]));
        }
        if head[1] != 0 {
            return Err(format!("unknown error {}", socks5_reason(head[1])));
        }
        // The address that the proxy is known by over there, which is nothing to us.
        let n = match head[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await.map_err(io)?),
            other => return Err(format!("unknown address type {other}")),
        };
        let mut rest = [0; 257];
        stream.read_exact(&mut rest[..n + 2]).await.map_err(io)?;
        Ok(())
    }
}

fn socks5_reason(code: u8) -> String {
    let known = match code {
        1 => "general SOCKS server failure",
        2 => "connection not allowed by ruleset",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "command not supported",
        8 => "address type not supported",
        other => return format!("unknown code: {other}"),
    };
    known.to_owned()
}

/// A head of HTTP without a byte beyond it: what follows belongs to the tunnel.
async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, String> {
    const BYTES_MAX: usize = 16 << 10;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == BYTES_MAX {
            return Err(format!("the proxy's answer exceeds {BYTES_MAX} bytes"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err("unexpected EOF".to_owned());
            }
            Err(error) => return Err(super::plain(&error)),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Who is reached without the proxy: this very host, and what `no_proxy` lists.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exceptions(Vec<Exception>);

#[derive(Debug, PartialEq, Eq)]
enum Exception {
    Everything,
    Network {
        ip: IpAddr,
        bits: u8,
    },
    Address {
        ip: IpAddr,
        port: Option<u16>,
    },
    /// `suffix` begins with a dot; the name without it matches only if `itself`.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Exceptions {
    fn parse(list: &str) -> Self {
        Self(list.split(',').filter_map(|entry| Exception::parse(&entry.trim().to_lowercase())).collect())
    }

    fn contain(&self, host: &str, port: u16) -> bool {
        let host = host.to_lowercase();
        let ip = host.parse().ok().map(canonical);
        host == "localhost"
            || ip.is_some_and(|ip| ip.is_loopback())
            || self.0.iter().any(|exception| exception.matches(&host, ip, port))
    }
}

impl Exception {
    /// `None` for what is empty or makes no sense.
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Some((ip, bits)) = entry.split_once('/')
            && let (Ok(ip), Ok(bits)) = (ip.parse::<IpAddr>(), bits.parse())
            && bits <= if ip.is_ipv4() { 32 } else { 128 }
        {
            return Some(Self::Network { ip, bits });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.starts_with('[') && host.ends_with(']') => {
                // A port that is no number equals no port.
                (host.trim_start_matches('[').trim_end_matches(']'), Some(port.parse().unwrap_or(0)))
            }
            _ => (entry, None),
        };
        if host.is_empty() {
            return None;
        }
        if let Ok(ip) = host.parse() {
            return Some(Self::Address { ip: canonical(ip), port });
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let (name, itself) = host.strip_prefix('.').map_or((host, true), |name| (name, false));
        let name = match url::Host::parse(name) {
            Ok(url::Host::Domain(name)) => name,
            _ => name.to_owned(),
        };
        Some(Self::Domain { suffix: format!(".{name}"), itself, port })
    }

    fn matches(&self, host: &str, ip: Option<IpAddr>, at: u16) -> bool {
        let is_port = |port: &Option<u16>| port.is_none_or(|port| port == at);
        match self {
            Self::Everything => true,
            Self::Network { ip: network, bits } => ip.is_some_and(|ip| is_in(ip, *network, *bits)),
            Self::Address { ip: other, port } => ip == Some(*other) && is_port(port),
            Self::Domain { suffix, itself, port } => {
                (host.ends_with(suffix.as_str()) || *itself && *host == suffix[1..]) && is_port(port)
            }
        }
    }
}

/// An IPv4 address also where it is written as IPv6.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn is_in(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |a: u128, b: u128, width: u32| {
        let host_bits = width - u32::from(bits);
        // A shift by the whole width leaves nothing to differ.
        a.checked_shr(host_bits).unwrap_or(0) == b.checked_shr(host_bits).unwrap_or(0)
    };
    let v4 = |ip: Ipv4Addr| u128::from(ip.to_bits());
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(v4(a), v4(b), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(Ipv6Addr::to_bits(a), Ipv6Addr::to_bits(b), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
