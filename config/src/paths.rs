//! Paths in configurations: relative ones belong to the directory of the file that names them, and globs.
//!
//! Compat: Go `path/filepath`, `Join`, `Match` and `Glob`; prometheus/common `config`, `JoinDir`.

use std::path::{Component, Path, PathBuf};

/// `text` as seen from `base`, tidied; an empty text stays empty.
pub(crate) fn join(base: &Path, text: &str) -> String {
    if text.is_empty() || text.starts_with('/') {
        return text.to_owned();
    }
    let mut out = PathBuf::new();
    for part in base.join(text).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            Component::ParentDir if out.has_root() => {}
            part => out.push(part),
        }
    }
    if out.as_os_str().is_empty() { ".".to_owned() } else { out.to_string_lossy().into_owned() }
}

pub(crate) fn join_path(base: &Path, text: &str) -> Option<PathBuf> {
    if text.is_empty() { None } else { Some(join(base, text).into()) }
}

/// Whether a star stands in the last element only: `^[^*]*(\*[^/]*)?$`.
pub(crate) fn is_rule_path(text: &str) -> bool {
    text.split_once('*').is_none_or(|(_, tail)| !tail.contains('/'))
}

/// The files that `pattern` names, sorted; none is no error. Directories that cannot be read count as empty.
///
/// # Errors
/// The pattern is malformed.
pub fn glob(pattern: &str) -> Result<Vec<PathBuf>, BadPattern> {
    matches(pattern, "")?;
    if !has_meta(pattern) {
        let path = PathBuf::from(pattern);
        return Ok(if path.symlink_metadata().is_ok() { vec![path] } else { Vec::new() });
    }
    let (dir, file) = match pattern.rsplit_once('/') {
        Some(("", file)) => ("/", file),
        Some((dir, file)) => (dir, file),
        None => ("", pattern),
    };
    let dirs = if has_meta(dir) { glob(dir)? } else { vec![PathBuf::from(dir)] };
    let mut found = Vec::new();
    for dir in dirs {
        let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { &dir };
        let Ok(entries) = listed.read_dir() else { continue };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            if matches(file, &name.to_string_lossy())? {
                found.push(dir.join(name));
            }
        }
    }
    Ok(found)
}

/// A bracket or a backslash that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

fn has_meta(pattern: &str) -> bool {
    pattern.contains(['*', '?', '[', '\\'])
}

/// Whether the whole `name` matches; neither star nor question mark matches a slash.
fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let mut tokens = Vec::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::One(rest.next().ok_or(BadPattern)?),
            '[' => class(&mut rest)?,
            c => Token::One(c),
        });
    }
    let name: Vec<char> = name.chars().collect();
    Ok(run(&tokens, &name))
}

enum Token {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

fn class(rest: &mut std::str::Chars<'_>) -> Result<Token, BadPattern> {
    let mut ranges = Vec::new();
    let mut peeked = rest.clone();
    let negated = peeked.next() == Some('^');
    if negated {
        *rest = peeked;
    }
    let member = |rest: &mut std::str::Chars<'_>| match rest.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => rest.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    };
    loop {
        if rest.as_str().starts_with(']') && !ranges.is_empty() {
            rest.next();
            return Ok(Token::Class { negated, ranges });
        }
        let low = member(rest)?;
        let high = if rest.as_str().starts_with('-') {
            rest.next();
            member(rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// Backtracks to the last star only, which is enough since a later star can take what an earlier one could.
fn run(tokens: &[Token], name: &[char]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let c = name[n];
        let is_match = match tokens.get(t) {
            Some(Token::Star) => {
                star = Some((t, n));
                t += 1;
                continue;
            }
            Some(Token::Any) => c != '/',
            Some(Token::One(one)) => *one == c,
            Some(Token::Class { negated, ranges }) => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != *negated
            }
            None => false,
        };
        if is_match {
            (t, n) = (t + 1, n + 1);
        } else if let Some((star_t, star_n)) = star
            && name[star_n] != '/'
        {
            star = Some((star_t, star_n + 1));
            (t, n) = (star_t + 1, star_n + 1);
        } else {
            return false;
        }
    }
    tokens[t..].iter().all(|token| matches!(token, Token::Star))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{BadPattern, glob, is_rule_path, join, matches};

    #[test]
    fn joins_as_go() {
        let cases = [
            ("/a/b", "c", "/a/b/c"),
            (".", "c", "c"),
            ("", "c", "c"),
            ("a", "../c/./d", "c/d"),
            ("/a", "/c", "/c"),
        ];
        for (base, text, joined) in cases {
            assert_eq!(join(Path::new(base), text), joined, "{base} {text}");
        }
    }

    #[test]
    fn matches_as_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "ab/c", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("*x", "xxx", true),
        ] {
            assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
        }
        for pattern in ["[", "[]a]", "[-]", "[x-]", "[a-b-c]", "a[", "\\"] {
            assert_eq!(matches(pattern, "a"), Err(BadPattern), "{pattern}");
        }
    }

    #[test]
    fn globs_the_last_element() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yml", "a.yml", "c.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let pattern = dir.path().join("*.yml");
        let found = glob(pattern.to_str().unwrap()).unwrap();
        assert_eq!(found, [dir.path().join("a.yml"), dir.path().join("b.yml")]);
        assert!(glob(dir.path().join("none/*.yml").to_str().unwrap()).unwrap().is_empty());
        assert_eq!(glob("/nowhere/[").unwrap_err(), BadPattern);
    }

    #[test]
    fn stars_stand_in_the_last_element() {
        assert!(is_rule_path("a/b*c.yml") && is_rule_path("a/b") && !is_rule_path("a*/b"));
    }
}
