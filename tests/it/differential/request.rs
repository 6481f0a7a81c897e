//! What is asked of both servers: an expression, where it is sent, and the times that go with it.

use fastrand::Rng;

use super::data::{BEGIN, END};
use super::expression::{Expr, Kind};
use super::generate::{Generator, Language, Taste};

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: &'static str,
    /// The query first.
    pub(crate) parameters: Vec<(&'static str, String)>,
    /// What the query was written from, as long as the text is just that.
    pub(crate) expr: Option<Expr>,
}

impl Request {
    pub(crate) fn query(&self) -> &str {
        &self.parameters[0].1
    }

    pub(crate) fn with_expr(&self, expr: Expr) -> Self {
        let mut parameters = self.parameters.clone();
        parameters[0].1 = expr.text();
        Self { path: self.path, parameters, expr: Some(expr) }
    }

    /// As one line for people.
    pub(crate) fn line(&self) -> String {
        let rest: Vec<_> =
            self.parameters[1..].iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {} {:?}", self.path.trim_start_matches("/api/v1/"), rest.join(" "), self.query())
    }
}

/// Request `i` of a seed: always the same, whatever was asked before.
pub(crate) fn request(seed: u64, i: usize, language: Language) -> Request {
    let mut rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i as u64));
    let mut generator = Generator { rng: &mut rng, language };
    let (query, expr) = if generator.chance(20) { generator.spoiled() } else { valid(&mut generator) };
    let kind = expr.as_ref().map(|expr| expr.kind);
    let (path, times) = match rng.u8(..100) {
        0..2 => ("/api/v1/format_query", Vec::new()),
        2..4 if language.is_new => ("/api/v1/parse_query", Vec::new()),
        // Types that have no range are asked for as one only now and then, for the message.
        4..54 if kind.is_none_or(super::spoil::is_rangeable) || rng.u8(..20) == 0 => {
            ("/api/v1/query_range", range(&mut rng))
        }
        _ => ("/api/v1/query", instant(&mut rng)),
    };
    let parameters = [("query", query)].into_iter().chain(times).collect();
    Request { path, parameters, expr }
}

fn valid(generator: &mut Generator<'_>) -> (String, Option<Expr>) {
    let depth = *generator.rng.choice(&[1, 1, 1, 2, 2, 2, 3, 3, 4]).expect("a choice");
    let expr = match generator.rng.u8(..50) {
        0..2 => generator.scalar(depth),
        2..5 => generator.matrix(depth.min(2), Taste::Any),
        5 => Expr::leaf(Kind::Text, generator.quoted("some \\ \"text\" <é>")),
        6..9 => generator.selector(Taste::Any),
        _ => generator.vector(depth, Taste::Any),
    };
    (expr.dressed_or_not(generator.rng), Some(expr))
}

fn seconds(t_ms: i64) -> String {
    if t_ms % 1000 == 0 { (t_ms / 1000).to_string() } else { format!("{:.3}", t_ms as f64 / 1000.0) }
}

/// Some time, mostly one at which there is something.
fn time(rng: &mut Rng) -> i64 {
    let t = match rng.u8(..30) {
        0 => BEGIN - rng.i64(0..600_000),
        1 => END + rng.i64(0..1_200_000),
        // The block ends here.
        2..4 => BEGIN + 7_200_000 + rng.i64(-1..2),
        _ => rng.i64(BEGIN + 600_000..END),
    };
    match rng.u8(..3) {
        0 => t,
        1 => t / 1000 * 1000,
        _ => t / 60_000 * 60_000,
    }
}

fn instant(rng: &mut Rng) -> Vec<(&'static str, String)> {
    let t = time(rng);
    let text = match rng.u8(..12) {
        0 => {
            let t = jiff::Timestamp::from_millisecond(t).expect("a time of this century");
            t.to_string()
        }
        _ => seconds(t),
    };
    let mut parameters = vec![("time", text)];
    if rng.u8(..60) == 0 {
        let delta = *rng.choice(&["1m", "30", "10m", "0", "1s", "x"]).expect("a choice");
        parameters.push(("lookback_delta", delta.to_owned()));
    }
    parameters
}

fn range(rng: &mut Rng) -> Vec<(&'static str, String)> {
    let start = time(rng);
    let n_steps = rng.i64(0..60);
    let step = match rng.u8(..12) {
        0 => rng.i64(1_000..5_000),
        1 => 15_000,
        2..5 => 60_000,
        5 => 7_003,
        6 => 300_000,
        7 => 1_800_000,
        8 => 30_500,
        _ => *rng.choice(&[30_000, 120_000, 600_000]).expect("a choice"),
    };
    let end = (start + n_steps * step + rng.i64(0..step)).min(END + 2_400_000).max(start);
    let (mut start_text, mut end_text, mut step_text) = (seconds(start), seconds(end), seconds(step));
    match rng.u8(..120) {
        0 => std::mem::swap(&mut start_text, &mut end_text),
        1 => {
            let text = rng.choice([&mut start_text, &mut end_text, &mut step_text]).expect("a choice");
            "soon".clone_into(text);
        }
        2 => "0".clone_into(&mut step_text),
        3 => "-60".clone_into(&mut step_text),
        4 => "0.001".clone_into(&mut step_text),
        5..15 => step_text = format!("{step}ms"),
        _ => {}
    }
    vec![("start", start_text), ("end", end_text), ("step", step_text)]
}
