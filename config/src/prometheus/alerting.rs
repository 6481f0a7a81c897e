//! `alerting`: where alerts are sent and how they are relabelled on the way.
//!
//! Compat: prometheus `config`, `AlertingConfig` and `AlertmanagerConfig`.

use std::path::Path;
use std::time::Duration;

use super::discovery::decode::SdFields;
use super::{Alerting, Alertmanager};
use crate::http_client::HttpClient;
use crate::http_client::decode::HttpFields;
use crate::http_client::sigv4::decode_sigv4;
use crate::relabel::NameScheme;
use crate::relabel::decode::{RawRule, RawRules, decode_list, refuse_null, validate_list};
use crate::yaml::{Decoder, Issue, Node};

#[derive(Default)]
pub(super) struct RawAlerting {
    alert_relabel: Vec<RawRule>,
    alertmanagers: Vec<RawAlertmanager>,
}

struct RawAlertmanager {
    relabel: Vec<RawRule>,
    alert_relabel: Vec<RawRule>,
    config: Alertmanager,
}

impl RawAlerting {
    pub(super) fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
        let mut raw = Self::default();
        let mut alert_relabel = RawRules::new();
        let ok = decoder.fields(node, "config.plain", &mut |decoder, key, value| {
            match key {
                "alert_relabel_configs" => {
                    alert_relabel = decode_list(decoder, value)?.unwrap_or_default();
                }
                "alertmanagers" => {
                    decoder.items(value, "config.AlertmanagerConfigs", &mut |decoder, item| {
                        if item.is_null() {
                            return Err(Issue::new(item.pos, "empty or null Alertmanager config section"));
                        }
                        raw.alertmanagers.extend(RawAlertmanager::decode(decoder, base, item)?);
                        Ok(())
                    })?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        raw.alert_relabel = refuse_null(alert_relabel, "empty or null alert relabeling rule")?;
        Ok(Some(raw))
    }

    /// Checks the rules in upstream's order.
    pub(super) fn resolve(self, scheme: NameScheme) -> Result<Alerting, Issue> {
        let alert_relabel = validate_list(self.alert_relabel, scheme)?;
        let alertmanagers = self.alertmanagers.into_iter().map(|raw| {
            let alert_relabel = validate_list(raw.alert_relabel, scheme)?;
            Ok(Alertmanager { relabel: validate_list(raw.relabel, scheme)?, alert_relabel, ..raw.config })
        });
        Ok(Alerting { alert_relabel, alertmanagers: alertmanagers.collect::<Result<_, Issue>>()? })
    }
}

impl RawAlertmanager {
    fn decode(decoder: &mut Decoder, base: &Path, node: &Node) -> Result<Option<Self>, Issue> {
        let mut http = HttpFields::default();
        let mut discovery = SdFields::default();
        let (mut relabel, mut alert_relabel) = (Vec::new(), Vec::new());
        let mut config = Alertmanager {
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            timeout: Duration::from_secs(10),
            http: HttpClient::default(),
            sigv4: None,
            relabel: Vec::new(),
            alert_relabel: Vec::new(),
            discovery: Vec::new(),
        };
        let ok = decoder.fields(node, "config.AlertmanagerConfig", &mut |decoder, key, value| {
            match key {
                "scheme" => decoder.set(value, &mut config.scheme)?,
                "path_prefix" => decoder.set(value, &mut config.path_prefix)?,
                "timeout" => decoder.set(value, &mut config.timeout)?,
                "api_version" if value.is_null() => {}
                "api_version" => match decoder.text_as(value, "config.plain")?.as_deref() {
                    None | Some("v2") => {}
                    Some(other) => {
                        let text =
                            format!("expected Alertmanager api version to be one of [v2] but got {other}");
                        return Err(Issue::new(value.pos, text));
                    }
                },
                "sigv4" => config.sigv4 = decode_sigv4(decoder, value)?,
                "relabel_configs" => relabel = decode_list(decoder, value)?.unwrap_or_default(),
                "alert_relabel_configs" => alert_relabel = decode_list(decoder, value)?.unwrap_or_default(),
                _ => {
                    return Ok(http.field(decoder, base, key, value)?
                        || discovery.field(decoder, base, key, value)?);
                }
            }
            Ok(true)
        })?;
        if !ok {
            return Ok(None);
        }
        config.http = http.finish(base, node.pos)?;
        let http = &config.http;
        let is_authenticated =
            http.basic_auth.is_some() || http.authorization.is_some() || http.oauth2.is_some();
        if is_authenticated && config.sigv4.is_some() {
            let text = "at most one of basic_auth, authorization, oauth2, & sigv4 must be configured";
            return Err(Issue::new(node.pos, text));
        }
        config.discovery = discovery.finish(relabel.is_empty())?;
        let relabel = refuse_null(relabel, "empty or null Alertmanager target relabeling rule")?;
        let alert_relabel = refuse_null(alert_relabel, "empty or null Alertmanager alert relabeling rule")?;
        Ok(Some(Self { relabel, alert_relabel, config }))
    }
}
