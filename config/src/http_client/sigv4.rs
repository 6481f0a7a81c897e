//! `sigv4`: requests signed for Amazon's services.
//!
//! Compat: prometheus/sigv4, `SigV4Config`.

use crate::Secret;
use crate::yaml::emit::Fields;
use crate::yaml::{Decoded, Decoder, Issue, Node, Out};

/// What is empty comes from the provider's usual chain.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sigv4 {
    pub region: String,
    pub access_key: String,
    pub secret_key: Secret,
    pub profile: String,
    pub role_arn: String,
    pub external_id: String,
    pub use_fips_sts_endpoint: bool,
    pub service_name: String,
}

/// `None` for null, too.
pub(crate) fn decode_sigv4(decoder: &mut Decoder, node: &Node) -> Decoded<Sigv4> {
    if node.is_null() {
        return Ok(None);
    }
    let mut sigv4 = Sigv4::default();
    let ok = decoder.fields(node, "sigv4.plain", &mut |decoder, key, value| {
        match key {
            "region" => decoder.set(value, &mut sigv4.region)?,
            "access_key" => decoder.set(value, &mut sigv4.access_key)?,
            "secret_key" => decoder.set(value, &mut sigv4.secret_key)?,
            "profile" => decoder.set(value, &mut sigv4.profile)?,
            "role_arn" => decoder.set(value, &mut sigv4.role_arn)?,
            "external_id" => decoder.set(value, &mut sigv4.external_id)?,
            "use_fips_sts_endpoint" => decoder.set(value, &mut sigv4.use_fips_sts_endpoint)?,
            "service_name" => decoder.set(value, &mut sigv4.service_name)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if !ok {
        return Ok(None);
    }
    if sigv4.access_key.is_empty() != sigv4.secret_key.is_empty() {
        let text = "must provide a AWS SigV4 Access key and Secret Key if credentials are specified in the SigV4 config";
        return Err(Issue::new(node.pos, text));
    }
    if !sigv4.external_id.is_empty() && sigv4.role_arn.is_empty() {
        return Err(Issue::new(node.pos, "external_id can only be used with role_arn"));
    }
    Ok(Some(sigv4))
}

pub(crate) fn print_sigv4(sigv4: &Sigv4) -> Out {
    let mut fields = Fields::default();
    fields.some("region", sigv4.region.as_str()).some("access_key", sigv4.access_key.as_str());
    if !sigv4.secret_key.is_empty() {
        fields.put("secret_key", Out::secret(&sigv4.secret_key));
    }
    fields
        .some("profile", sigv4.profile.as_str())
        .some("role_arn", sigv4.role_arn.as_str())
        .some("external_id", sigv4.external_id.as_str())
        .some("use_fips_sts_endpoint", sigv4.use_fips_sts_endpoint)
        .some("service_name", sigv4.service_name.as_str());
    fields.into_out()
}
