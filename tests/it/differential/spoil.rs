//! Expressions that are wrong: of the wrong type, with parameters that cannot be, with patterns that do not compile, or
//! simply mistyped.

use super::expression::Expr;
use super::expression::Kind::{self, Matrix, Scalar, Vector};
use super::generate::{Generator, Taste};

/// What is wrong by its meaning: `V`, `M`, `S` stand for a vector, a matrix and a scalar.
const MISUSED: &[&str] = &[
    "rate(V)",
    "abs(M)",
    "abs(S)",
    "sum(S)",
    "sum(M)",
    "topk(V, V)",
    "topk(\"a\", V)",
    "count_values(5, V)",
    "count_values(V, V)",
    "histogram_quantile(V, S)",
    "histogram_quantile(S, M)",
    "label_replace(V, \"a\", \"b\", \"c\")",
    "label_replace(V, S, \"b\", \"c\", \"d\")",
    "label_replace(V, \"a\", \"$1\", \"job\", \"(.*\")",
    "label_replace(V, \"\", \"$1\", \"job\", \"(.*)\")",
    "label_replace(V, \"x\", \"$1\", \"job\", \"a**\")",
    "label_replace(V, \"\\xff\", \"$1\", \"job\", \"(.*)\")",
    "label_join(V, \"\", \"-\", \"job\")",
    "label_join(V, \"x\", \"-\", \"\")",
    "label_join(V)",
    "-M",
    "+M",
    "-\"a\"",
    "V + M",
    "M + V",
    "S > S",
    "S == S",
    "S and S",
    "V and S",
    "S or V",
    "S unless bool S",
    "V + bool V",
    "V and bool V",
    "V and on(job) group_left V",
    "V or ignoring(job) group_right(x) V",
    "V + on(job) group_left(job) V",
    "V + on(job, x) group_right(x, y) V",
    "V * ignoring(job) S",
    "S * on(job) V",
    "M",
    "\"text\"",
    "'it''s'",
    "V[5m]",
    "V offset 5m offset 1m",
    "V @ 5 @ 6",
    "V @ Inf",
    "V @ NaN",
    "V @ 1e300",
    "V offset 5m[5m]",
    "V @ 5 [5m]",
    "rate(M)[5m]",
    "rate(M)[5m] offset 1m",
    "rate(M) offset 1m",
    "rate(M) @ 5",
    "S offset 5m",
    "(V)[5m]",
    "(V) offset 5m",
    "M[5m:1m]",
    "V[5m:0s]",
    "V[0s:1m]",
    "V[-5m:1m]",
    "V[5m:-1m]",
    "up[0s]",
    "up[-5m]",
    "up[5m][5m]",
    "up[]",
    "up[5m:]:",
    "up[1y9999999w]",
    "up[5m1h]",
    "up[5x]",
    "up[5m]5",
    "up[1e20]",
    "up[5m/0]",
    "up[5m%0]",
    "up[1m - 5m]",
    "up[Inf]",
    "up[NaN]",
    "up offset 1e20",
    "up offset 5",
    "up offset -",
    "up offset (5m / 0)",
    "up[5m] anchored",
    "up[5m] smoothed",
    "up anchored smoothed",
    "avg_over_time(up[5m] smoothed)",
    "changes(up[5m] smoothed)",
    "rate(up[5m:1m] anchored)",
    "sum by (job)(V) by (job)",
    "sum by (job, ) (V)",
    "sum by (,) (V)",
    "sum by (1) (V)",
    "sum by (\"\") (V)",
    "sum by job (V)",
    "sum by (job)",
    "sum(V, V)",
    "sum()",
    "topk(V)",
    "topk(1, V, V)",
    "topk(1, V,)",
    "sum(V,)",
    "abs()",
    "abs(V, V)",
    "abs(V,)",
    "time(V)",
    "pi(1)",
    "round(V, S, S)",
    "clamp(V, S)",
    "nothing_known(V)",
    "Rate(M)",
    "ABS(V)",
    "sum_over_time(V)",
    "vector(V)",
    "scalar(S)",
    "scalar(M)",
    "absent(S)",
    "absent(M)",
    "absent_over_time(V)",
    "topk(NaN, V)",
    "topk(1e19, V)",
    "topk(-1e19, V)",
    "bottomk(Inf, V)",
    "limitk(NaN, V)",
    "limit_ratio(2, V)",
    "limit_ratio(NaN, V)",
    "quantile(7, V)",
    "quantile(NaN, V)",
    "quantile_over_time(-3, M)",
    "histogram_quantile(1.5, V)",
    "count_values(\"\", V)",
    "count_values(\"a\\xffb\", V)",
    "predict_linear(M)",
    "predict_linear(V, S)",
    "double_exponential_smoothing(M, 0, 0.5)",
    "double_exponential_smoothing(M, 0.5, 1.5)",
    "holt_winters(M, 0.5, 0.5)",
    "info(V, up)",
    "info(V, {a=\"b\"} + 1)",
    "info(V, S)",
    "info(V, {job=~\".*\"})",
    "info(V, {__name__=\"up\"}, V)",
    "info(M)",
    "histogram_quantiles(V, \"q\")",
    "histogram_quantiles(V, 1, 2)",
    "histogram_quantiles(V, \"\", 0.5)",
    "sort_by_label(V, 1)",
    "sort(V, V)",
    "sort_desc(M)",
    "up{}",
    "{}",
    "{job=~\".*\"}",
    "{job=\"\"}",
    "{__name__=\"\"}",
    "up{__name__=\"up\"}",
    "{\"up\", \"up\"}",
    "{\"up\",__name__=\"down\"}",
    "up{\"down\"}",
    "{job!=\"api\"}",
    "up{job=}",
    "up{job}",
    "up{job=api}",
    "up{=\"api\"}",
    "up{job=\"api\"",
    "up{job=\"api\",,}",
    "up{job==\"api\"}",
    "up{job~\"api\"}",
    "up{job=~\"api\" instance=\"a\"}",
    "up{1=\"a\"}",
    "up{a:b=\"c\"}",
    "up{job=~\"(\"}",
    "up{job=~\"*\"}",
    "up{job=~\"a{2000}\"}",
    "up{job=~\"a{3,2}\"}",
    "up{job=~\"\\\\\"}",
    "up{job=~\"[z-a]\"}",
    "up{job=~\"(?<n>a)\"}",
    "up{job=~\"a**\"}",
    "up{job=~\"\\\\pX\"}",
    "up{job!~\"[\"}",
    "up{job=~\"(?P<n>a)(?P<n>b)\"}",
    "up{job=~\"(?z)a\"}",
    "up{job=~\"\\\\8\"}",
    "up{job=~\"a)\"}",
    "up{job=~\"[[:nope:]]\"}",
    "up{job=\"\\q\"}",
    "up{job=\"\\xZZ\"}",
    "\"unclosed",
    "'unclosed",
    "`unclosed",
    "up{job=\"unclosed}",
    "up{job='\\\"'}",
    "\"\\400\"",
    "\"\\ud800\"",
    "V fill(0) V",
    "V and fill(0) V",
    "V + fill(S) V",
    "V + fill(1) S",
    "V + fill_left(0) fill_left(1) V",
    "V + fill V",
    "fill(1)",
    "up + fill",
    "V + on(job) ignoring(job) V",
    "V + on V",
    "V + on(job V",
    "V + group_left V",
    "V + on(job) group_left group_right V",
    "V ++ V",
    "V ** V",
    "V === V",
    "V =~ V",
    "V !~ V",
    "V ! V",
    "V <> V",
    "V && V",
    "V | V",
    "V < / V",
    "V </ S",
    "S >/ V",
    "S </ S",
    "1 atan2 2 atan2",
    "2 ^ ^ 3",
    "*V",
    "/ 2",
    "V -",
    "V by (job)",
    "(V",
    "V)",
    "((V)",
    "[5m]",
    "up[5m",
    "{",
    "}",
    ")",
    "",
    " ",
    "# nothing",
    "V # comment",
    "0x",
    "0xZ",
    "1__0",
    "1_",
    "1.2.3",
    "1e",
    "5mm",
    "5m3",
    "0deadbeef",
    "08.5e",
    "1.5h",
    "- - 1",
    "é",
    "up é",
    "up\u{a0}",
    "\"\u{fffd}\"",
    "up{é=\"x\"}",
    "up;",
    "$up",
    "up?",
    "up @ start",
    "up @ end(",
    "up @ \"5\"",
    "up @ -5m",
    "up offset 5m @ start() offset 1m",
    "start(1)",
    "up[start()]",
    "up[step(1)]",
    "up offset step",
    "sum(up) offset 5m",
    "(up offset 5m) offset 5m",
    "bool",
    "on",
    "up bool up",
    "by",
    "sum",
    "sum(sum)",
    "offset offset offset",
    "inf",
    "nan{}",
    "Inf123",
    "without(up)",
    "sum by (without) (up)",
    "sum without (on, bool, group_left) (up)",
    "and and and",
    "count(count) by (count)",
    "up[5m:1m:1m]",
    "up[5m:1m] anchored",
    "min_of(1)",
    "max_of(V, S)",
    "min_of()",
    "step(1)",
];

/// What a typing finger may add.
const TOKENS: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "\"",
    "'",
    "`",
    "5m",
    "1",
    "0.5",
    "+",
    "-",
    "*",
    "/",
    "==",
    "=",
    "=~",
    "!=",
    "!",
    "<",
    "</",
    "by",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "without",
    "offset",
    "@",
    "bool",
    "and",
    "or",
    "unless",
    "sum",
    "rate",
    "up",
    "fill",
    "(0)",
    "start()",
    "step()",
    "#",
    "\\",
    "é",
    "\u{1f600}",
    "$",
    "&",
    "~",
    "^",
    "%",
    "atan2",
    "smoothed",
    "anchored",
    ".",
    "_",
    "\n",
    "inf",
    "x",
    "e5",
    "0x",
];

impl Generator<'_> {
    /// An expression that is probably wrong, and the pieces of it where it has any.
    pub(crate) fn spoiled(&mut self) -> (String, Option<Expr>) {
        match self.rng.u8(..10) {
            0..5 => {
                let expr = self.misused();
                (expr.dressed_or_not(self.rng), Some(expr))
            }
            5 => {
                // The same, as a part of something that is right.
                let inner = self.misused();
                let outer = self.pick(&[
                    "sum(§)",
                    "abs(§)",
                    "§ + 1",
                    "up * §",
                    "rate(§[5m])",
                    "(§)",
                    "label_join(§, \"a\", \"\")",
                    "topk(2, §)",
                    "-§",
                    "avg_over_time((§)[10m:1m])",
                ]);
                let expr = Expr::new(Vector, outer, [inner]);
                (expr.dressed_or_not(self.rng), Some(expr))
            }
            _ => {
                let depth = self.rng.u8(0..3);
                let text = self.vector(depth, Taste::Any).text();
                (self.mistyped(&text), None)
            }
        }
    }

    fn misused(&mut self) -> Expr {
        let template = self.pick(MISUSED);
        // A capital alone is a place for an expression; those in names and strings are none.
        let mut out = String::new();
        let mut children = Vec::new();
        let chars: Vec<char> = template.chars().collect();
        let is_word =
            |c: Option<&char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '"' | '\\'));
        for (i, c) in chars.iter().enumerate() {
            let is_alone =
                !is_word(i.checked_sub(1).and_then(|i| chars.get(i))) && !is_word(chars.get(i + 1));
            let child = match c {
                'V' if is_alone => self.vector_or_selector(),
                'M' if is_alone => self.matrix(1, Taste::Any),
                'S' if is_alone => self.scalar(1),
                _ => {
                    out.push(*c);
                    continue;
                }
            };
            out.push('§');
            children.push(if child.is_tight { child } else { child.tight() });
        }
        let kind = if template.starts_with('M') {
            Matrix
        } else if template.starts_with('S') {
            Scalar
        } else {
            Vector
        };
        Expr::loose(kind, &out, children)
    }

    fn vector_or_selector(&mut self) -> Expr {
        if self.chance(75) { self.selector(Taste::Any) } else { self.vector(1, Taste::Any) }
    }

    /// One or two slips of the finger.
    fn mistyped(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.rng.u8(0..2) {
            let at = self.rng.usize(..=chars.len());
            let end = (at + self.rng.usize(1..4)).min(chars.len());
            match self.rng.u8(..6) {
                0 => drop(chars.drain(at..end)),
                1 => {
                    let again: Vec<char> = chars[at..end].to_vec();
                    chars.splice(at..at, again);
                }
                2 => {
                    let token: Vec<char> = self.pick(TOKENS).chars().collect();
                    chars.splice(at..end, token);
                }
                3 => chars.truncate(at),
                4 if end < chars.len() => chars.swap(at, end),
                _ => {
                    let token: Vec<char> = self.pick(TOKENS).chars().collect();
                    chars.splice(at..at, token);
                }
            }
        }
        chars.into_iter().collect()
    }
}

impl Expr {
    /// Mostly as it is.
    pub(crate) fn dressed_or_not(&self, rng: &mut fastrand::Rng) -> String {
        if rng.u8(..15) == 0 { self.dressed(rng) } else { self.text() }
    }
}

/// What may be asked for as a range.
pub(crate) fn is_rangeable(kind: Kind) -> bool {
    matches!(kind, Vector | Scalar)
}
