//! Names of files with wildcards: `*`, `?`, `[a-z]`, `[^a-z]` and `\` in any element of a path.
//!
//! Differs from Go in one thing: a folder that is there and cannot be listed is an error, not an empty folder,
//! for discovery must not take unreadable for gone.
//!
//! Compat: Go's `path/filepath`, `Glob` and `Match`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Error;

/// The folder in which the last element of a pattern lies.
pub(super) fn folder(glob: &str) -> PathBuf {
    match Path::new(glob).parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether `path` is one that `glob` names.
pub(super) fn matches(glob: &str, path: &Path) -> bool {
    let (glob, path) = (Path::new(glob), path);
    glob.components().count() == path.components().count()
        && glob.components().zip(path.components()).all(|(pattern, name)| {
            match (pattern.as_os_str().to_str(), name.as_os_str().to_str()) {
                (Some(pattern), Some(name)) => is_match(pattern, name),
                _ => false,
            }
        })
}

/// The existing paths that `glob` names, folders left out. Links that lead nowhere are among them: they are
/// files that cannot be read, perhaps for a moment.
pub(super) fn expand(glob: &str) -> Result<Vec<PathBuf>, Error> {
    let is_file = |path: &PathBuf| !path.is_dir();
    if !has_meta(glob) {
        let path = PathBuf::from(glob);
        return match std::fs::symlink_metadata(&path) {
            Ok(_) => Ok(Some(path).filter(is_file).into_iter().collect()),
            Err(error) if is_absent(&error) => Ok(Vec::new()),
            Err(error) => Err(Error(format!("could not look for the file: {error}"))),
        };
    }
    let parent = folder(glob);
    let is_bare = !glob.contains('/');
    let pattern = Path::new(glob).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folders = match parent.to_str() {
        Some(text) if has_meta(text) => expand_folders(text)?,
        _ => vec![parent],
    };
    let mut found = Vec::new();
    for folder in folders {
        let names = list(&folder)?.into_iter().filter(|name| is_match(pattern, name));
        let paths = names.map(|name| if is_bare { PathBuf::from(name) } else { folder.join(name) });
        found.extend(paths.filter(is_file));
    }
    Ok(found)
}

fn expand_folders(glob: &str) -> Result<Vec<PathBuf>, Error> {
    let parent = folder(glob);
    let pattern = Path::new(glob).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folders = match parent.to_str() {
        Some(text) if has_meta(text) => expand_folders(text)?,
        _ => vec![parent],
    };
    let mut found = Vec::new();
    for folder in folders {
        if has_meta(pattern) {
            let names = list(&folder)?.into_iter().filter(|name| is_match(pattern, name));
            found.extend(names.map(|name| folder.join(name)).filter(|path| path.is_dir()));
        } else {
            found.push(folder.join(pattern));
        }
    }
    Ok(found)
}

/// The names in a folder, sorted; none if there is no such folder.
fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let bad = |error: std::io::Error| Error(format!("could not list {}: {error}", folder.display()));
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(bad(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(bad)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Whether one element of a path matches one of a pattern; a malformed pattern matches nothing.
fn is_match(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // Where to go on if what follows the last star does not fit: the classic walk, linear but for the last star.
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == '*' {
            retry = Some((p, n + 1));
            p += 1;
            continue;
        }
        if p == pattern.len() && n == name.len() {
            return true;
        }
        let next = name.get(n).and_then(|&c| one(&pattern, p, c));
        if let Some(next) = next {
            (p, n) = (next, n + 1);
            continue;
        }
        match retry {
            Some((star, from)) if from <= name.len() => {
                retry = Some((star, from + 1));
                (p, n) = (star + 1, from);
            }
            _ => return false,
        }
    }
}

/// Where the pattern goes on if the piece at `p` takes `c`.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '\\' => (*pattern.get(p + 1)? == c).then_some(p + 2),
        '[' => class(pattern, p + 1, c),
        literal => (literal == c).then_some(p + 1),
    }
}

/// The same for a class whose first character is at `p`.
fn class(pattern: &[char], mut p: usize, c: char) -> Option<usize> {
    let is_negated = *pattern.get(p)? == '^';
    p += usize::from(is_negated);
    let (mut is_in, mut n_ranges) = (false, 0);
    while *pattern.get(p)? != ']' || n_ranges == 0 {
        let (low, next) = member(pattern, p)?;
        p = next;
        let mut high = low;
        if *pattern.get(p)? == '-' {
            (high, p) = member(pattern, p + 1)?;
        }
        is_in |= (low..=high).contains(&c);
        n_ranges += 1;
    }
    (is_in != is_negated).then_some(p + 1)
}

fn member(pattern: &[char], p: usize) -> Option<(char, usize)> {
    match *pattern.get(p)? {
        '\\' => Some((*pattern.get(p + 1)?, p + 2)),
        '-' | ']' => None,
        c => Some((c, p + 1)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{expand, folder, is_match, matches};

    #[test]
    fn elements_match_as_go_matches_them() {
        let yes = [
            ("*.yml", "a.yml"),
            ("a*b*.json", "axxbyyb.json"),
            ("*", ""),
            ("?.yml", "ü.yml"),
            ("[a-c]x[^0-9].yml", "bxq.yml"),
            ("a\\*.yml", "a*.yml"),
            ("[\\]]", "]"),
        ];
        for (pattern, name) in yes {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        let no = [
            ("*.yml", "a.yaml"),
            ("?.yml", ".yml"),
            ("[a-c].yml", "d.yml"),
            ("[^a].yml", "a.yml"),
            ("[]a]", "a"),
            ("[a", "a"),
            ("a*b", "acbd"),
        ];
        for (pattern, name) in no {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
        assert!(matches("/x/*/t-?.yml", Path::new("/x/y/t-1.yml")));
        assert!(!matches("/x/*.yml", Path::new("/x/y/t.yml")));
    }

    #[test]
    fn paths_are_found_in_folders_with_wildcards_too() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a1/t.yml", "a2/t.yml", "a2/u.yml", "b1/t.yml"] {
            std::fs::create_dir_all(root.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(root.path().join(path), "").unwrap();
        }
        std::fs::create_dir(root.path().join("a1/folder.yml")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("a1/dangling.yml")).unwrap();
        let glob = |text: &str| -> Vec<String> {
            let pattern = format!("{}/{text}", root.path().display());
            let found = expand(&pattern).unwrap();
            found.iter().map(|p| p.strip_prefix(root.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(glob("a?/*.yml"), ["a1/dangling.yml", "a1/t.yml", "a2/t.yml", "a2/u.yml"]);
        assert_eq!(glob("b1/t.yml"), ["b1/t.yml"]);
        assert_eq!(glob("nowhere/*.yml"), [""; 0]);
        assert_eq!(glob("nowhere.yml"), [""; 0]);
        assert_eq!(folder("t.yml"), Path::new("."));
        assert_eq!(folder("/t.yml"), Path::new("/"));
    }
}
