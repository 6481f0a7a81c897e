//! Two answers beside each other: alike in every respect, alike up to rounding, or different, and in what.
//!
//! Compared are the status, the type and text of an error, the type of the result, labels, times, values and the order
//! of series, warnings and infos. Annotations have no order, upstream keeps them in a map.

use std::fmt::Write as _;

use serde_json::Value;

use super::known::Known;

/// Sums that were added up in another order may differ by so much, relative to the larger one.
const ROUNDING: f64 = 1e-12;

/// What a server said; a status of 0 if nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Same,
    /// Values differ in the last bits.
    Rounded,
    /// Series of equal values stand in another order.
    Ties,
    /// The same content, written otherwise.
    Form,
    Different(&'static str),
}

impl Verdict {
    /// Whether somebody has to explain it.
    pub(crate) fn is_fine(self) -> bool {
        !matches!(self, Self::Form | Self::Different(_))
    }
}

impl Answer {
    /// The text of the error; of any other answer all of it.
    pub(crate) fn told(&self) -> String {
        let error = parse(&self.body).and_then(|body| Some(body["error"].as_str()?.to_owned()));
        error.unwrap_or_else(|| self.body.clone())
    }
}

pub(crate) fn compare(theirs: &Answer, ours: &Answer, known: &Known) -> Verdict {
    if theirs == ours {
        return Verdict::Same;
    }
    if theirs.status != ours.status {
        return Verdict::Different("status");
    }
    let (Some(theirs), Some(ours)) = (parse(&theirs.body), parse(&ours.body)) else {
        return Verdict::Different("text");
    };
    if theirs == ours {
        return Verdict::Form;
    }
    let error = |body: &Value| body["error"].as_str().map(|error| known.compared_error(error));
    if theirs["status"] != ours["status"]
        || theirs["errorType"] != ours["errorType"]
        || error(&theirs) != error(&ours)
    {
        return Verdict::Different("error");
    }
    for what in ["warnings", "infos"] {
        if annotations(&theirs[what], known) != annotations(&ours[what], known) {
            return Verdict::Different(what);
        }
    }
    let (theirs, ours) = (&theirs["data"], &ours["data"]);
    if theirs == ours {
        return Verdict::Same;
    }
    if theirs["resultType"] != ours["resultType"] {
        return Verdict::Different("type");
    }
    let (theirs, ours) = (&theirs["result"], &ours["result"]);
    match (theirs.as_array(), ours.as_array()) {
        (Some(theirs), Some(ours)) if theirs.iter().all(Value::is_object) => series(theirs, ours),
        _ if is_close(theirs, ours) => Verdict::Rounded,
        _ => Verdict::Different("value"),
    }
}

fn parse(body: &str) -> Option<Value> {
    serde_json::from_str(body).ok()
}

/// The texts in order. If some were left out, which ones is the map's choice, and only how many counts.
fn annotations(texts: &Value, known: &Known) -> Vec<String> {
    let texts = texts.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut texts: Vec<_> = texts.map(|text| known.compared(text)).collect();
    if let Some(omitted) = texts.iter().find(|text| text.ends_with("annotations omitted")) {
        return vec![omitted.clone()];
    }
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn series(theirs: &[Value], ours: &[Value]) -> Verdict {
    let labels = |series: &Value| series["metric"].to_string();
    if theirs.iter().map(labels).eq(ours.iter().map(labels)) {
        let is_close = theirs.iter().zip(ours).all(|(theirs, ours)| is_close(theirs, ours));
        return if is_close { Verdict::Rounded } else { Verdict::Different("values") };
    }
    let sorted = |series: &[Value]| {
        let mut sorted: Vec<_> = series.iter().map(|series| (labels(series), series.clone())).collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted
    };
    let (by_labels, ours_by_labels) = (sorted(theirs), sorted(ours));
    if !by_labels.iter().map(|(labels, _)| labels).eq(ours_by_labels.iter().map(|(labels, _)| labels)) {
        return Verdict::Different("series");
    }
    if !by_labels.iter().zip(&ours_by_labels).all(|((_, theirs), (_, ours))| is_close(theirs, ours)) {
        return Verdict::Different("values and order");
    }
    let is_value_alike = |(theirs, ours): (&Value, &Value)| {
        ["value", "histogram"].iter().all(|what| is_close(&theirs[what], &ours[what]))
            && theirs["values"].is_null()
    };
    if theirs.iter().zip(ours).all(is_value_alike) { Verdict::Ties } else { Verdict::Different("order") }
}

/// Of two answers that differ in `what`, the parts that show it.
pub(crate) fn contrast(theirs: &Answer, ours: &Answer, what: Verdict, known: &Known) -> [String; 2] {
    let whole = [theirs, ours].map(|answer| answer.body.clone());
    let (Some(theirs), Some(ours)) = (parse(&theirs.body), parse(&ours.body)) else { return whole };
    match what {
        Verdict::Different(what @ ("warnings" | "infos")) => {
            let (a, b) = (annotations(&theirs[what], known), annotations(&ours[what], known));
            [(&a, &b), (&b, &a)].map(|(all, others)| {
                let own: Vec<_> = all.iter().filter(|text| !others.contains(text)).collect();
                format!("{what} {own:#?}")
            })
        }
        Verdict::Different("values" | "values and order") | Verdict::Rounded => {
            let list = |answer: &Value| answer["data"]["result"].as_array().cloned().unwrap_or_default();
            let (theirs, ours) = (list(&theirs), list(&ours));
            let partner = |one: &Value| {
                ours.iter().find(|other| other["metric"] == one["metric"]).cloned().unwrap_or(Value::Null)
            };
            let is_odd = |one: &Value, other: &Value| {
                if what == Verdict::Rounded { one != other } else { !is_close(one, other) }
            };
            match theirs.iter().find(|one| is_odd(one, &partner(one))) {
                Some(one) => points(one, &partner(one), is_odd),
                None => whole,
            }
        }
        Verdict::Different("order" | "series") => [&theirs, &ours].map(|answer| {
            let list = answer["data"]["result"].as_array().into_iter().flatten();
            let other = if std::ptr::eq(answer, &raw const theirs) { &ours } else { &theirs };
            let others: Vec<_> = other["data"]["result"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| one["metric"].clone())
                .collect();
            let list =
                list.filter(|one| what == Verdict::Different("order") || !others.contains(&one["metric"]));
            list.map(Value::to_string).collect::<Vec<_>>().join("\n             ")
        }),
        _ => whole,
    }
}

/// A series and the first points in which it is odd.
fn points(one: &Value, other: &Value, is_odd: impl Fn(&Value, &Value) -> bool) -> [String; 2] {
    let mut texts = [one["metric"].to_string(), other["metric"].to_string()];
    for what in ["values", "histograms"] {
        let (Some(a), Some(b)) = (one[what].as_array(), other[what].as_array()) else {
            let _ = write!(texts[0], " {what}: {}", one[what]);
            let _ = write!(texts[1], " {what}: {}", other[what]);
            continue;
        };
        let times = |points: &[Value]| points.iter().map(|point| point[0].to_string()).collect::<Vec<_>>();
        let (ta, tb) = (times(a), times(b));
        let differs = |own: &[Value], others: &[String]| {
            own.iter()
                .filter(|p| !others.contains(&p[0].to_string()))
                .map(Value::to_string)
                .take(3)
                .collect::<Vec<_>>()
        };
        let _ = write!(texts[0], " {} {what}, only here {:?}", a.len(), differs(a, &tb));
        let _ = write!(texts[1], " {} {what}, only here {:?}", b.len(), differs(b, &ta));
        for (i, t) in ta.iter().enumerate() {
            if let Some(j) = tb.iter().position(|other| other == t)
                && is_odd(&a[i], &b[j])
            {
                let _ = write!(texts[0], " at {i}: {}", a[i]);
                let _ = write!(texts[1], " at {j}: {}", b[j]);
                break;
            }
        }
    }
    for what in ["value", "histogram"] {
        let _ = write!(texts[0], " {}", one[what]);
        let _ = write!(texts[1], " {}", other[what]);
    }
    texts
}

/// Whether numbers agree up to rounding and everything else exactly. Numbers come as strings; times as numbers.
fn is_close(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::String(theirs), Value::String(ours)) if theirs != ours => {
            let (Ok(theirs), Ok(ours)) = (theirs.parse::<f64>(), ours.parse::<f64>()) else { return false };
            (theirs - ours).abs() <= ROUNDING * theirs.abs().max(ours.abs())
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(theirs, ours)| is_close(theirs, ours))
        }
        (Value::Object(theirs), Value::Object(ours)) => {
            theirs.len() == ours.len()
                && theirs.iter().all(|(key, theirs)| {
                    ours.get(key).is_some_and(|ours| {
                        if key == "metric" { theirs == ours } else { is_close(theirs, ours) }
                    })
                })
        }
        _ => theirs == ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(theirs: &str, ours: &str) -> Verdict {
        let answer = |body: &str| Answer { status: 200, body: body.replace('\'', "\"") };
        compare(&answer(theirs), &answer(ours), &Known::default())
    }

    fn vector(series: &str) -> String {
        format!("{{'status':'success','data':{{'resultType':'vector','result':[{series}]}}}}")
    }

    #[test]
    fn rounding_is_no_difference_and_everything_else_is() {
        let one = |v: &str| vector(&format!("{{'metric':{{'a':'1'}},'value':[5,'{v}']}}"));
        assert_eq!(of(&one("0.3"), &one("0.3")), Verdict::Same);
        assert_eq!(of(&one("0.3"), &one("0.30000000000000004")), Verdict::Rounded);
        assert_eq!(of(&one("0.3"), &one("0.300001")), Verdict::Different("values"));
        assert_eq!(of(&one("0.3"), &one("NaN")), Verdict::Different("values"));
        assert_eq!(of(&one("-0"), &one("0")), Verdict::Rounded);
        assert_eq!(of(&one("1"), &one("1").replace('1', "2")), Verdict::Different("series"));
        assert_eq!(of(&one("1"), &one("1").replace("[5,", "[6,")), Verdict::Different("values"));
        assert_eq!(of(&one("1"), &one("1").replace("vector", "matrix")), Verdict::Different("type"));
    }

    #[test]
    fn order_counts_unless_values_are_equal() {
        let two = |a: (&str, &str), b: (&str, &str)| {
            let one = |(label, v): (&str, &str)| format!("{{'metric':{{'a':'{label}'}},'value':[5,'{v}']}}");
            vector(&format!("{},{}", one(a), one(b)))
        };
        assert_eq!(of(&two(("x", "1"), ("y", "1")), &two(("y", "1"), ("x", "1"))), Verdict::Ties);
        assert_eq!(
            of(&two(("x", "1"), ("y", "2")), &two(("y", "2"), ("x", "1"))),
            Verdict::Different("order")
        );
        assert_eq!(
            of(&two(("x", "1"), ("y", "2")), &two(("y", "1"), ("x", "2"))),
            Verdict::Different("values and order")
        );
    }

    #[test]
    fn annotations_have_no_order() {
        let with = |warnings: &str| format!("{{'status':'success','data':1,'warnings':[{warnings}]}}");
        assert_eq!(of(&with("'a','b'"), &with("'b','a'")), Verdict::Same);
        assert_eq!(of(&with("'a','b'"), &with("'a'")), Verdict::Different("warnings"));
        assert_eq!(of("{'a':1,'b':2}", "{'b':2,'a':1}"), Verdict::Form);
    }
}
