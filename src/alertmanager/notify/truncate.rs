//! Texts cut to what a service takes.
//!
//! Compat: alertmanager `notify`, `TruncateInRunes`, `TruncateInBytes`.

const MARK: &str = "…";

/// At most `max` characters; what is longer ends in an ellipsis, and the log says so of `what`.
pub(super) fn in_runes(mut text: String, max: usize, what: &str, group: &str) -> String {
    // Where the character beyond the last begins.
    if text.char_indices().nth(max).is_none() {
        return text;
    }
    tracing::warn!(group, max_runes = max, "truncated {what}");
    let keep = if max > 3 { max - 1 } else { max };
    if let Some((end, _)) = text.char_indices().nth(keep) {
        text.truncate(end);
    }
    if max > 3 {
        text.push_str(MARK);
    }
    text
}

/// At most `max` bytes, no character cut in two.
pub(super) fn in_bytes(mut text: String, max: usize, what: &str, group: &str) -> String {
    if text.len() <= max {
        return text;
    }
    tracing::warn!(group, max_bytes = max, "truncated {what}");
    if max < MARK.len() {
        return ".".repeat(max);
    }
    text.truncate(text.floor_char_boundary(max - MARK.len()));
    text.push_str(MARK);
    text
}

#[cfg(test)]
mod tests {
    use super::{in_bytes, in_runes};

    #[test]
    fn texts_end_where_a_service_stops_reading() {
        let runes = |text: &str, max| in_runes(text.to_owned(), max, "text", "g");
        assert_eq!(runes("abcde", 5), "abcde");
        assert_eq!(runes("abcdef", 5), "abcd…");
        assert_eq!(runes("äöüßé", 5), "äöüßé");
        assert_eq!(runes("äöüßéñ", 4), "äöü…");
        assert_eq!(runes("abcd", 3), "abc");
        assert_eq!(runes("abcd", 0), "");
        let bytes = |text: &str, max| in_bytes(text.to_owned(), max, "text", "g");
        assert_eq!(bytes("abcde", 5), "abcde");
        assert_eq!(bytes("abcdef", 5), "ab…");
        assert_eq!(bytes("äöüß", 6), "ä…");
        assert_eq!(bytes("äöüß", 7), "äö…");
        assert_eq!(bytes("abcdef", 3), "…");
        assert_eq!(bytes("abcdef", 2), "..");
        // Upstream stops with a panic here: fewer characters than bytes to be kept.
        assert_eq!(bytes(&"日".repeat(3000), 7439).len(), 7437);
    }
}
