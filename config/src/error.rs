//! Why a file was refused, and where in it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A file that does not load. Displays `FILE:LINE:COLUMN: MESSAGE`, one line per problem of a rule file.
///
/// The message holds upstream's text verbatim, so that whoever greps for it finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    file: PathBuf,
    problems: Vec<Problem>,
    layout: Layout,
}

/// One refusal; line and column count from 1, and 0 means the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// `FILE:LINE:COLUMN: parsing YAML file FILE: MESSAGE`
    Config,
    /// `FILE:LINE:COLUMN: MESSAGE`
    Plain,
    /// The message names the file itself.
    Bare,
    /// `FILE: LINE:COLUMN: MESSAGE`, which is how upstream itself says it for rule files.
    Rules,
}

impl Error {
    pub(crate) fn config(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_owned(), problems: vec![problem], layout: Layout::Config }
    }

    pub(crate) fn plain(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_owned(), problems: vec![problem], layout: Layout::Plain }
    }

    /// The message says it all.
    pub(crate) fn bare(file: &Path, problem: Problem) -> Self {
        Self { file: file.to_owned(), problems: vec![problem], layout: Layout::Bare }
    }

    pub(crate) fn rules(file: &Path, problems: Vec<Problem>) -> Self {
        assert!(!problems.is_empty(), "BUG: a rule file refused without a reason");
        Self { file: file.to_owned(), problems, layout: Layout::Rules }
    }

    /// A file that cannot be read.
    pub(crate) fn io(file: &Path, source: &std::io::Error) -> Self {
        // A folder opens, as a file does.
        let verb = if source.kind() == std::io::ErrorKind::IsADirectory { "read" } else { "open" };
        let message = format!("{verb} {}: {}", file.display(), io_reason(source));
        let problem = Problem { line: 0, column: 0, message };
        Self { file: file.to_owned(), problems: vec![problem], layout: Layout::Bare }
    }

    /// A file that cannot be used although each of its values is allowed.
    pub fn of_file(file: &Path, message: String) -> Self {
        Self::plain(file, Problem { line: 0, column: 0, message })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// At least one.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// The reason as the C library words it, without Rust's number behind it.
pub(crate) fn io_reason(source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => source.to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (i, Problem { line, column, message }) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            match (self.layout, *line) {
                (Layout::Rules | Layout::Plain, 0) => write!(f, "{file}: {message}")?,
                (Layout::Rules, _) => write!(f, "{file}: {line}:{column}: {message}")?,
                (Layout::Bare, _) => f.write_str(message)?,
                (Layout::Plain, _) => write!(f, "{file}:{line}:{column}: {message}")?,
                (Layout::Config, 0) => write!(f, "parsing YAML file {file}: {message}")?,
                (Layout::Config, _) => {
                    write!(f, "{file}:{line}:{column}: parsing YAML file {file}: {message}")?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
