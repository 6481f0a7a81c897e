//! What Alertmanager 0.34 answers to the same bodies.

use super::{Refused, alerts, silence};

fn schema(code: u16, message: &str) -> Refused {
    Refused::Schema { code, message: message.to_owned() }
}

fn malformed(what: &str, why: &str) -> Refused {
    Refused::Malformed(format!("parsing {what} body from \"\" failed, because {why}"))
}

#[test]
fn alerts_are_refused_in_upstreams_words() {
    let cases = [
        ("", schema(602, "alerts in body is required")),
        ("[{}]", schema(602, "0.labels in body is required")),
        (r#"[{"labels":null}]"#, schema(602, "0.labels in body is required")),
        (
            r#"[{"labels":{"a":"b"}},{"labels":{"a":"b"},"generatorURL":":::"}]"#,
            schema(601, r#"1.generatorURL in body must be of type uri: ":::""#),
        ),
        (
            r#"[{"labels":{"a":1}}]"#,
            malformed(
                "alerts",
                "json: cannot unmarshal number into Go struct field Alert.labels of type string",
            ),
        ),
        (
            "{}",
            malformed("alerts", "json: cannot unmarshal object into Go value of type models.PostableAlerts"),
        ),
        ("[{", malformed("alerts", "unexpected EOF")),
        (
            r#"[{"labels":{"a":"b"},"startsAt":"x"}]"#,
            malformed("alerts", r#"parsing time "x" as "2006-01-02": cannot parse "x" as "2006""#),
        ),
    ];
    for (body, wanted) in cases {
        assert_eq!(alerts(body.as_bytes()).unwrap_err(), wanted, "{body}");
    }
    assert_eq!(alerts(b"null").unwrap(), []);
    let taken = alerts(
        br#"[{"labels":{"a":"b","empty":""},"startsAt":"2026-01-02T03:04:05.5+01:00","unknown":3,
             "endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://x/%20?q=%"}] behind"#,
    );
    let taken = &taken.unwrap()[0];
    assert_eq!(taken.starts_at.unwrap().to_string(), "2026-01-02T02:04:05.5Z");
    assert_eq!((taken.ends_at, taken.labels.len()), (None, 2));
}

#[test]
fn silences_are_refused_in_upstreams_words() {
    let with = |matchers: &str, rest: &str| {
        format!(r#"{{"matchers":{matchers},"endsAt":"2036-01-02 00:00:00","createdBy":"x"{rest}}}"#)
    };
    let rest = r#","startsAt":"2026-01-01","comment":"c""#;
    let one = r#"[{"name":"a","value":"b","isRegex":false}]"#;
    let cases = [
        ("{}".to_owned(), schema(602, "comment in body is required")),
        ("null".to_owned(), schema(602, "comment in body is required")),
        (with("[]", rest), schema(612, "matchers in body should have at least 1 items")),
        (with("null", rest), schema(602, "matchers in body is required")),
        (with(r#"[{"name":"a","value":"b"}]"#, rest), schema(602, "matchers.0.isRegex in body is required")),
        (with(one, r#","comment":"c""#), schema(602, "startsAt in body is required")),
        (with(one, r#","startsAt":"2026-01-01""#), schema(602, "comment in body is required")),
        (
            with(one, r#","startsAt":"yes","comment":"c""#),
            malformed("silence", r#"parsing time "yes" as "2006-01-02": cannot parse "yes" as "2006""#),
        ),
        (
            with(one, r#","startsAt":"2026-01-01","comment":5"#),
            malformed(
                "silence",
                "json: cannot unmarshal number into Go struct field Silence.comment of type string",
            ),
        ),
        (
            "[]".to_owned(),
            malformed(
                "silence",
                r#"json: cannot unmarshal array into Go value of type struct { ID string "json:\"id,omitempty\"" }"#,
            ),
        ),
    ];
    for (body, wanted) in cases {
        assert_eq!(silence(body.as_bytes()).unwrap_err(), wanted, "{body}");
    }
    let taken = silence(with(one, rest).as_bytes()).unwrap();
    assert_eq!(taken.ends_at.to_string(), "2036-01-02T00:00:00Z");
    assert_eq!(taken.starts_at.to_string(), "2026-01-01T00:00:00Z");
    assert!(taken.matchers[0].is_equal);
}
