//! Forms as Go reads them: what cannot be read is left out, and the first trouble is told.
//!
//! Compat: Go `net/url`, `ParseQuery` and `QueryUnescape`.

/// The most values of one form, as Go has it.
const VALUES_MAX: usize = 10_000;

const TOO_MANY: &str = "number of URL query parameters exceeded limit";

/// Whether the trouble is that a form has more values than are read: none of them is then.
pub(super) fn is_too_many(problem: &str) -> bool {
    problem == TOO_MANY
}

/// Adds the values of `form` to `values` and says what was wrong with the others.
pub(super) fn parse(form: &[u8], values: &mut Vec<(String, String)>) -> Option<String> {
    if form.split(|&b| b == b'&').count() > VALUES_MAX {
        return Some(TOO_MANY.to_owned());
    }
    let mut problem = None;
    for pair in form.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
        // Once as good as an ampersand, and the way round many a filter.
        if pair.contains(&b';') {
            problem = Some("invalid semicolon separator in query".to_owned());
            continue;
        }
        let mut halves = pair.splitn(2, |&b| b == b'=');
        let mut half = || unescape(halves.next().unwrap_or_default(), true).map(text);
        match (half(), half()) {
            (Ok(name), Ok(value)) => values.push((name, value)),
            (Err(e), _) | (_, Err(e)) => {
                problem.get_or_insert(e);
            }
        }
    }
    problem
}

/// Undoes percent encoding.
pub(crate) fn unescape(text: &[u8], plus_is_space: bool) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let digit = |i: usize| char::from(*behind.get(i)?).to_digit(16);
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    let shown = String::from_utf8_lossy(&behind[..behind.len().min(2)]).into_owned();
                    let quoted = model::quote::go_quote(format!("%{shown}").as_bytes());
                    return Err(format!("invalid URL escape {quoted}"));
                };
                out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
                rest = &behind[2..];
            }
            b'+' if plus_is_space => out.push(b' '),
            byte => out.push(byte),
        }
    }
    Ok(out)
}

/// What is no UTF-8 is replaced.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_read() {
        for (form, want, problem) in [
            ("a=1&b=%2B+%20x&a=2", "a=1 b=+  x a=2", None),
            ("a", "a=", None),
            ("&&a=b=c&=x", "a=b=c =x", None),
            ("a=%zz&b=1", "b=1", Some("invalid URL escape \"%zz\"")),
            ("%=1&b=1&c=%1", "b=1", Some("invalid URL escape \"%\"")),
            ("a=1;b=2&c=3", "c=3", Some("invalid semicolon separator in query")),
            ("a=%zz&b;", "", Some("invalid semicolon separator in query")),
            ("a=%ff", "a=\u{fffd}", None),
            ("", "", None),
        ] {
            let mut values = Vec::new();
            assert_eq!(parse(form.as_bytes(), &mut values).as_deref(), problem, "{form}");
            let shown: Vec<_> = values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!(shown.join(" "), want, "{form}");
        }
    }

    #[test]
    fn a_form_has_so_many_values() {
        let parsed = |n: usize| {
            let mut values = Vec::new();
            (parse("a&".repeat(n).strip_suffix('&').unwrap().as_bytes(), &mut values), values.len())
        };
        assert_eq!(parsed(VALUES_MAX), (None, VALUES_MAX));
        let problem = "number of URL query parameters exceeded limit".to_owned();
        assert_eq!(parsed(VALUES_MAX + 1), (Some(problem), 0));
    }
}
