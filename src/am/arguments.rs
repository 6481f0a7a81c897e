//! The command line as amtool's library reads it: groups of commands have a default one, and flags that are not
//! given come from configuration files.
//!
//! Compat: kingpin `CmdClause.Default`; alertmanager `cli/config`, `Resolver`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, FromArgMatches};

/// The command that a group stands for when none of it is named.
const DEFAULTS: [(&str, &str); 5] =
    [("alert", "query"), ("silence", "query"), ("cluster", "show"), ("config", "show"), ("routes", "show")];

/// The old name of a flag.
const LEGACY: (&str, &str) = ("comment_required", "require-comment");

pub(super) enum Error {
    Usage(clap::Error),
    File(String),
}

/// Where the configuration is looked for; earlier files win.
pub(super) fn files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    vec![home.join(".config/amtool/config.yml"), PathBuf::from("/etc/amtool/config.yml")]
}

/// Reads the arguments, the first of which is the program's name.
pub(super) fn parse<T: CommandFactory + FromArgMatches>(
    mut args: Vec<OsString>,
    files: &[PathBuf],
) -> Result<T, Error> {
    let command = T::command();
    // The word `am`, where we are not called by another name.
    if let Some(first) = args.first_mut()
        && *first == "am"
    {
        *first = command.get_name().into();
    }
    let (args, path) = complete(args, &command);
    let command = with_defaults(command, &path, &read(files).map_err(Error::File)?);
    let mut matches = command.try_get_matches_from(args).map_err(Error::Usage)?;
    T::from_arg_matches_mut(&mut matches).map_err(Error::Usage)
}

/// What is wrong with the arguments, in a line and in amtool's words where it has some.
pub(super) fn complaint(e: &clap::Error) -> String {
    let one = |kind: ContextKind| match e.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join("', '")),
        _ => None,
    };
    let shown = match e.kind() {
        ErrorKind::InvalidSubcommand => {
            one(ContextKind::InvalidSubcommand).map(|name| format!("expected command but got {name:?}"))
        }
        ErrorKind::UnknownArgument => one(ContextKind::InvalidArg).map(|flag| {
            let size = if flag.starts_with("--") { "long" } else { "short" };
            format!("unknown {size} flag '{flag}'")
        }),
        ErrorKind::InvalidValue => {
            one(ContextKind::ValidValue).zip(one(ContextKind::InvalidValue)).map(|(valid, value)| {
                format!("enum value must be one of {}, got '{value}'", valid.replace("', '", ","))
            })
        }
        ErrorKind::ValueValidation => std::error::Error::source(e).map(ToString::to_string),
        ErrorKind::MissingRequiredArgument => one(ContextKind::InvalidArg).map(|flags| {
            let names: Vec<&str> = flags.split("', '").filter_map(|flag| flag.split(' ').next()).collect();
            format!("required flag(s) '{}' not provided", names.join("', '"))
        }),
        _ => None,
    };
    let rendered = || e.render().to_string().trim_start_matches("error: ").trim_end().to_owned();
    shown.unwrap_or_else(rendered)
}

/// The arguments with default commands put in, and the names of the commands.
fn complete(mut args: Vec<OsString>, root: &clap::Command) -> (Vec<OsString>, Vec<String>) {
    let mut path: Vec<String> = Vec::new();
    let mut command = root;
    let (mut i, mut behind_group) = (1, 0);
    loop {
        let default = path.last().and_then(|name| DEFAULTS.iter().find(|(group, _)| group == name));
        if default.is_none() && !command.has_subcommands() {
            return (args, path);
        }
        let Some(arg) = args.get(i).map(|arg| arg.to_string_lossy().into_owned()) else {
            // Nothing was named.
            let Some((_, default)) = default else { return (args, path) };
            args.insert(behind_group, (*default).into());
            i = behind_group;
            continue;
        };
        if arg == "--help" || arg == "-h" || arg == "help" || arg == "--version" {
            return (args, path);
        }
        if arg.starts_with('-') && arg != "-" && arg != "--" {
            // Flags of the default command may stand here as well.
            let implied = default.and_then(|(_, name)| command.find_subcommand(name));
            i += 1 + usize::from(takes_next(&arg, [Some(root), Some(command), implied]));
            continue;
        }
        if let Some(next) = command.find_subcommand(&arg) {
            path.push(arg);
            command = next;
            i += 1;
            behind_group = i;
            continue;
        }
        let Some((_, default)) = default else { return (args, path) };
        args.insert(behind_group, (*default).into());
        i = behind_group;
    }
}

/// Whether a flag has its value in the next argument.
fn takes_next(arg: &str, commands: [Option<&clap::Command>; 3]) -> bool {
    if arg.contains('=') {
        return false;
    }
    let flags = || commands.into_iter().flatten().flat_map(clap::Command::get_arguments);
    let takes = |flag: &clap::Arg| matches!(flag.get_action(), ArgAction::Set | ArgAction::Append);
    match arg.strip_prefix("--") {
        Some(name) => flags().any(|flag| flag.get_long() == Some(name) && takes(flag)),
        // Only the last of a bundle can take what follows.
        None => flags().any(|flag| flag.get_short() == arg.chars().last() && takes(flag)),
    }
}

fn with_defaults(
    command: clap::Command,
    path: &[String],
    defaults: &BTreeMap<String, String>,
) -> clap::Command {
    let flags: Vec<(clap::Id, &String)> = command
        .get_arguments()
        .filter_map(|flag| Some((flag.get_id().clone(), defaults.get(flag.get_long()?)?)))
        .collect();
    let mut command = command;
    for (id, value) in flags {
        let value = value.clone();
        command = command.mut_arg(id, |flag| flag.default_value(value).required(false));
    }
    match path.split_first() {
        Some((name, rest)) => command.mut_subcommand(name, |inner| with_defaults(inner, rest, defaults)),
        None => command,
    }
}

fn read(files: &[PathBuf]) -> Result<BTreeMap<String, String>, String> {
    let mut flags = BTreeMap::new();
    for path in files {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            // A directory on the way that is a file, and the like: the file is not there either.
            Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => continue,
            Err(e) => return Err(format!("open {}: {e}", path.display())),
        };
        let found = config::alertmanager::flat_map(&text)
            .map_err(|e| format!("{}: {}", path.display(), e.message))?;
        for (name, value) in &found {
            let name = match name.as_str() {
                old if old == LEGACY.0 && found.contains_key(LEGACY.1) => continue,
                old if old == LEGACY.0 => LEGACY.1,
                name => name,
            };
            flags.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
    }
    Ok(flags)
}
