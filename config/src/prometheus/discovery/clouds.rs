//! The mechanisms of clouds other than Amazon's, and of what people run to have one.
//!
//! Compat: prometheus `discovery/{azure,digitalocean,gce,hetzner,ionos,linode,oci,openstack,outscale,ovhcloud,
//! scaleway,stackit,triton,vultr}`.

use model::quote::go_quote;

use super::table::{
    HTTP, Mechanism, PORT, REFRESH, Section, flag, number, path, role, seconds, secret, text, texts, tls,
};
use crate::uri::Uri;

pub(super) const MECHANISMS: [Mechanism; 14] = [
    Mechanism {
        name: "azure",
        go_type: "azure.SDConfig",
        go_plain: "azure.plain",
        keys: &[
            text("environment").or("AzurePublicCloud"),
            PORT,
            text("subscription_id").always(),
            text("tenant_id"),
            text("client_id"),
            secret("client_secret"),
            seconds("refresh_interval", 300),
            text("authentication_method").or("OAuth"),
            text("resource_group"),
            HTTP,
        ],
        check: check_azure,
    },
    Mechanism {
        name: "digitalocean",
        go_type: "digitalocean.SDConfig",
        go_plain: "digitalocean.plain",
        keys: &[
            HTTP,
            REFRESH.always(),
            PORT,
            role(&["droplets", "databases"], "unknown DigitalOcean SD role").or("droplets"),
            // For upstream's own tests; it shows up as null in every section.
            secret("httpclient").always(),
        ],
        check: |section| section.require("role", "role missing (one of: droplets, databases)"),
    },
    Mechanism {
        name: "gce",
        go_type: "gce.SDConfig",
        go_plain: "gce.plain",
        keys: &[
            text("project").always(),
            text("zone").always(),
            text("filter"),
            REFRESH,
            PORT,
            text("tag_separator").or(","),
        ],
        check: |section| {
            section.require("project", "GCE SD configuration requires a project")?;
            section.require("zone", "GCE SD configuration requires a zone")
        },
    },
    Mechanism {
        name: "hetzner",
        go_type: "hetzner.SDConfig",
        go_plain: "hetzner.plain",
        keys: &[
            HTTP,
            REFRESH.always(),
            PORT,
            role(&["robot", "hcloud"], "unknown role"),
            text("label_selector"),
        ],
        check: |section| section.require("role", "role missing (one of: robot, hcloud)"),
    },
    Mechanism {
        name: "ionos",
        go_type: "ionos.SDConfig",
        go_plain: "ionos.plain",
        keys: &[text("datacenter_id").always(), HTTP, REFRESH.always(), PORT],
        check: |section| section.require("datacenter_id", "datacenter id can't be empty"),
    },
    Mechanism {
        name: "linode",
        go_type: "linode.SDConfig",
        go_plain: "linode.plain",
        keys: &[HTTP, REFRESH.always(), PORT, text("tag_separator").or(","), text("region")],
        check: |_| Ok(()),
    },
    Mechanism {
        name: "oci",
        go_type: "oci.SDConfig",
        go_plain: "oci.plain",
        keys: &[
            text("auth").or("api_key"),
            text("tenancy"),
            text("user"),
            text("fingerprint"),
            path("key_file"),
            secret("key_passphrase"),
            path("key_passphrase_file"),
            text("region").always(),
            texts("compartments"),
            HTTP,
            PORT,
            REFRESH.always(),
        ],
        check: check_oci,
    },
    Mechanism {
        name: "openstack",
        go_type: "openstack.SDConfig",
        go_plain: "openstack.plain",
        keys: &[
            text("identity_endpoint").always(),
            text("username").always(),
            text("userid").always(),
            secret("password").always(),
            text("project_name").always(),
            text("project_id").always(),
            text("domain_name").always(),
            text("domain_id").always(),
            text("application_credential_name").always(),
            text("application_credential_id").always(),
            secret("application_credential_secret").always(),
            role(&["hypervisor", "instance", "loadbalancer"], "unknown OpenStack SD role"),
            text("region").always(),
            REFRESH.always(),
            PORT,
            flag("all_tenants", false),
            tls("tls_config"),
            text("availability").or("public"),
        ],
        check: |section| {
            let availability = section.text("availability");
            if !["public", "internal", "admin"].contains(&availability) {
                return Err(format!(
                    "unknown availability {availability}, must be one of admin, internal or public"
                ));
            }
            section.require("role", "role missing (one of: instance, hypervisor, loadbalancer)")?;
            section.require("region", "openstack SD configuration requires a region")
        },
    },
    Mechanism {
        name: "outscale",
        go_type: "outscale.SDConfig",
        go_plain: "outscale.plain",
        keys: &[
            text("endpoint"),
            text("region").or("eu-west-2").always(),
            text("access_key").always(),
            secret("secret_key").always(),
            path("secret_key_file").always(),
            REFRESH,
            PORT,
            HTTP,
        ],
        check: |section| {
            section.require("region", "outscale SD configuration requires a region")?;
            section.require("access_key", "outscale SD configuration requires access_key")?;
            check_secret_key(section)?;
            if section.is_zero("endpoint") {
                let endpoint = format!("https://api.{}.outscale.com/api/v1", section.text("region"));
                section.set_text("endpoint", endpoint);
            }
            Ok(())
        },
    },
    Mechanism {
        name: "ovhcloud",
        go_type: "ovhcloud.SDConfig",
        go_plain: "ovhcloud.plain",
        keys: &[
            text("endpoint").or("ovh-eu").always(),
            text("application_key").always(),
            secret("application_secret").always(),
            secret("consumer_key").always(),
            REFRESH.always(),
            text("service").always(),
        ],
        check: |section| {
            section.require("endpoint", "endpoint can not be empty")?;
            section.require("application_key", "application key can not be empty")?;
            section.require("application_secret", "application secret can not be empty")?;
            section.require("consumer_key", "consumer key can not be empty")?;
            match section.text("service") {
                "dedicated_server" | "vps" => Ok(()),
                service => Err(format!("unknown service: {service}")),
            }
        },
    },
    Mechanism {
        name: "scaleway",
        go_type: "scaleway.SDConfig",
        go_plain: "scaleway.plain",
        keys: &[
            text("project_id").always(),
            text("api_url").or("https://api.scaleway.com"),
            text("zone").or("fr-par-1").always(),
            text("access_key").always(),
            secret("secret_key").always(),
            path("secret_key_file").always(),
            text("name_filter"),
            texts("tags_filter"),
            HTTP,
            REFRESH.always(),
            PORT,
            role(&["instance", "baremetal"], "unknown role"),
        ],
        check: check_scaleway,
    },
    Mechanism {
        name: "stackit",
        go_type: "stackit.SDConfig",
        go_plain: "stackit.plain",
        keys: &[
            HTTP,
            text("project").always(),
            REFRESH,
            number("port", 80),
            text("region").or("eu01"),
            text("endpoint"),
            secret("service_account_key"),
            secret("private_key"),
            text("service_account_key_path"),
            text("private_key_path"),
            text("credentials_file_path"),
        ],
        check: |section| {
            let endpoint = section.text("endpoint");
            if endpoint.is_empty() && section.is_zero("region") {
                return Err("stackit_sd: endpoint and region missing".to_owned());
            }
            Uri::parse(endpoint)
                .map(drop)
                .map_err(|e| format!("stackit_sd: invalid endpoint {}: {e}", go_quote(endpoint.as_bytes())))
        },
    },
    Mechanism {
        name: "triton",
        go_type: "triton.SDConfig",
        go_plain: "triton.plain",
        keys: &[
            text("account").always(),
            text("role").or("container").always(),
            text("dns_suffix").always(),
            text("endpoint").always(),
            texts("groups"),
            number("port", 9163).always(),
            REFRESH,
            tls("tls_config"),
            number("version", 1).always(),
        ],
        check: |section| {
            if !["container", "cn"].contains(&section.text("role")) {
                return Err("triton SD configuration requires role to be 'container' or 'cn'".to_owned());
            }
            section.require("account", "triton SD configuration requires an account")?;
            section.require("dns_suffix", "triton SD configuration requires a dns_suffix")?;
            section.require("endpoint", "triton SD configuration requires an endpoint")?;
            section.require(
                "refresh_interval",
                "triton SD configuration requires RefreshInterval to be a positive integer",
            )
        },
    },
    Mechanism {
        name: "vultr",
        go_type: "vultr.SDConfig",
        go_plain: "vultr.plain",
        keys: &[HTTP, REFRESH.always(), PORT],
        check: |_| Ok(()),
    },
];

fn check_azure(section: &mut Section<'_>) -> Result<(), String> {
    let require = |key| section.require(key, &format!("azure SD configuration requires a {key}"));
    require("subscription_id")?;
    match section.text("authentication_method") {
        "OAuth" => {
            require("tenant_id")?;
            require("client_id")?;
            require("client_secret")
        }
        "ManagedIdentity" | "SDK" | "WorkloadIdentity" => Ok(()),
        other => Err(format!(
            "unknown authentication_type {}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \
             \"WorkloadIdentity\"",
            go_quote(other.as_bytes())
        )),
    }
}

fn check_oci(section: &mut Section<'_>) -> Result<(), String> {
    const OF_API_KEY: [&str; 4] = ["tenancy", "user", "fingerprint", "key_file"];
    section.require("region", "oci_sd: region is required")?;
    let has = |key| !section.is_zero(key);
    match section.text("auth") {
        "api_key" => {
            for key in OF_API_KEY {
                section.require(key, &format!("oci_sd: api_key auth requires {key}"))?;
            }
            if has("key_passphrase") && has("key_passphrase_file") {
                let text = "oci_sd: at most one of key_passphrase and key_passphrase_file must be configured";
                return Err(text.to_owned());
            }
        }
        "instance_principal" => {
            if OF_API_KEY.into_iter().chain(["key_passphrase", "key_passphrase_file"]).any(has) {
                let text = "oci_sd: instance_principal auth must not have tenancy, user, fingerprint, key_file, \
                            key_passphrase, or key_passphrase_file set";
                return Err(text.to_owned());
            }
        }
        other => {
            return Err(format!(
                "oci_sd: unknown auth method {}, expected \"api_key\" or \"instance_principal\"",
                go_quote(other.as_bytes())
            ));
        }
    }
    if let Some(i) = section.texts("compartments").iter().position(String::is_empty) {
        return Err(format!("oci_sd: compartments[{i}] must not be empty"));
    }
    section.require("refresh_interval", "oci_sd: refresh_interval must be positive, got 0s")
}

/// Exactly one of the key itself and its file.
fn check_secret_key(section: &Section<'_>) -> Result<(), String> {
    match (section.is_zero("secret_key"), section.is_zero("secret_key_file")) {
        (true, true) => Err("one of secret_key & secret_key_file must be configured".to_owned()),
        (false, false) => Err("at most one of secret_key & secret_key_file must be configured".to_owned()),
        _ => Ok(()),
    }
}

fn check_scaleway(section: &mut Section<'_>) -> Result<(), String> {
    const ZONES: &str =
        "fr-par-1, fr-par-2, fr-par-3, nl-ams-1, nl-ams-2, nl-ams-3, pl-waw-1, pl-waw-2, pl-waw-3";
    section.require("role", "role missing (one of: instance, baremetal)")?;
    section.require("project_id", "project_id is mandatory")?;
    check_secret_key(section)?;
    section.require("access_key", "access_key is mandatory")?;
    let fail = |text: String| Err(format!("scaleway-sdk-go: {text}"));
    let access_key = section.text("access_key");
    let is_access_key = access_key.len() == 20
        && access_key.starts_with("SCW")
        && access_key.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if !is_access_key {
        return fail(format!(
            "invalid access key format '{access_key}', expected SCWXXXXXXXXXXXXXXXXX format"
        ));
    }
    let uuid = "expected a UUID: xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if !section.is_zero("secret_key") && !is_uuid(section.text("secret_key")) {
        // The reference shows the key.
        return fail(format!("invalid secret key format '<secret>', {uuid}"));
    }
    let project = section.text("project_id");
    if !is_uuid(project) {
        return fail(format!("invalid project ID format '{project}', {uuid}"));
    }
    let zone = section.text("zone");
    if zone.is_empty() {
        return fail("default zone cannot be empty".to_owned());
    }
    if !is_zone(zone) {
        return fail(format!("invalid default zone format '{zone}', available zones are: {ZONES}"));
    }
    let url = section.text("api_url");
    if url.is_empty() || Uri::parse(url).is_err() {
        return fail(format!("invalid API url '{url}'"));
    }
    if url.ends_with('/') {
        return fail(format!("invalid API url '{url}' it should not have a trailing slash"));
    }
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// `fr-par-1`
fn is_zone(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [country, city, number] = *parts else { return false };
    let lower = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase());
    country.len() == 2
        && lower(country)
        && (3..=7).contains(&city.len())
        && lower(city)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}
