//! The store as other servers see it: remote write, remote read and federation, put together.

use std::sync::Arc;

use model::Labels;
use model::storage::Queryable;
use web::remote::Remote;
use web::view::remote::{ExternalLabels, WriteReceiver};

use super::{App, now};
use crate::remote::{read, receive};

/// What the routes for other servers need.
pub(super) fn remote(app: &Arc<App>) -> Remote {
    let flags = &app.flags;
    let receiver = flags.web.remote_write.as_ref().map(|_| {
        let options = receive::Options {
            type_and_unit_labels: flags.features.contains("type-and-unit-labels"),
            keeps_metadata: flags.storage.options.features.logs_metadata,
            now,
        };
        Arc::new(receive::Receiver::new(Arc::clone(&app.store), options)) as Arc<dyn WriteReceiver>
    });
    let external_labels = Arc::clone(app) as Arc<dyn ExternalLabels>;
    let storage = Arc::clone(&app.store) as Arc<dyn Queryable>;
    let reader = read::Reader::new(storage, Arc::clone(&external_labels), flags.remote_read.options);
    Remote::new(
        receiver,
        flags.web.remote_write.clone().unwrap_or_default(),
        Arc::new(reader),
        external_labels,
        flags.remote_read.concurrency_max,
    )
}

impl ExternalLabels for App {
    fn external_labels(&self) -> Arc<Labels> {
        self.rules_ctx.external_labels.load_full()
    }
}
