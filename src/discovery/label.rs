//! Labels made of what other systems call things: sanitised names, lists in one value, addresses.
//!
//! Compat: prometheus `util/strutil`, `SanitizeLabelName`, and Go's `net.JoinHostPort`.

use std::fmt::Display;

use model::{Labels, LabelsBuilder};

/// Labels of one target under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Builder(LabelsBuilder);

impl Builder {
    /// Sets a label of a name that is fixed; an empty value is no label.
    pub(super) fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.0.set(name.as_bytes(), value.as_ref());
    }

    /// Sets `prefix` followed by `name`, which may hold anything.
    pub(super) fn set_foreign(&mut self, prefix: &str, name: &str, value: impl AsRef<[u8]>) {
        self.0.set(format!("{prefix}{}", sanitized(name)).as_bytes(), value.as_ref());
    }

    /// Takes over all labels of `other`, which win.
    pub(super) fn extend(&mut self, other: &Labels) {
        for (name, value) in other {
            self.0.set(name, value);
        }
    }

    pub(super) fn build(&self) -> Labels {
        self.0.build()
    }
}

/// `name` with `_` for every character that no label name has; it still needs a prefix, for it may begin with a digit.
pub(super) fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// The values between separators, with one before the first and one behind the last, so that a regular
/// expression need not care where in the list a value stands.
pub(super) fn wrapped<S: AsRef<str>>(values: &[S], separator: &str) -> String {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    format!("{separator}{}{separator}", values.join(separator))
}

/// `host:port`, the host in brackets if it is an IPv6 address.
pub(super) fn address(host: &str, port: impl Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::{address, sanitized, wrapped};

    #[test]
    fn names_lists_and_addresses() {
        assert_eq!(sanitized("com.example/a-b_ü9"), "com_example_a_b__9");
        assert_eq!(wrapped(&["a", "b"], ","), ",a,b,");
        assert_eq!(wrapped::<&str>(&[], ","), ",,", "as upstream wraps an empty list");
        assert_eq!(address("h", 1), "h:1");
        assert_eq!(address("::1", 80), "[::1]:80");
        assert_eq!(address("", 80), ":80");
    }
}
