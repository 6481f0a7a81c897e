//! `ferula am …`: amtool's commands, for the built-in Alertmanager and any other.
//!
//! Flags, output and exit codes are amtool's, and so are its configuration files; the program answers to the name
//! `amtool`, too. `export` is ours. Where a configuration is refused, the place in it is named as well.
//!
//! Compat: alertmanager `cli` (0.34).

mod alert;
mod api;
mod arguments;
mod check;
mod format;
mod routes;
mod silence;
mod status;
mod table;
mod template;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ::config::matchers::Mode;
use ::config::span;
use clap::{Args, Parser, Subcommand, ValueEnum};

use self::format::Format;

/// View and modify the current Alertmanager state.
///
/// All flags can also be given in a file of YAML in $HOME/.config/amtool/config.yml or /etc/amtool/config.yml.
#[derive(Debug, Parser)]
#[command(name = "ferula am", version, max_term_width = 100)]
struct Am {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Common {
    /// Format of date output.
    #[arg(long = "date.format", global = true, default_value = "2006-01-02 15:04:05 MST")]
    date_format: String,
    /// Verbose running information.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Alertmanager to talk to.
    #[arg(long = "alertmanager.url", global = true)]
    url: Option<url::Url>,
    /// Output formatter.
    #[arg(short, long, global = true, value_enum, default_value = "simple")]
    output: Output,
    /// Timeout for the executed command.
    #[arg(long, global = true, default_value = "30s", value_parser = go_duration)]
    timeout: Duration,
    /// HTTP client configuration file to connect to the Alertmanager.
    #[arg(long = "http.config.file", global = true, value_name = "filename", value_parser = existing_file)]
    http_config: Option<PathBuf>,
    /// Check the Alertmanager's version.
    #[arg(long = "version-check", global = true, default_value = "true")]
    version_check: bool,
    /// Do not check the Alertmanager's version.
    #[arg(long = "no-version-check", global = true)]
    no_version_check: bool,
    /// Experimental features to enable, comma separated.
    #[arg(long = "enable-feature", global = true, default_value = "", value_parser = features)]
    features: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Simple,
    Extended,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add or query alerts.
    #[command(subcommand)]
    Alert(alert::Command),
    /// Add, expire or view silences. For more information and additional flags see query help.
    #[command(subcommand)]
    Silence(silence::Command),
    /// Validate alertmanager config files, and the templates they name.
    CheckConfig(check::Options),
    /// View cluster status and peers.
    #[command(subcommand)]
    Cluster(status::Cluster),
    /// View current config.
    #[command(subcommand)]
    Config(Config),
    /// Render template files.
    #[command(subcommand)]
    Template(template::Command),
    /// Print a config file without the keys that only Ferula knows.
    Export(check::Export),
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Print the running config; with `-o extended` uptime and version info, too.
    Show,
    /// Print the routing tree, or test where an alert goes.
    Routes(routes::Options),
}

/// Where a command reads and writes.
struct Streams<'a> {
    input: &'a mut dyn Read,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

/// Why a command failed, in words.
#[derive(Debug)]
enum Failure {
    /// Said behind the program's name.
    Text(String),
    /// All is said.
    Silent,
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

type Done = Result<(), Failure>;

/// Runs the command of these arguments, which begin with the program's name or the word `am`.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (mut input, mut out, mut err) = (io::stdin().lock(), io::stdout().lock(), io::stderr().lock());
    let mut streams = Streams { input: &mut input, out: &mut out, err: &mut err };
    let files = arguments::files();
    ExitCode::from(run_with(args.into_iter().collect(), &files, &mut streams))
}

fn run_with(args: Vec<OsString>, files: &[PathBuf], streams: &mut Streams<'_>) -> u8 {
    let parsed = match arguments::parse::<Am>(args, files) {
        Ok(parsed) => parsed,
        Err(arguments::Error::Usage(e)) => {
            // Help and version arrive here, too.
            let _ = if e.use_stderr() {
                writeln!(streams.err, "amtool: error: {}", arguments::complaint(&e))
            } else {
                write!(streams.out, "{}", e.render())
            };
            return u8::from(e.use_stderr());
        }
        Err(arguments::Error::File(text)) => {
            let _ = writeln!(streams.err, "amtool: error: could not load config file: {text}");
            return 1;
        }
    };
    let done = execute(&parsed, streams).and_then(|()| Ok(streams.out.flush()?));
    match done {
        Ok(()) => 0,
        // Whoever reads has seen enough.
        Err(Failure::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(Failure::Io(e)) => {
            let _ = writeln!(streams.err, "amtool: error: {e}");
            1
        }
        Err(Failure::Text(text)) => {
            let _ = streams.out.flush();
            let _ = writeln!(streams.err, "amtool: error: {text}");
            1
        }
        Err(Failure::Silent) => {
            let _ = streams.out.flush();
            1
        }
    }
}

fn execute(am: &Am, streams: &mut Streams<'_>) -> Done {
    let common = &am.common;
    match &am.command {
        Command::Alert(command) => alert::run(command, common, streams),
        Command::Silence(command) => silence::run(command, common, streams),
        Command::CheckConfig(options) => check::run(options, common.features, streams),
        Command::Cluster(status::Cluster::Show) => status::cluster(common, streams),
        Command::Config(Config::Show) => status::config(common, streams),
        Command::Config(Config::Routes(options)) => routes::run(options, common, streams),
        Command::Template(template::Command::Render(options)) => template::run(options, streams),
        Command::Export(options) => check::export(options, streams),
    }
}

impl Common {
    fn format(&self) -> Format<'_> {
        Format { output: self.output, date: &self.date_format }
    }
}

/// Compat: Go `time.ParseDuration`, without negative ones.
fn go_duration(text: &str) -> Result<Duration, String> {
    let nanos = span::parse(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| format!("negative duration {text:?}"))
}

/// The features that decide how matchers are read; the others are the server's.
fn features(text: &str) -> Result<Mode, String> {
    let mut mode = Mode::Fallback;
    for feature in text.split(',') {
        match feature {
            "classic-mode" => mode = Mode::Classic,
            "utf8-strict-mode" => mode = Mode::Utf8,
            ""
            | "alert-names-in-metrics"
            | "receiver-name-in-metrics"
            | "group-key-in-metrics"
            | "auto-gomemlimit"
            | "event-recorder" => {}
            other => {
                return Err(format!(
                    "error parsing the feature flag list: unknown option '{other}' for --enable-feature"
                ));
            }
        }
    }
    if text.contains("classic-mode") && text.contains("utf8-strict-mode") {
        return Err("cannot have both classic and UTF-8 modes enabled".to_owned());
    }
    Ok(mode)
}

/// A path that must lead to a file.
fn existing_file(text: &str) -> Result<PathBuf, String> {
    match std::fs::metadata(text) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!("path '{text}' does not exist")),
        Err(e) => Err(e.to_string()),
        Ok(found) if found.is_dir() => Err(format!("'{text}' is a directory")),
        Ok(_) => Ok(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests;
