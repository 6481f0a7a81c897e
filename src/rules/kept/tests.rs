use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use model::Labels;

use super::super::alerting::{Alert, AlertState, Seen};
use super::{Kept, KeptAlert, KeptRule};

fn alert() -> Alert {
    Alert {
        state: AlertState::Firing,
        annotations: Arc::new(BTreeMap::from([("summary".to_owned(), "it \"is\"\n".to_owned())])),
        value: f64::NAN,
        seen: Seen { first: 1.5, min: f64::NEG_INFINITY, max: 3.0, at_fire: Some(2.0) },
        active_at: 1,
        fired_at: Some(2),
        resolved_at: None,
        keep_firing_since: Some(3),
        last_sent_at: Some(4),
        valid_until: 5,
    }
}

fn kept(labels: &Labels) -> Kept {
    let rule = KeptRule {
        file: "/r.yml".into(),
        group: "g".to_owned(),
        alert: "Down".to_owned(),
        labels: BTreeMap::new(),
        nth: 0,
        alerts: KeptAlert::of(labels, &alert()).into_iter().collect(),
    };
    Kept { saved_at: 9, rules: vec![rule] }
}

#[test]
fn alerts_come_back_as_they_were() {
    let labels = Labels::from_pairs([("alertname", "Down"), ("ünï", "\u{1F600}")]);
    let back = Kept::from_bytes(&kept(&labels).to_bytes().unwrap()).unwrap();
    assert_eq!(back.saved_at, 9);
    let alerts: HashMap<_, _> =
        back.rules.into_iter().flat_map(|rule| rule.alerts).map(KeptAlert::into_alert).collect();
    let back = &alerts[&labels];
    assert_eq!(format!("{back:?}"), format!("{:?}", alert()));
    assert_eq!(back.value.to_bits(), f64::NAN.to_bits());
}

#[test]
fn labels_that_are_no_text_are_left_out() {
    let labels = Labels::from_pairs([(&b"a"[..], &b"\xff"[..])]);
    assert!(kept(&labels).rules[0].alerts.is_empty());
}

#[test]
fn a_damaged_file_is_refused_at_every_byte() {
    let good = kept(&Labels::from_pairs([("a", "b")])).to_bytes().unwrap();
    assert!(Kept::from_bytes(&good).is_ok());
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 0x20;
        // The case of a digit of the checksum means nothing.
        let is_letter_case = i < 40 && good[i].is_ascii_alphabetic() && i >= super::HEADER.len();
        assert!(is_letter_case || Kept::from_bytes(&bad).is_err(), "byte {i}");
        assert!(Kept::from_bytes(&good[..i]).is_err(), "cut at {i}");
    }
}
