//! What is counted of late samples, under upstream's names.

use model::wire::expose::{Counter, Exposition, Histogram, Kind};

use crate::head::metrics::Typed;

/// Ten and thirty minutes, then hours, in seconds. Compat: prometheus `tsdb`, `headMetrics.oooHistogram`.
const DELTA_BOUNDS: [f64; 7] = [600., 1800., 3600., 7200., 10_800., 21_600., 43_200.];

#[derive(Debug)]
pub(in super::super) struct Metrics {
    pub(super) appended: Typed<Counter>,
    pub(in super::super) delta: Histogram,
    pub(super) unknown_samples: Typed<Counter>,
    pub(super) unknown_markers: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            appended: Typed::default(),
            delta: Histogram::new(&DELTA_BOUNDS),
            unknown_samples: Typed::default(),
            unknown_markers: Counter::new(),
        }
    }
}

impl Metrics {
    pub(in super::super) fn expose(&self, out: &mut Exposition) {
        let name = "prometheus_tsdb_head_out_of_order_samples_appended_total";
        out.family(name, "Total number of appended out of order samples.", Kind::Counter);
        out.sample(name, &[("type", "float")], self.appended.float.get() as f64);
        out.sample(name, &[("type", "histogram")], self.appended.histogram.get() as f64);
        let name = "prometheus_tsdb_sample_ooo_delta";
        let help = "Delta in seconds by which a sample is considered out of order (reported regardless of OOO time window and whether sample is accepted or not).";
        out.family(name, help, Kind::Histogram);
        out.histogram(name, &[], &self.delta);
        let name = "prometheus_tsdb_wbl_replay_unknown_refs_total";
        out.family(
            name,
            "Total number of unknown series references encountered during WBL replay.",
            Kind::Counter,
        );
        let Typed { float, histogram } = &self.unknown_samples;
        for (kind, counter) in
            [("samples", float), ("histograms", histogram), ("mmap_markers", &self.unknown_markers)]
        {
            out.sample(name, &[("type", kind)], counter.get() as f64);
        }
    }
}
