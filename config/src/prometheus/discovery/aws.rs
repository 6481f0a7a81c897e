//! The mechanisms of Amazon: one per service, and one for all of them that takes the service as its role.
//!
//! Compat: prometheus `discovery/aws`.

use super::table::{
    HTTP, HTTP_OFF, Key, Mechanism, PORT, REFRESH, Section, filters, number, role, seconds, secret, text,
    texts,
};

const REGION: Key = text("region").always();
const ENDPOINT: Key = text("endpoint").always();
const ACCESS_KEY: Key = text("access_key");
const SECRET_KEY: Key = secret("secret_key");
const PROFILE: Key = text("profile");
const ROLE_ARN: Key = text("role_arn");
const EXTERNAL_ID: Key = text("external_id");
const CLUSTERS: Key = texts("clusters");

pub(super) const MECHANISMS: [Mechanism; 7] = [
    Mechanism {
        name: "aws",
        go_type: "aws.SDConfig",
        go_plain: "aws.plain",
        keys: &[
            role(&["ec2", "ecs", "elasticache", "lightsail", "msk", "rds"], UNKNOWN_ROLE),
            text("region"),
            text("endpoint"),
            ACCESS_KEY,
            SECRET_KEY,
            PROFILE,
            ROLE_ARN,
            EXTERNAL_ID,
            seconds("refresh_interval", 0),
            number("port", 0),
            HTTP_OFF,
            filters("filters"),
            CLUSTERS,
        ],
        check: |section| section.require("role", &format!("{UNKNOWN_ROLE} \"\"")),
    },
    Mechanism {
        name: "ec2",
        go_type: "aws.EC2SDConfig",
        go_plain: "aws.plain",
        keys: &[
            ENDPOINT,
            REGION,
            ACCESS_KEY,
            SECRET_KEY,
            PROFILE,
            ROLE_ARN,
            EXTERNAL_ID,
            REFRESH,
            PORT,
            filters("filters").always(),
            HTTP,
        ],
        check: |section| {
            if section.filters("filters").iter().any(|filter| filter.values.is_empty()) {
                return Err("EC2 SD configuration filter values cannot be empty".to_owned());
            }
            Ok(())
        },
    },
    Mechanism {
        name: "ecs",
        go_type: "aws.ECSSDConfig",
        go_plain: "aws.plain",
        keys: &[
            REGION,
            ENDPOINT,
            ACCESS_KEY,
            SECRET_KEY,
            PROFILE,
            ROLE_ARN,
            EXTERNAL_ID,
            CLUSTERS,
            PORT,
            REFRESH,
            number("request_concurrency", 20),
            HTTP,
        ],
        check: nothing,
    },
    Mechanism {
        name: "elasticache",
        go_type: "aws.ElasticacheSDConfig",
        go_plain: "aws.plain",
        keys: &CLUSTER_KEYS,
        check: nothing,
    },
    Mechanism {
        name: "lightsail",
        go_type: "aws.LightsailSDConfig",
        go_plain: "aws.plain",
        keys: &[
            ENDPOINT,
            REGION,
            ACCESS_KEY,
            SECRET_KEY,
            PROFILE,
            ROLE_ARN,
            EXTERNAL_ID,
            REFRESH,
            PORT,
            HTTP,
        ],
        check: nothing,
    },
    Mechanism {
        name: "msk",
        go_type: "aws.MSKSDConfig",
        go_plain: "aws.plain",
        keys: &CLUSTER_KEYS,
        check: nothing,
    },
    Mechanism {
        name: "rds",
        go_type: "aws.RDSSDConfig",
        go_plain: "aws.plain",
        keys: &[
            REGION,
            ENDPOINT,
            ACCESS_KEY,
            SECRET_KEY,
            PROFILE,
            ROLE_ARN,
            EXTERNAL_ID,
            CLUSTERS,
            PORT,
            REFRESH,
            filters("filters").always(),
            number("request_concurrency", 10),
            HTTP,
        ],
        check: nothing,
    },
];

const UNKNOWN_ROLE: &str = "unknown AWS SD role";

const CLUSTER_KEYS: [Key; 12] = [
    REGION,
    ENDPOINT,
    ACCESS_KEY,
    SECRET_KEY,
    PROFILE,
    ROLE_ARN,
    EXTERNAL_ID,
    CLUSTERS,
    PORT,
    REFRESH,
    number("request_concurrency", 10),
    HTTP,
];

#[expect(clippy::unnecessary_wraps, reason = "it stands where other mechanisms have a check")]
fn nothing(_: &mut Section<'_>) -> Result<(), String> {
    Ok(())
}
