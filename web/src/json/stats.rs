//! What a query cost. The figures of operators are ours; the rest has upstream's names.
//!
//! Compat: prometheus `util/stats`, `BuiltinStats`.

use promql::{OperatorStats, StepStats};
use serde::Serialize;

use super::write_serialized;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are upstream's")]
struct Timings {
    eval_total_time: f64,
    result_sort_time: f64,
    query_preparation_time: f64,
    inner_eval_time: f64,
    exec_queue_time: f64,
    exec_total_time: f64,
}

/// Seconds and a count for each step.
type PerStep = Vec<(f64, usize)>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names are upstream's")]
struct Samples {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    total_queryable_samples_per_step: PerStep,
    total_queryable_samples: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    samples_read_per_step: PerStep,
    samples_read: usize,
    peak_samples: usize,
}

#[derive(Serialize)]
struct Operator<'s> {
    #[serde(rename = "operator")]
    name: &'s str,
    depth: usize,
    seconds: f64,
    series: usize,
    samples: usize,
    bytes: usize,
}

#[derive(Serialize)]
struct Stats<'s> {
    timings: Timings,
    samples: Samples,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    operators: Vec<Operator<'s>>,
}

/// Appends the statistics of a query.
pub fn write_stats(out: &mut Vec<u8>, stats: &promql::Stats) {
    let prepare = stats.prepare_time.as_secs_f64();
    let inner = stats.eval_time.as_secs_f64();
    let sort = stats.sort_time.as_secs_f64();
    let queue = stats.queue_time.as_secs_f64();
    let per_step = |count: fn(&StepStats) -> usize| {
        stats.steps.iter().map(|step| (step.t as f64 / 1000.0, count(step))).collect()
    };
    let operators = stats.operators.iter().map(|told: &OperatorStats| Operator {
        name: &told.operator,
        depth: told.depth,
        seconds: told.time.as_secs_f64(),
        series: told.series,
        samples: told.samples,
        bytes: told.bytes,
    });
    let told = Stats {
        timings: Timings {
            eval_total_time: prepare + inner + sort,
            result_sort_time: sort,
            query_preparation_time: prepare,
            inner_eval_time: inner,
            exec_queue_time: queue,
            exec_total_time: queue + prepare + inner + sort,
        },
        samples: Samples {
            total_queryable_samples_per_step: per_step(|step| step.queryable_samples),
            total_queryable_samples: stats.total_queryable_samples,
            samples_read_per_step: per_step(|step| step.samples_read),
            samples_read: stats.samples_read,
            peak_samples: stats.peak_samples,
        },
        operators: operators.collect(),
    };
    write_serialized(out, &told);
}
