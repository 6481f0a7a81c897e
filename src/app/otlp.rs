//! The receiver of the OpenTelemetry protocol, wired to the store and the configuration.

use web::view::otlp::{Encoding, Receiver, Refusal};

use super::{App, now};
use crate::cli::flags::Flags;
use crate::remote::otlp;

/// The receiver, if the flags want one.
pub(super) fn receiver(flags: &Flags) -> Option<otlp::Receiver> {
    let features = flags.storage.options.features;
    let has = |name: &str| flags.features.contains(name);
    let deltas = if has("otlp-deltatocumulative") {
        otlp::Deltas::Accumulated
    } else if has("otlp-native-delta-ingestion") {
        otlp::Deltas::Stored
    } else {
        otlp::Deltas::Refused
    };
    let options = otlp::Options {
        deltas,
        type_and_unit_labels: has("type-and-unit-labels"),
        zero_at_start: features.zero_at_start,
        logs_metadata: features.logs_metadata,
        lookback: flags.query.lookback_delta,
    };
    flags.web.enable_otlp_receiver.then(|| otlp::Receiver::new(options, now))
}

impl Receiver for App {
    fn receive(&self, body: &[u8], encoding: Encoding) -> Result<(), Refusal> {
        let Some(receiver) = &self.otlp else {
            return Err(Refusal::Failed("the OTLP receiver is not enabled".to_owned()));
        };
        receiver.receive(&*self.store, &self.config.load().otlp, body, encoding)
    }
}
