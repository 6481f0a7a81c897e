//! URLs as the reference server reads and prints them: which texts it takes, how it writes them back, and
//! with the password hidden.
//!
//! The `url` crate follows another standard, which normalises more and refuses other texts.
//!
//! Compat: Go `net/url` (1.26), `Parse`, `URL.String` and `URL.Redacted`.

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

use model::quote::go_quote;

use crate::yaml::{Decode, Decoded, Decoder, Issue, Node};

/// What stands for a password in a printed URL.
const HIDDEN: &str = "xxxxx";

/// A URL or a reference without scheme or host. Debugs without its password.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Uri {
    /// In lower case; empty for none.
    pub(crate) scheme: String,
    /// What follows the scheme if that is not a slash.
    opaque: String,
    user: Option<(String, Option<String>)>,
    /// With the port, escaped.
    pub(crate) host: String,
    /// `file:/x` as opposed to `file:///x`.
    has_no_authority: bool,
    path: String,
    query: Option<String>,
    fragment: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    User,
    Host,
    Zone,
    Path,
    Fragment,
}

impl Uri {
    /// Reads `text`; the message of a refusal is the reference server's.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fail =
            |whole: &str, reason: String| format!("parse {}: {reason}", go_quote(hide(whole).as_bytes()));
        let (body, fragment) = text.split_once('#').unwrap_or((text, ""));
        let mut uri = Self::parse_body(body).map_err(|reason| fail(body, reason))?;
        uri.fragment = canonical(fragment, Part::Fragment).map_err(|reason| fail(text, reason))?;
        Ok(uri)
    }

    fn parse_body(text: &str) -> Result<Self, String> {
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (scheme, rest) = split_scheme(text)?;
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        let mut uri = Self { scheme: scheme.to_ascii_lowercase(), query, ..Self::default() };
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                rest.clone_into(&mut uri.opaque);
                return Ok(uri);
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        let mut path = rest;
        match rest.strip_prefix("//") {
            Some(authority) if !scheme.is_empty() || !rest.starts_with("///") => {
                let (authority, tail) =
                    authority.find('/').map_or((authority, ""), |slash| authority.split_at(slash));
                uri.parse_authority(authority)?;
                path = tail;
            }
            _ => uri.has_no_authority = !scheme.is_empty(),
        }
        uri.path = canonical(path, Part::Path)?;
        Ok(uri)
    }

    fn parse_authority(&mut self, authority: &str) -> Result<(), String> {
        let (user, host) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        self.host = parse_host(&self.scheme, host)?;
        let Some(user) = user else { return Ok(()) };
        let is_valid = |b: u8| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b);
        if !user.bytes().all(is_valid) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        let part = |text: &str| Ok::<_, String>(escape(&unescape(text, Part::User)?, Part::User));
        self.user = Some(match user.split_once(':') {
            Some((name, password)) => (part(name)?, Some(part(password)?)),
            None => (part(user)?, None),
        });
        Ok(())
    }

    /// The whole, with the password in it.
    pub(crate) fn expose(&self) -> String {
        self.write(self.user.as_ref().and_then(|(_, password)| password.as_deref()))
    }

    /// Adds a slash to a path that does not end in one.
    pub(crate) fn end_in_slash(&mut self) {
        if !self.path.ends_with('/') {
            self.path.push('/');
        }
    }

    pub(crate) fn has_password(&self) -> bool {
        self.user.as_ref().is_some_and(|(_, password)| password.is_some())
    }

    fn write(&self, password: Option<&str>) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out = format!("{}:", self.scheme);
        }
        if self.opaque.is_empty() {
            let has_authority = !self.host.is_empty() || self.user.is_some();
            let is_absolute = !self.scheme.is_empty() && !self.has_no_authority;
            if has_authority || (is_absolute && !self.path.is_empty()) {
                out.push_str("//");
            }
            if let Some((name, _)) = &self.user {
                out.push_str(name);
                if let Some(password) = password {
                    out.push(':');
                    out.push_str(password);
                }
                out.push('@');
            }
            out.push_str(&self.host);
            if !self.host.is_empty() && !self.path.is_empty() && !self.path.starts_with('/') {
                out.push('/');
            }
            if out.is_empty() && self.path.split('/').next().is_some_and(|segment| segment.contains(':')) {
                out.push_str("./");
            }
            out.push_str(&self.path);
        } else {
            out.push_str(&self.opaque);
        }
        if let Some(query) = &self.query {
            out.push('?');
            out.push_str(query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&self.fragment);
        }
        out
    }
}

impl fmt::Display for Uri {
    /// With the password hidden.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(self.has_password().then_some(HIDDEN)))
    }
}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Decode for Uri {
    const GO_TYPE: &'static str = "string";

    fn decode(decoder: &mut Decoder, node: &Node) -> Decoded<Self> {
        let Some(text) = String::decode(decoder, node)? else { return Ok(None) };
        Self::parse(&text).map(Some).map_err(|text| Issue::new(node.pos, text))
    }
}

/// A text that is no URL without what looks like a password in it; upstream shows it all.
fn hide(text: &str) -> String {
    let hidden = || {
        let (scheme, rest) = text.split_once("//")?;
        let (user, host) = rest.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}//{name}:{HIDDEN}@{host}"))
    };
    hidden().unwrap_or_else(|| text.to_owned())
}

/// The scheme, empty if there is none, and what follows it.
fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c));
    match end {
        Some(0) if text.starts_with(':') => Err("missing protocol scheme".to_owned()),
        Some(end) if text[end..].starts_with(':') && text.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            Ok((&text[..end], &text[end + 1..]))
        }
        _ => Ok(("", text)),
    }
}

fn parse_host(scheme: &str, host: &str) -> Result<String, String> {
    let check_port = |port: &str| {
        let is_valid = port.strip_prefix(':').unwrap_or("x").bytes().all(|b| b.is_ascii_digit());
        if port.is_empty() || is_valid {
            return Ok(());
        }
        Err(format!("invalid port {} after host", go_quote(port.as_bytes())))
    };
    match host.rfind('[') {
        Some(0) => {
            let close = host.rfind(']').ok_or("missing ']' in host")?;
            let (name, port) = (&host[1..close], &host[close + 1..]);
            check_port(port)?;
            let mut bytes;
            match name.find("%25") {
                Some(zone) => {
                    bytes = unescape(&name[..zone], Part::Host)?;
                    bytes.extend(unescape(&name[zone..], Part::Zone)?);
                }
                None => bytes = unescape(name, Part::Host)?,
            }
            check_ip_literal(&bytes)?;
            return Ok(format!("[{}]{port}", escape(&bytes, Part::Host)));
        }
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    // Only here may a host hold several colons.
    let colon = if matches!(scheme, "http" | "https") { host.find(':') } else { host.rfind(':') };
    if let Some(colon) = colon {
        check_port(&host[colon..])?;
    }
    Ok(escape(&unescape(host, Part::Host)?, Part::Host))
}

fn check_ip_literal(name: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(name);
    let (address, zone) = text.split_once('%').map_or((&*text, None), |(a, zone)| (a, Some(zone)));
    if address.parse::<Ipv6Addr>().is_ok() && zone != Some("") {
        return Ok(());
    }
    if zone.is_none() && address.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err("invalid IP-literal".to_owned());
    }
    Err(format!("invalid host: ParseAddr({}): unable to parse IP", go_quote(name)))
}

/// As it is printed: as it was written if that is a valid escaping, else escaped anew.
fn canonical(text: &str, part: Part) -> Result<String, String> {
    let bytes = unescape(text, part)?;
    let is_valid = |b: u8| b"!$&'()*+,;=:@[]%".contains(&b) || !must_escape(b, part);
    Ok(if text.bytes().all(is_valid) { text.to_owned() } else { escape(&bytes, part) })
}

fn must_escape(b: u8, part: Part) -> bool {
    let is_host = matches!(part, Part::Host | Part::Zone);
    if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
        return false;
    }
    if is_host && b"!$&'()*+,;=:[]<>\"".contains(&b) {
        return false;
    }
    match (b, part) {
        (b'?', Part::Path) | (b'@' | b'/' | b'?' | b':', Part::User) => true,
        (b'$' | b'&' | b'+' | b',' | b'/' | b':' | b';' | b'=' | b'?' | b'@', _) => is_host,
        (b'!' | b'(' | b')' | b'*', Part::Fragment) => false,
        _ => true,
    }
}

fn escape(bytes: &[u8], part: Part) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &b in bytes {
        if must_escape(b, part) {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{b:02X}");
        } else {
            out.push(char::from(b));
        }
    }
    out
}

fn unescape(text: &str, part: Part) -> Result<Vec<u8>, String> {
    let is_host = matches!(part, Part::Host | Part::Zone);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        if b != b'%' {
            if is_host && b < 0x80 && must_escape(b, part) {
                return Err(format!("invalid character {} in host name", go_quote(&[b])));
            }
            out.push(b);
            i += 1;
            continue;
        }
        let code = &bytes[i..bytes.len().min(i + 3)];
        let refuse = || format!("invalid URL escape {}", go_quote(code));
        let hex = |at: usize| code.get(at).and_then(|&b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (hex(1), hex(2)) else { return Err(refuse()) };
        let value = u8::try_from(high * 16 + low).expect("two hexadecimal digits fit into a byte");
        let is_forbidden = match part {
            Part::Host => high < 8 && code != b"%25",
            Part::Zone => code != b"%25" && value != b' ' && must_escape(value, Part::Host),
            _ => false,
        };
        if is_forbidden {
            return Err(refuse());
        }
        out.push(value);
        i += 3;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::Uri;

    /// What the reference library prints for these, password shown and hidden.
    #[test]
    fn prints_as_go() {
        for (text, printed) in [
            ("", ""),
            ("http://x", "http://x"),
            ("HTTP://u:p%40@Host:80/a b?q=ü c#f g", "http://u:xxxxx@Host:80/a%20b?q=ü c#f%20g"),
            ("http://u@h/", "http://u@h/"),
            ("http://u:@h/", "http://u:xxxxx@h/"),
            ("mailto:a@b", "mailto:a@b"),
            ("/x/y", "/x/y"),
            ("//h/p", "//h/p"),
            ("///p", "///p"),
            ("file:///p", "file:///p"),
            ("file:/p", "file:/p"),
            ("http://[::1%25eth0]:9/", "http://[::1%25eth0]:9/"),
            ("http://h?", "http://h?"),
            ("a/b:c", "a/b:c"),
            ("http://", "http:"),
            ("localhost:9090", "localhost:9090"),
            ("http://h/%2f", "http://h/%2f"),
            ("http://h/a[b]|", "http://h/a%5Bb%5D%7C"),
            ("postgres://a:1,b:2/x", "postgres://a:1,b:2/x"),
            ("http://ü/ü", "http://%C3%BC/%C3%BC"),
        ] {
            let uri = Uri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(uri.to_string(), printed, "{text}");
        }
        assert_eq!(Uri::parse("http://u:p%40@h").unwrap().expose(), "http://u:p%40@h");
        assert_eq!(format!("{:?}", Uri::parse("http://u:p@h").unwrap()), "http://u:xxxxx@h");
    }

    #[test]
    fn refuses_as_go() {
        for (text, message) in [
            (":x", r#"parse ":x": missing protocol scheme"#),
            ("1:x", r#"parse "1:x": first path segment in URL cannot contain colon"#),
            ("http://h:x", r#"parse "http://h:x": invalid port ":x" after host"#),
            ("http://a:1:2", r#"parse "http://a:1:2": invalid port ":1:2" after host"#),
            ("http://[::1", r#"parse "http://[::1": missing ']' in host"#),
            ("http://x[::1]", r#"parse "http://x[::1]": invalid IP-literal"#),
            ("http://[1.2.3.4]", r#"parse "http://[1.2.3.4]": invalid IP-literal"#),
            ("http://a b/", r#"parse "http://a b/": invalid character " " in host name"#),
            ("http://h/%zz", r#"parse "http://h/%zz": invalid URL escape "%zz""#),
            ("http://%41/", r#"parse "http://%41/": invalid URL escape "%41""#),
            ("http://{@h", r#"parse "http://{@h": net/url: invalid userinfo"#),
            ("http://u:se cret@h", r#"parse "http://u:xxxxx@h": net/url: invalid userinfo"#),
            ("h\n", r#"parse "h\n": net/url: invalid control character in URL"#),
            ("/x#%", r##"parse "/x#%": invalid URL escape "%""##),
        ] {
            assert_eq!(Uri::parse(text).unwrap_err(), message);
        }
    }
}
