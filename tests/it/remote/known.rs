//! What differs from the reference on purpose, by the name of the request, with the reason.

/// Name, whether it differs from 3.14, whether the status differs from 3.5, reason.
const DIFFERENCES: &[(&str, bool, bool, &str)] = &[
    (
        "shape: blank before a parameter",
        true,
        false,
        "upstream overlooks the parameter and takes a request of version 2 for an empty one of version 1: its samples are lost with a 204",
    ),
    (
        "v2: nothing but an exemplar",
        true,
        false,
        "3.14 refuses what every Prometheus sends in version 2, and loses all exemplars",
    ),
    ("shape: SNAPPY", false, true, "3.5 takes the name of the encoding in any case"),
    ("shape: body of 32 MiB and one", false, true, "3.5 cuts the body off and calls it corrupt"),
    ("v2: nothing but labels", false, true, "3.5 takes series without samples"),
];

/// Parts of the names of requests that 3.5 is not sent: it panics, or takes what no release can read later.
const NEWEST_ONLY: &[(&str, &str)] = &[
    ("bad histogram", "3.5 keeps unknown schemas, answers 500 and is sent the same again for ever"),
    ("finer than is kept", "3.5 keeps histograms as they are"),
    ("reference", "3.5 panics on references that lead nowhere"),
];

/// Whether a request is sent to this reference.
pub(super) fn is_sent(name: &str, is_newest: bool) -> bool {
    is_newest || !NEWEST_ONLY.iter().any(|(part, _)| name.contains(part))
}

pub(super) fn differs(name: &str, is_newest: bool) -> bool {
    let here = |newest, older| if is_newest { newest } else { older };
    DIFFERENCES.iter().any(|&(known, newest, older, _)| known == name && here(newest, older))
}
