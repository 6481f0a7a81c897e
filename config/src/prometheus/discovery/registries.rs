//! The mechanisms of registries: programs that know where services run.
//!
//! Compat: prometheus `discovery/{eureka,marathon,nomad,puppetdb,uyuni,xds,zookeeper}`.

use super::http::check_url;
use super::table::{HTTP, Key, Mechanism, PORT, REFRESH, Section, flag, path, seconds, secret, text, texts};
use crate::uri::Uri;

const ZOOKEEPER_KEYS: [Key; 3] = [texts("servers").always(), texts("paths").always(), seconds("timeout", 10)];

pub(super) const MECHANISMS: [Mechanism; 8] = [
    Mechanism {
        name: "eureka",
        go_type: "eureka.SDConfig",
        go_plain: "eureka.plain",
        keys: &[text("server"), HTTP, seconds("refresh_interval", 30)],
        check: |section| {
            section.require("server", "eureka_sd: empty or null eureka server")?;
            let url = Uri::parse(section.text("server"))?;
            if url.scheme.is_empty() || url.host.is_empty() {
                return Err("eureka_sd: invalid eureka server URL".to_owned());
            }
            Ok(())
        },
    },
    Mechanism {
        name: "kuma",
        go_type: "xds.KumaSDConfig",
        go_plain: "xds.plainKumaConf",
        keys: &[
            HTTP,
            seconds("refresh_interval", 15),
            seconds("fetch_timeout", 120),
            text("server"),
            text("client_id"),
        ],
        check: |section| {
            let server = section.text("server");
            if server.is_empty() {
                return Err(format!("kuma SD server must not be empty: {server}"));
            }
            let url = Uri::parse(server)?;
            if url.scheme.is_empty() || url.host.is_empty() {
                return Err(format!("kuma SD server must not be empty and have a scheme: {server}"));
            }
            Ok(())
        },
    },
    Mechanism {
        name: "marathon",
        go_type: "marathon.SDConfig",
        go_plain: "marathon.plain",
        keys: &[
            texts("servers"),
            seconds("refresh_interval", 30),
            secret("auth_token"),
            path("auth_token_file"),
            HTTP,
        ],
        check: check_marathon,
    },
    Mechanism {
        name: "nerve",
        go_type: "zookeeper.NerveSDConfig",
        go_plain: "zookeeper.plain",
        keys: &ZOOKEEPER_KEYS,
        check: |section| check_zookeeper("nerve", section),
    },
    Mechanism {
        name: "nomad",
        go_type: "nomad.SDConfig",
        go_plain: "nomad.plain",
        keys: &[
            flag("allow_stale", true).always(),
            HTTP,
            text("namespace").or("default").always(),
            REFRESH.always(),
            text("region").or("global").always(),
            text("server").or("http://localhost:4646").always(),
            text("tag_separator").or(","),
        ],
        check: |section| {
            if section.text("server").trim().is_empty() {
                return Err("nomad SD configuration requires a server address".to_owned());
            }
            Ok(())
        },
    },
    Mechanism {
        name: "puppetdb",
        go_type: "puppetdb.SDConfig",
        go_plain: "puppetdb.plain",
        keys: &[
            HTTP,
            REFRESH,
            text("url").always(),
            text("query").always(),
            flag("include_parameters", false).always(),
            PORT,
        ],
        check: |section| {
            check_url(section.text("url"))?;
            section.require("query", "query missing")
        },
    },
    Mechanism {
        name: "serverset",
        go_type: "zookeeper.ServersetSDConfig",
        go_plain: "zookeeper.plain",
        keys: &ZOOKEEPER_KEYS,
        check: |section| check_zookeeper("serverset", section),
    },
    Mechanism {
        name: "uyuni",
        go_type: "uyuni.SDConfig",
        go_plain: "uyuni.plain",
        keys: &[
            text("server").always(),
            text("username").always(),
            secret("password").always(),
            HTTP,
            text("entitlement").or("monitoring_entitled"),
            text("separator").or(","),
            REFRESH,
        ],
        check: |section| {
            section.require("server", "Uyuni SD configuration requires server host")?;
            Uri::parse(section.text("server")).map_err(|e| format!("Uyuni Server URL is not valid: {e}"))?;
            section.require("username", "Uyuni SD configuration requires a username")?;
            section.require("password", "Uyuni SD configuration requires a password")
        },
    },
];

fn check_marathon(section: &mut Section<'_>) -> Result<(), String> {
    section.require("servers", "marathon_sd: must contain at least one Marathon server")?;
    let (has_token, has_file) = (!section.is_zero("auth_token"), !section.is_zero("auth_token_file"));
    let exclusive = if has_token && has_file {
        "auth_token & auth_token_file"
    } else if !has_token && !has_file {
        return Ok(());
    } else if section.http.has_basic_auth() {
        "basic_auth, auth_token & auth_token_file"
    } else if section.http.has_bearer_token() {
        "bearer_token, bearer_token_file, auth_token & auth_token_file"
    } else if section.http.has_authorization() {
        "auth_token, auth_token_file & authorization"
    } else {
        return Ok(());
    };
    Err(format!("marathon_sd: at most one of {exclusive} must be configured"))
}

fn check_zookeeper(name: &str, section: &Section<'_>) -> Result<(), String> {
    section.require("servers", &format!("{name} SD config must contain at least one Zookeeper server"))?;
    section.require("paths", &format!("{name} SD config must contain at least one path"))?;
    match section.texts("paths").iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(format!("{name} SD config paths must begin with '/': {path}")),
        None => Ok(()),
    }
}
