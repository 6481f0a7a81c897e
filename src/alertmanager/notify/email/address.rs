//! Addresses: of the envelope, and as headers show them.
//!
//! A domain that is not ASCII goes over the wire in its ASCII form. A name before the `@` that is not ASCII
//! needs a server with SMTPUTF8; in headers, which are always ASCII, it is shown as an empty group of that
//! name (RFC 6857), so that the other recipients' mail is readable anywhere.
//!
//! Compat: Go `net/mail`, `ParseAddressList`.

use lettre::message::{Mailbox, Mailboxes};

use super::mime;
use crate::alertmanager::notify::Failure;

/// The most recipients of a mail.
const ADDRESSES_MAX: usize = 1_000;

/// The addresses of a list such as `Ops <ops@example.org>, b@c.d`.
///
/// # Errors
/// It is none, or empty.
pub(super) fn parse(text: &str, what: &str) -> Result<Vec<Mailbox>, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::last(format!("parse '{what}' addresses: {e}"));
    if text.contains(['\r', '\n']) {
        return Err(bad(&"line break in address"));
    }
    // Upstream's parser passes over empty places: `a@b.c, ,d@e.f,`.
    let places = split(text).into_iter().map(str::trim).filter(|place| !place.is_empty());
    let text = places.collect::<Vec<_>>().join(", ");
    let boxes: Mailboxes = text.parse().map_err(|e: lettre::address::AddressError| bad(&e))?;
    let boxes: Vec<_> = boxes.into_iter().collect();
    match boxes.len() {
        0 => Err(bad(&"no address")),
        n if n > ADDRESSES_MAX => Err(bad(&format_args!("{n} are more than {ADDRESSES_MAX}"))),
        _ => Ok(boxes),
    }
}

/// The places of a list, at commas that no quotes and no brackets are around.
fn split(text: &str) -> Vec<&str> {
    let mut places = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                places.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    places.push(&text[start..]);
    places
}

/// The address as `MAIL` and `RCPT` say it, without its brackets.
pub(super) fn of_envelope(mailbox: &Mailbox) -> String {
    let domain = mailbox.email.domain();
    let ascii = if domain.is_ascii() {
        domain.to_owned()
    } else {
        url::Host::parse(domain).map_or_else(|_| domain.to_owned(), |host| host.to_string())
    };
    format!("{}@{ascii}", mailbox.email.user())
}

/// A header such as `To`.
pub(super) fn header(name: &str, boxes: &[Mailbox]) -> String {
    let mut words = Vec::new();
    for (i, mailbox) in boxes.iter().enumerate() {
        let end = if i + 1 < boxes.len() { "," } else { "" };
        let address = of_envelope(mailbox);
        if !address.is_ascii() {
            words.extend(mime::phrase(&address));
            words.push(format!(":;{end}"));
            continue;
        }
        match mailbox.name.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
            Some(name) => {
                words.extend(mime::phrase(name));
                words.push(format!("<{address}>{end}"));
            }
            None => words.push(format!("{address}{end}")),
        }
    }
    mime::fold(name, &words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        header("To", &parse(text, "to").unwrap())
    }

    #[test]
    fn lists_are_read_as_upstream_reads_them() {
        assert_eq!(shown("a@b.c"), "To: a@b.c\r\n");
        assert_eq!(shown("a@b.c, ,d@e.f,"), "To: a@b.c, d@e.f\r\n");
        assert_eq!(shown("\"Ops, Night\" <a@b.c>,d@e.f"), "To: \"Ops, Night\" <a@b.c>, d@e.f\r\n");
        for bad in ["", " , ", "nobody", "a@b.c\nBcc: x@y.z", "a@b.c> x", "a b@c.d", "x <a@b.c"] {
            let failure = parse(bad, "to").unwrap_err();
            assert!(failure.message.starts_with("parse 'to' addresses: ") && !failure.retry, "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_ascii_stays_out_of_headers() {
        let boxes = parse("Jörg <jörg@münchen.example>, J\u{202e} <j@münchen.example>", "to").unwrap();
        let addresses: Vec<_> = boxes.iter().map(of_envelope).collect();
        assert_eq!(addresses, ["jörg@xn--mnchen-3ya.example", "j@xn--mnchen-3ya.example"]);
        let header = header("To", &boxes);
        assert!(header.is_ascii() && header.contains(":;,") && header.contains("<j@xn--"), "{header}");
    }
}
