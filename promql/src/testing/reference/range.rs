//! Functions over range vectors.

use std::collections::BTreeMap;

use model::histogram::CounterResetHint;
use model::quote::go_quote;
use model::{FloatHistogram, Timestamp};

use super::select::{Ranges, interpolated, mixed_kinds, with_hint};
use super::{DUPLICATES, Grid, Raw, Reference, Res, Row, Val, bare};
use crate::parse::ast::{Boundary, Call, Expr, ValueType};

/// One call for one series at one step.
struct Call1<'a> {
    name: &'a str,
    metric: &'a [u8],
    range: i64,
    end: Timestamp,
    /// The step.
    t: Timestamp,
    params: Vec<f64>,
}

pub(super) fn mixed_schemas(metric: &[u8]) -> String {
    format!(
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}",
        go_quote(metric)
    )
}

impl Reference {
    pub(super) fn range_function(&self, e: &Call, grid: Grid) -> Res<Vec<Row>> {
        let name = e.func.name;
        let matrix = e.args.iter().position(|a| a.value_type() == ValueType::Matrix).expect("type-checked");
        let mut ranges = None;
        if let Expr::Subquery(_) = bare(&e.args[matrix]) {
            ranges = Some(self.ranges(&e.args[matrix], grid)?);
        }
        let mut params = Vec::new();
        for (_, arg) in e.args.iter().enumerate().filter(|(i, _)| *i != matrix) {
            params.push(self.scalars(arg, grid)?);
        }
        let ranges = match ranges {
            Some(ranges) => ranges,
            None => self.ranges(&e.args[matrix], grid)?,
        };
        match ranges.boundary {
            Some(Boundary::Anchored)
                if !["changes", "delta", "increase", "rate", "resets"].contains(&name) =>
            {
                return Err(format!(
                    "anchored modifier can only be used with: changes, delta, increase, rate, resets - not with {name}"
                ));
            }
            Some(Boundary::Smoothed) if !["delta", "increase", "rate"].contains(&name) => {
                return Err(format!(
                    "smoothed modifier can only be used with: delta, increase, rate - not with {name}"
                ));
            }
            _ => {}
        }
        if name == "absent_over_time" {
            let points: BTreeMap<_, _> = grid
                .times()
                .filter(|t| ranges.rows.iter().all(|row| row.at[t].is_empty()))
                .map(|t| (t, Val::F(1.0)))
                .collect();
            let row = Row { labels: super::vector::absent_labels(&e.args[0]), drop: false, points };
            return Self::checked(vec![row]);
        }
        self.over_rows(name, &ranges, &params)
    }

    fn over_rows(&self, name: &str, ranges: &Ranges, params: &[BTreeMap<Timestamp, f64>]) -> Res<Vec<Row>> {
        let keeps = matches!(name, "last_over_time" | "first_over_time");
        let mut out: Vec<Row> = Vec::new();
        for windows in &ranges.rows {
            let metric = windows.labels.metric_name();
            let mut points = BTreeMap::new();
            for (&t, window) in windows.at.iter().filter(|(_, window)| !window.is_empty()) {
                let params = params.iter().map(|p| p[&t]).collect();
                let call = Call1 { name, metric, range: ranges.range, end: ranges.end[&t], t, params };
                let v = match ranges.boundary {
                    None => self.one(&call, window)?,
                    Some(Boundary::Anchored) if matches!(name, "changes" | "resets") => {
                        match anchored(window, call.end - call.range) {
                            inside if inside.is_empty() => None,
                            inside => self.one(&call, &inside)?,
                        }
                    }
                    Some(boundary) => self.extended(&call, window, boundary),
                };
                points.extend(v.map(|v| (t, v)));
            }
            if points.is_empty() {
                continue;
            }
            if matches!(name, "rate" | "increase")
                && !metric.is_empty()
                && points.values().any(|v| v.float().is_some())
            {
                let suffixes: [&[u8]; 4] = [b"_total", b"_sum", b"_count", b"_bucket"];
                if !suffixes.iter().any(|suffix| metric.ends_with(suffix)) {
                    self.tell(format!(
                        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}",
                        go_quote(metric)
                    ));
                }
            }
            let row = Row { labels: windows.labels.clone(), drop: windows.drop, points };
            out.push(if keeps { row } else { self.dropped(row) });
        }
        // In immediate mode two series must not collide even if they never meet.
        for (i, row) in out.iter().enumerate() {
            if !self.scope.delayed && out[..i].iter().any(|other| other.labels == row.labels) {
                return Err(DUPLICATES.to_owned());
            }
        }
        Ok(out)
    }

    /// Whether a count went back or began anew between two samples.
    fn is_float_reset(&self, a: &Raw, b: &Raw) -> bool {
        match (&a.v, &b.v) {
            (Val::F(x), Val::F(y)) => y < x || self.began_between(a, b),
            _ => false,
        }
    }

    fn is_histogram_reset(&self, a: &Raw, b: &Raw) -> bool {
        match (&a.v, &b.v) {
            (Val::H(x), Val::H(y)) => y.is_reset_after(x) || self.began_between(a, b),
            _ => false,
        }
    }

    fn began_between(&self, p: &Raw, c: &Raw) -> bool {
        if !self.scope.start_timestamps || c.st == 0 || c.st >= c.t || c.st < p.t {
            return false;
        }
        c.st > p.t || (p.st != 0 && p.st != p.t && p.st <= p.t)
    }

    fn gauge_warning(&self, metric: &[u8]) {
        self.warn(format!("this native histogram metric is not a counter: {}", go_quote(metric)));
    }

    fn not_gauge_warning(&self, metric: &[u8]) {
        self.warn(format!("this native histogram metric is not a gauge: {}", go_quote(metric)));
    }

    fn reconciled(&self, during: &str) {
        self.tell(format!("mismatched custom buckets were reconciled during {during}"));
    }

    fn one(&self, call: &Call1<'_>, window: &[Raw]) -> Res<Option<Val>> {
        if window.is_empty() {
            return Ok(None);
        }
        let floats: Vec<(Timestamp, f64)> = window.iter().filter_map(|r| Some((r.t, r.v.float()?))).collect();
        let vs: Vec<f64> = floats.iter().map(|(_, v)| *v).collect();
        let hists: Vec<&FloatHistogram> = window.iter().filter_map(|r| r.v.histogram()).collect();
        let is_mixed = !floats.is_empty() && !hists.is_empty();
        let seconds = |t: Timestamp| t as f64 / 1000.0;
        let first = window.first().expect("not empty");
        let last = window.last().expect("not empty");
        let f = |v: f64| Ok(Some(Val::F(v)));
        // What takes floats only and says so where there are both.
        let float_only = [
            "min_over_time",
            "max_over_time",
            "stddev_over_time",
            "stdvar_over_time",
            "mad_over_time",
            "ts_of_min_over_time",
            "ts_of_max_over_time",
            "quantile_over_time",
            "deriv",
            "predict_linear",
            "double_exponential_smoothing",
        ];
        if float_only.contains(&call.name) {
            if call.name == "double_exponential_smoothing" {
                for (v, what) in [(call.params[0], "smoothing"), (call.params[1], "trend")] {
                    if v <= 0.0 || v >= 1.0 {
                        let letters = if what == "smoothing" { "sf" } else { "tf" };
                        let v = model::number::format_fixed(v, 6);
                        return Err(format!("invalid {what} factor. Expected: 0 < {letters} < 1, got: {v}"));
                    }
                }
            }
            if floats.is_empty() {
                return Ok(None);
            }
            if is_mixed {
                self.tell(format!(
                    "ignored histograms in a range containing both floats and histograms for metric name {}",
                    go_quote(call.metric)
                ));
            }
        }
        match call.name {
            "count_over_time" => f(window.len() as f64),
            "present_over_time" => f(1.0),
            "first_over_time" => Ok(Some(first.v.clone())),
            "last_over_time" => Ok(Some(last.v.clone())),
            "ts_of_first_over_time" => f(seconds(first.t)),
            "ts_of_last_over_time" => f(seconds(last.t)),
            "min_over_time" => f(super::aggregate::extreme(&vs, |new, old| new < old)),
            "max_over_time" => f(super::aggregate::extreme(&vs, |new, old| new > old)),
            "ts_of_min_over_time" | "ts_of_max_over_time" => {
                let is_min = call.name == "ts_of_min_over_time";
                let (mut t, mut kept) = floats[0];
                for &(at, v) in &floats[1..] {
                    let better = if is_min { v <= kept } else { v >= kept };
                    if better || kept.is_nan() {
                        (t, kept) = (at, v);
                    }
                }
                f(seconds(t))
            }
            "quantile_over_time" => {
                self.check_quantile(call.params[0]);
                f(super::aggregate::quantile(call.params[0], &vs))
            }
            "stdvar_over_time" => f(spread(&vs)),
            "stddev_over_time" => f(spread(&vs).sqrt()),
            "mad_over_time" => {
                if vs.iter().any(|v| v.is_nan()) {
                    return f(f64::NAN);
                }
                let median = super::aggregate::quantile(0.5, &vs);
                let distances: Vec<f64> = vs.iter().map(|v| (v - median).abs()).collect();
                f(super::aggregate::quantile(0.5, &distances))
            }
            "sum_over_time" | "avg_over_time" if is_mixed => {
                self.warn(mixed_kinds(call.metric));
                Ok(None)
            }
            "sum_over_time" if hists.is_empty() => {
                let (sum, c) = super::aggregate::kahan(vs.iter().copied());
                f(if sum.is_infinite() { sum } else { sum + c })
            }
            "avg_over_time" if hists.is_empty() => f(super::aggregate::mean(&vs)),
            "sum_over_time" | "avg_over_time" => {
                Ok(self.histogram_total(call.metric, &hists, call.name == "avg_over_time"))
            }
            "changes" => f(window.windows(2).filter(|p| is_change(&p[0].v, &p[1].v)).count() as f64),
            "resets" => {
                let is_reset = |p: &&[Raw]| match (&p[0].v, &p[1].v) {
                    (Val::F(_), Val::F(_)) => self.is_float_reset(&p[0], &p[1]),
                    (Val::H(_), Val::H(_)) => self.is_histogram_reset(&p[0], &p[1]),
                    _ => true,
                };
                f(window.windows(2).filter(is_reset).count() as f64)
            }
            "deriv" | "predict_linear" => {
                if floats.len() < 2 {
                    return Ok(None);
                }
                let origin = if call.name == "deriv" { floats[0].0 } else { call.t };
                let (slope, intercept) = line(&floats, origin);
                f(if call.name == "deriv" { slope } else { slope * call.params[0] + intercept })
            }
            "double_exponential_smoothing" => Ok(smooth(&vs, call.params[0], call.params[1]).map(Val::F)),
            "irate" | "idelta" => Ok(self.instantaneous(call, window)),
            "rate" | "increase" | "delta" => Ok(self.extrapolated(call, window)),
            other => unreachable!("{other} is not a range function"),
        }
    }

    pub(super) fn check_quantile(&self, q: f64) {
        if !(0.0..=1.0).contains(&q) {
            self.warn(format!(
                "quantile value should be between 0 and 1, got {}",
                model::number::format_g(q)
            ));
        }
    }

    /// Starts that lie before the sample before are reported once per call.
    fn report_overlaps(&self, call: &Call1<'_>, window: &[Raw]) {
        let overlaps = |p: &[Raw]| p[1].st != 0 && p[1].st < p[0].t && p[1].st != p[0].st;
        if self.scope.start_timestamps && call.name != "delta" && window.windows(2).any(overlaps) {
            *self.overlaps.borrow_mut().entry(call.metric.to_vec()).or_default() += 1;
        }
    }

    fn extrapolated(&self, call: &Call1<'_>, window: &[Raw]) -> Option<Val> {
        let has = |float: bool| window.iter().any(|r| r.v.float().is_some() == float);
        if has(true) && has(false) {
            self.warn(mixed_kinds(call.metric));
            return None;
        }
        let counter = call.name != "delta";
        let (first, last) = (&window[0], &window[window.len() - 1]);
        let start = call.end - call.range;
        let began = (self.scope.start_timestamps && counter && first.st != 0)
            .then_some(first.st)
            .filter(|&st| st > start && st < first.t);
        if window.len() < 2 && began.is_none() {
            return None;
        }
        self.report_overlaps(call, window);
        let mut result = match (&first.v, &last.v) {
            (Val::F(a), Val::F(b)) => {
                let mut result = b - a;
                for pair in window.windows(2).filter(|p| counter && self.is_float_reset(&p[0], &p[1])) {
                    result += pair[0].v.float().expect("only floats");
                }
                Val::F(result)
            }
            (Val::H(h), _) if window.len() == 1 => Val::H(FloatHistogram {
                schema: h.schema,
                custom_values: h.custom_values.clone(),
                ..FloatHistogram::default()
            }),
            _ => Val::H(self.histogram_difference(call, window)?),
        };
        let between = |a: Timestamp, b: Timestamp| (b - a) as f64 / 1000.0;
        let mut sampled = between(first.t, last.t);
        let average = if window.len() > 1 { sampled / (window.len() - 1) as f64 } else { 0.0 };
        let threshold = average * 1.1;
        let mut before = between(start, first.t);
        let mut after = between(last.t, call.end);
        if let Some(st) = began {
            before = 0.0;
            sampled = between(st, last.t);
            result = match (result, &first.v) {
                (Val::F(v), Val::F(first)) => Val::F(v + first),
                (Val::H(_), Val::H(first)) if window.len() == 1 => Val::H(first.clone()),
                (Val::H(mut h), Val::H(first)) => {
                    let done = h.add_assign(first).ok()?;
                    if done.reconciled {
                        self.reconciled("addition");
                    }
                    Val::H(h)
                }
                _ => unreachable!("of one kind"),
            };
        } else {
            if before >= threshold {
                before = average / 2.0;
            }
            let (total, begun) = match (&result, &first.v) {
                (Val::F(v), Val::F(first)) => (*v, *first),
                (Val::H(h), Val::H(first)) => (h.count, first.count),
                _ => unreachable!("of one kind"),
            };
            if counter && total > 0.0 && begun >= 0.0 {
                let zero = sampled * (begun / total);
                if zero < before {
                    before = zero;
                }
            }
        }
        if after >= threshold {
            after = average / 2.0;
        }
        let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + before + after) / sampled };
        if call.name == "rate" {
            factor /= call.range as f64 / 1000.0;
        }
        Some(match result {
            Val::F(v) => Val::F(v * factor),
            Val::H(mut h) => {
                h.multiply(factor);
                h.counter_reset_hint = CounterResetHint::Gauge;
                h.compact(0);
                Val::H(h)
            }
        })
    }

    fn histogram_difference(&self, call: &Call1<'_>, window: &[Raw]) -> Option<FloatHistogram> {
        let hists: Vec<&FloatHistogram> = window.iter().filter_map(|r| r.v.histogram()).collect();
        let gauge = |h: &&FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        let counter = call.name != "delta";
        let (first, last) = (hists[0], hists[hists.len() - 1]);
        if counter && (gauge(&first) || gauge(&last)) {
            self.gauge_warning(call.metric);
        }
        let mut base = first.clone();
        if counter && self.is_histogram_reset(&window[0], &window[1]) {
            base = FloatHistogram {
                schema: hists[1].schema,
                custom_values: hists[1].custom_values.clone(),
                ..FloatHistogram::default()
            };
        }
        let custom = base.uses_custom_buckets();
        let mut schema = base.schema.min(last.schema);
        if last.uses_custom_buckets() != custom {
            self.warn(mixed_schemas(call.metric));
            return None;
        }
        for h in hists[1..hists.len() - 1].iter().filter(|_| counter) {
            if gauge(h) {
                self.gauge_warning(call.metric);
            }
            if h.uses_custom_buckets() != custom {
                self.warn(mixed_schemas(call.metric));
                return None;
            }
            schema = schema.min(h.schema);
        }
        let mut h = last.to_schema(schema);
        if h.sub_assign(&base).ok()?.reconciled {
            self.reconciled("subtraction");
        }
        if counter {
            let mut previous = base;
            for (i, now) in hists.iter().enumerate().skip(1) {
                let by_start = i > 1 && self.began_between(&window[i - 1], &window[i]);
                if (now.is_reset_after(&previous) || by_start) && h.add_assign(&previous).ok()?.reconciled {
                    self.reconciled("addition");
                }
                previous = (*now).clone();
            }
        } else if !gauge(&first) || !gauge(&last) {
            self.not_gauge_warning(call.metric);
        }
        Some(h)
    }

    fn instantaneous(&self, call: &Call1<'_>, window: &[Raw]) -> Option<Val> {
        let [.., a, b] = window else { return None };
        let rate = call.name == "irate";
        let seconds = (b.t - a.t) as f64 / 1000.0;
        match (&a.v, &b.v) {
            (Val::F(x), Val::F(y)) => {
                let v = if rate && self.is_float_reset(a, b) { *y } else { y - x };
                Some(Val::F(if rate { v / seconds } else { v }))
            }
            (Val::H(x), Val::H(y)) => {
                let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
                if rate && (gauge(x) || gauge(y)) {
                    self.gauge_warning(call.metric);
                }
                if !rate && (!gauge(x) || !gauge(y)) {
                    self.not_gauge_warning(call.metric);
                }
                if x.uses_custom_buckets() != y.uses_custom_buckets()
                    && !(rate && self.is_histogram_reset(a, b))
                {
                    self.warn(mixed_schemas(call.metric));
                    return None;
                }
                let mut h = y.clone();
                if !(rate && self.is_histogram_reset(a, b)) && h.sub_assign(x).ok()?.reconciled {
                    self.reconciled("subtraction");
                }
                h.counter_reset_hint = CounterResetHint::Gauge;
                h.compact(0);
                if rate {
                    h.divide(seconds);
                }
                Some(Val::H(h))
            }
            _ => {
                self.warn(mixed_kinds(call.metric));
                None
            }
        }
    }

    /// rate, increase and delta of `anchored` and `smoothed` windows.
    fn extended(&self, call: &Call1<'_>, window: &[Raw], boundary: Boundary) -> Option<Val> {
        let has = |float: bool| window.iter().any(|r| r.v.float().is_some() == float);
        if has(true) && has(false) {
            self.warn(mixed_kinds(call.metric));
            return None;
        }
        let (a, b) = (call.end - call.range, call.end);
        let (first, last) = ends(window, a, b, boundary)?;
        let counter = call.name != "delta";
        let scale = |v: f64| if call.name == "rate" { v / (call.range as f64 / 1000.0) } else { v };
        if has(true) {
            let v = |i: usize| window[i].v.float().expect("only floats");
            let left = edge(window, first, a, b, boundary, counter, true);
            let right = edge(window, last, a, b, boundary, counter, false);
            let mut result = right - left;
            if counter {
                let mut previous = left;
                let inner = (first..=last).filter(|&i| window[i].t > a && window[i].t < b).map(v);
                for now in inner.chain([right]) {
                    if now < previous {
                        result += previous;
                    }
                    previous = now;
                }
            }
            return Some(Val::F(scale(result)));
        }
        self.extended_histogram(call, window, boundary, (first, last), scale(1.0)).map(Val::H)
    }

    fn extended_histogram(
        &self,
        call: &Call1<'_>,
        window: &[Raw],
        boundary: Boundary,
        (first, last): (usize, usize),
        factor: f64,
    ) -> Option<FloatHistogram> {
        let (a, b) = (call.end - call.range, call.end);
        let counter = call.name != "delta";
        let smoothed = boundary == Boundary::Smoothed;
        let h = |i: usize| window[i].v.histogram().expect("only histograms");
        let gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
        let all: Vec<&FloatHistogram> = (first..=last).map(h).collect();
        if all.iter().any(|x| x.uses_custom_buckets() != all[0].uses_custom_buckets()) {
            self.warn(mixed_schemas(call.metric));
            return None;
        }
        if counter && all.iter().any(|h| gauge(h)) {
            self.gauge_warning(call.metric);
        }
        let cut_left = smoothed && window[first].t < a && first < last;
        let cut_right = smoothed && last > 0 && window[last].t > b;
        let left = if cut_left {
            interpolated_histogram(window[first].t, h(first), window[first + 1].t, h(first + 1), a, counter)
        } else {
            h(first).clone()
        };
        let right = if cut_right {
            interpolated_histogram(window[last - 1].t, h(last - 1), window[last].t, h(last), b, counter)
        } else {
            h(last).clone()
        };
        if !counter && (!gauge(&left) || !gauge(&right)) {
            self.not_gauge_warning(call.metric);
        }
        let mut result = right.clone();
        if result.sub_assign(&left).ok()?.reconciled {
            self.reconciled("subtraction");
        }
        if counter {
            let mut previous = left;
            let mut from = first + 1;
            let mut goes_on = true;
            if cut_left && h(first + 1).is_reset_after(h(first)) {
                previous = h(first + 1).clone();
                from = first + 2;
                goes_on = from <= last;
            }
            if goes_on {
                let inner = (from..last).map(|i| h(i).clone());
                for now in inner.chain([right]) {
                    if now.is_reset_after(&previous) && result.add_assign(&previous).ok()?.reconciled {
                        self.reconciled("addition");
                    }
                    previous = now;
                }
            }
        }
        if call.name == "rate" {
            result.multiply(factor);
        }
        result.counter_reset_hint = CounterResetHint::Gauge;
        result.compact(0);
        Some(result)
    }

    /// The compensated sum or mean of the histograms of a window.
    fn histogram_total(&self, metric: &[u8], hists: &[&FloatHistogram], is_mean: bool) -> Option<Val> {
        let total = super::histogram::total(hists, is_mean);
        let Ok(h) = total.value else {
            self.warn(mixed_schemas(metric));
            return None;
        };
        if total.collide {
            self.warn("conflicting counter resets during histogram aggregation");
        }
        if total.reconciled {
            self.reconciled("aggregation");
        }
        Some(Val::H(h))
    }
}

fn is_change(a: &Val, b: &Val) -> bool {
    match (a, b) {
        (Val::F(a), Val::F(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Val::H(a), Val::H(b)) => !a.is_equal(b),
        _ => true,
    }
}

/// The baseline and everything behind it.
fn anchored(window: &[Raw], a: Timestamp) -> Vec<Raw> {
    let behind = window.iter().position(|raw| raw.t > a);
    match behind {
        None => Vec::new(),
        Some(i) => window[i.saturating_sub(1)..].to_vec(),
    }
}

/// The samples that an extended window begins and ends with.
fn ends(window: &[Raw], a: Timestamp, b: Timestamp, boundary: Boundary) -> Option<(usize, usize)> {
    let n = window.len();
    let smoothed = boundary == Boundary::Smoothed;
    let behind = (0..n - 1).find(|&i| window[i].t > a).unwrap_or(n - 1);
    let first = behind.saturating_sub(1);
    let last = if smoothed { (0..n - 1).find(|&i| window[i].t >= b).unwrap_or(n - 1) } else { n - 1 };
    (window[last].t > a && !(smoothed && window[first].t > b)).then_some((first, last))
}

/// The value at one end of an extended window of floats.
fn edge(
    window: &[Raw],
    i: usize,
    a: Timestamp,
    b: Timestamp,
    boundary: Boundary,
    counter: bool,
    is_left: bool,
) -> f64 {
    let v = |i: usize| window[i].v.float().expect("only floats");
    let smoothed = boundary == Boundary::Smoothed;
    let line = |i: usize, at| interpolated(window[i].t, v(i), window[i + 1].t, v(i + 1), at, counter);
    if smoothed && is_left && window[i].t < a && i + 1 < window.len() {
        return line(i, a);
    }
    if smoothed && !is_left && i > 0 && window[i].t > b {
        return line(i - 1, b);
    }
    v(i)
}

/// The points of an extended window as a result: the inner samples and one at each end.
pub(super) fn bounded(
    window: &[Raw],
    a: Timestamp,
    b: Timestamp,
    boundary: Boundary,
) -> Res<BTreeMap<Timestamp, Val>> {
    if window.iter().any(|raw| raw.v.histogram().is_some()) {
        let what = if boundary == Boundary::Anchored { "anchored" } else { "smoothed" };
        return Err(format!("{what} modifier is not supported with histograms"));
    }
    if window.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Some((first, last)) = ends(window, a, b, boundary) else { return Ok(BTreeMap::new()) };
    let mut points: BTreeMap<Timestamp, Val> =
        window.iter().filter(|raw| raw.t > a && raw.t < b).map(|raw| (raw.t, raw.v.clone())).collect();
    points.insert(a, Val::F(edge(window, first, a, b, boundary, false, true)));
    points.insert(b, Val::F(edge(window, last, a, b, boundary, false, false)));
    Ok(points)
}

/// The histogram at `t` on the line between two.
pub(super) fn interpolated_histogram(
    t1: Timestamp,
    h1: &FloatHistogram,
    t2: Timestamp,
    h2: &FloatHistogram,
    t: Timestamp,
    counter: bool,
) -> FloatHistogram {
    let f = (t - t1) as f64 / (t2 - t1) as f64;
    let mut line = h2.clone();
    if counter && h2.is_reset_after(h1) {
        line.multiply(f);
        return line;
    }
    if line.sub_assign(h1).is_err() {
        return with_hint(h2, h2.counter_reset_hint);
    }
    line.multiply(f);
    let mut sum = h1.clone();
    match sum.add_assign(&line) {
        Ok(_) => sum,
        Err(_) => line,
    }
}

fn spread(vs: &[f64]) -> f64 {
    use super::aggregate::kahan_step;
    let (mut m, mut aux) = ((0.0, 0.0), (0.0, 0.0));
    for (i, &v) in vs.iter().enumerate() {
        let delta = v - (m.0 + m.1);
        m = kahan_step(delta / (i + 1) as f64, m.0, m.1);
        aux = kahan_step(delta * (v - (m.0 + m.1)), aux.0, aux.1);
    }
    (aux.0 + aux.1) / vs.len() as f64
}

fn line(s: &[(Timestamp, f64)], origin: Timestamp) -> (f64, f64) {
    if s.iter().all(|(_, v)| *v == s[0].1) {
        return if s[0].1.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, s[0].1) };
    }
    let x = |t: Timestamp| (t - origin) as f64 / 1e3;
    let total = |f: &dyn Fn(f64, f64) -> f64| {
        let (sum, c) = super::aggregate::kahan(s.iter().map(|&(t, y)| f(x(t), y)));
        sum + c
    };
    let n = s.len() as f64;
    let (sx, sy) = (total(&|x, _| x), total(&|_, y| y));
    let (sxy, sxx) = (total(&|x, y| x * y), total(&|x, _| x * x));
    let slope = (sxy - sx * sy / n) / (sxx - sx * sx / n);
    (slope, sy / n - slope * sx / n)
}

fn smooth(vs: &[f64], sf: f64, tf: f64) -> Option<f64> {
    if vs.len() < 2 {
        return None;
    }
    let (mut s0, mut s1, mut b) = (0.0, vs[0], vs[1] - vs[0]);
    for (i, &v) in vs.iter().enumerate().skip(1) {
        if i > 1 {
            b = tf * (s1 - s0) + (1.0 - tf) * b;
        }
        (s0, s1) = (s1, sf * v + (1.0 - sf) * (s1 + b));
    }
    Some(s1)
}
