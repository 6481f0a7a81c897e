//! URLs as the reference server judges and prints them: what it refuses has its words, passwords are masked.
//!
//! Neither resolves nor connects, and knows nothing of any configuration key.
//!
//! Compat: Go `net/url`, `Parse` and `URL.Redacted`.

use std::net::Ipv6Addr;

use model::quote::go_quote;

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct GoUrl {
    /// In lower case.
    pub(crate) scheme: String,
    /// All that follows a scheme without a slash.
    opaque: String,
    /// Both decoded.
    user: Option<(String, Option<String>)>,
    /// Decoded, with the port.
    pub(crate) host: String,
    /// As written.
    path: String,
    query: Option<String>,
    fragment: String,
    /// `file:/x` instead of `file:///x`.
    omits_host: bool,
}

/// What may stand unescaped beside letters, digits and `-._~`.
const HOST: &str = "!\"$&'()*+,:;<=>[]";
const USER: &str = "$&+,;=";
const PATH: &str = "$&+,/:;=@";
const FRAGMENT: &str = "!$&()*+,/:;=?@";

impl GoUrl {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// `parse "text": reason`; a password in the text is masked.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let fail =
            |text: &str, reason: String| format!("parse {}: {reason}", go_quote(masked(text).as_bytes()));
        let mut parsed = Self::parse_parts(url).map_err(|reason| fail(url, reason))?;
        fragment.clone_into(&mut parsed.fragment);
        unescape(fragment, None).map_err(|reason| fail(text, reason))?;
        Ok(parsed)
    }

    fn parse_parts(text: &str) -> Result<Self, String> {
        let mut url = Self::default();
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        if text == "*" {
            text.clone_into(&mut url.path);
            return Ok(url);
        }
        let (scheme, rest) = split_scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase();
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, Some(query.to_owned())),
            None => (rest, None),
        };
        url.query = query;
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                rest.clone_into(&mut url.opaque);
                return Ok(url);
            }
            if rest.split('/').next().is_some_and(|segment| segment.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        let has_authority = rest.starts_with("//") && (!url.scheme.is_empty() || !rest.starts_with("///"));
        let path = if has_authority {
            let authority = &rest[2..];
            let end = authority.find('/').unwrap_or(authority.len());
            url.parse_authority(&authority[..end])?;
            &authority[end..]
        } else {
            url.omits_host = !url.scheme.is_empty() && rest.starts_with('/');
            rest
        };
        unescape(path, None)?;
        path.clone_into(&mut url.path);
        Ok(url)
    }

    fn parse_authority(&mut self, authority: &str) -> Result<(), String> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        self.host = parse_host(host)?;
        let Some(user) = user else { return Ok(()) };
        let is_valid = |c: char| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c);
        if !user.chars().all(is_valid) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        self.user = Some(match user.split_once(':') {
            Some((name, password)) => (unescape(name, None)?, Some(unescape(password, None)?)),
            None => (unescape(user, None)?, None),
        });
        Ok(())
    }

    pub(crate) fn has_password(&self) -> bool {
        self.user.as_ref().is_some_and(|(_, password)| password.is_some())
    }

    /// The URL with `xxxxx` for the password.
    pub(crate) fn redacted(&self) -> String {
        let mut out = String::new();
        if !self.scheme.is_empty() {
            out.push_str(&self.scheme);
            out.push(':');
        }
        if self.opaque.is_empty() {
            let path = escaped(&self.path, PATH, "!'()*[]");
            let has_authority = !self.host.is_empty() || self.user.is_some();
            if has_authority || !(self.scheme.is_empty() || self.omits_host || path.is_empty()) {
                out.push_str("//");
            }
            if let Some((name, password)) = &self.user {
                out.push_str(&escape(name.as_bytes(), USER));
                out.push_str(if password.is_some() { ":xxxxx@" } else { "@" });
            }
            out.push_str(&escape(self.host.as_bytes(), HOST));
            if !path.is_empty() && !path.starts_with('/') && !self.host.is_empty() {
                out.push('/');
            }
            out.push_str(&path);
        } else {
            out.push_str(&self.opaque);
        }
        if let Some(query) = &self.query {
            out.push('?');
            out.push_str(query);
        }
        if !self.fragment.is_empty() {
            out.push('#');
            out.push_str(&escaped(&self.fragment, FRAGMENT, "'[]"));
        }
        out
    }
}

/// `text` with what looks like the password of a URL masked.
fn masked(text: &str) -> String {
    let Some(start) = text.find("//").map(|i| i + 2) else { return text.to_owned() };
    let end = text[start..].find('/').map_or(text.len(), |i| start + i);
    let Some(at) = text[start..end].rfind('@').map(|i| start + i) else { return text.to_owned() };
    match text[start..at].find(':') {
        Some(colon) => format!("{}:xxxxx{}", &text[..start + colon], &text[at..]),
        None => text.to_owned(),
    }
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn parse_host(host: &str) -> Result<String, String> {
    let check_port = |port: &str| match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Ok(()),
        None if port.is_empty() => Ok(()),
        _ => Err(format!("invalid port {} after host", go_quote(port.as_bytes()))),
    };
    match host.rfind('[') {
        Some(0) => {
            let close = host.rfind(']').ok_or("missing ']' in host")?;
            check_port(&host[close + 1..])?;
            let literal = &host[1..close];
            let (address, zone) = literal.find("%25").map_or((literal, ""), |i| literal.split_at(i));
            let address = unescape(address, Some(HOST))?;
            if address.parse::<std::net::Ipv4Addr>().is_ok() {
                return Err("invalid IP-literal".to_owned());
            }
            if address.parse::<Ipv6Addr>().is_err() {
                let shown = go_quote(format!("{address}{zone}").as_bytes());
                return Err(format!("invalid host: ParseAddr({shown}): unable to parse IP"));
            }
            return Ok(format!("[{address}{}]{}", unescape(zone, None)?, &host[close + 1..]));
        }
        Some(_) => return Err("invalid IP-literal".to_owned()),
        None => {}
    }
    if let Some(colon) = host.rfind(':') {
        check_port(&host[colon..])?;
    }
    unescape(host, Some(HOST))
}

fn is_plain(byte: u8, also: &str) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.as_bytes().contains(&byte)
}

/// Decodes `%xx`. In a host, whose characters are restricted, it may stand for what is beyond ASCII only.
fn unescape(text: &str, host: Option<&str>) -> Result<String, String> {
    let invalid = |at: usize| {
        let shown: String = text[at..].chars().take(3).collect();
        format!("invalid URL escape {}", go_quote(shown.as_bytes()))
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes().enumerate();
    while let Some((i, byte)) = rest.next() {
        if byte == b'%' {
            let digit = |at: usize| text.as_bytes().get(at).and_then(|b| char::from(*b).to_digit(16));
            let (Some(high), Some(low)) = (digit(i + 1), digit(i + 2)) else { return Err(invalid(i)) };
            if host.is_some() && high < 8 && (high, low) != (2, 5) {
                return Err(invalid(i));
            }
            out.extend(u8::try_from(high * 16 + low));
            rest.nth(1);
            continue;
        }
        if let Some(allowed) = host
            && byte.is_ascii()
            && !is_plain(byte, allowed)
        {
            return Err(format!("invalid character {} in host name", go_quote(&[byte])));
        }
        out.push(byte);
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn escape(text: &[u8], allowed: &str) -> String {
    let mut out = String::new();
    for &byte in text {
        if is_plain(byte, allowed) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `text` as it is if it is validly escaped, else decoded and escaped anew.
fn escaped(text: &str, allowed: &str, tolerated: &str) -> String {
    let is_fine = |byte: u8| byte == b'%' || is_plain(byte, allowed) || tolerated.as_bytes().contains(&byte);
    if text.bytes().all(is_fine) {
        return text.to_owned();
    }
    escape(unescape(text, None).unwrap_or_default().as_bytes(), allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_urls_are_the_reference_ones() {
        for (text, printed) in [
            ("", ""),
            ("HTTP://Example.org", "http://Example.org"),
            ("http://u:p%40w@h:80/a b?x=y z#f g", "http://u:xxxxx@h:80/a%20b?x=y z#f%20g"),
            ("http://u@h", "http://u@h"),
            ("http://[fe80::1%25en0]:80/", "http://[fe80::1%25en0]:80/"),
            ("unix:///var/run/docker.sock", "unix:///var/run/docker.sock"),
            ("file:/x", "file:/x"),
            ("mailto:a@b", "mailto:a@b"),
            ("http://a:1:2", "http://a:1:2"),
            ("//host/p", "//host/p"),
            ("a/b:c", "a/b:c"),
            ("http://h/?", "http://h/?"),
            ("http://h/%7Ea/[x]", "http://h/%7Ea/[x]"),
            ("http://bücher.example/ä", "http://b%C3%BCcher.example/%C3%A4"),
            ("*", "*"),
        ] {
            assert_eq!(GoUrl::parse(text).map(|url| url.redacted()).as_deref(), Ok(printed), "{text}");
        }
    }

    #[test]
    fn refusals_have_the_reference_words() {
        for (text, reason) in [
            (":80", r#"parse ":80": missing protocol scheme"#),
            ("1.2.3.4:80", r#"parse "1.2.3.4:80": first path segment in URL cannot contain colon"#),
            ("http://a b", r#"parse "http://a b": invalid character " " in host name"#),
            ("http://a:b", r#"parse "http://a:b": invalid port ":b" after host"#),
            ("http://a/%zz", r#"parse "http://a/%zz": invalid URL escape "%zz""#),
            ("http://a%20b", r#"parse "http://a%20b": invalid URL escape "%20""#),
            ("http://[::1", r#"parse "http://[::1": missing ']' in host"#),
            ("http://[x]", r#"parse "http://[x]": invalid host: ParseAddr("x"): unable to parse IP"#),
            ("http://a\tb", r#"parse "http://a\tb": net/url: invalid control character in URL"#),
            ("http://u:pass word@h", r#"parse "http://u:xxxxx@h": net/url: invalid userinfo"#),
        ] {
            assert_eq!(GoUrl::parse(text).map(|url| url.redacted()), Err(reason.to_owned()), "{text}");
        }
    }
}
