//! `ferula am cluster show` and `ferula am config show`: what the server says of itself.
//!
//! Compat: alertmanager `cli`, `showStatus`, `queryConfig`.

use clap::Subcommand;

use super::api::Api;
use super::{Common, Done, Streams};

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// View cluster status and peers.
    Show,
}

pub(super) fn cluster(common: &Common, streams: &mut Streams<'_>) -> Done {
    let status = Api::new(common, streams)?.status()?;
    Ok(common.format().cluster(&status.cluster, streams.out)?)
}

pub(super) fn config(common: &Common, streams: &mut Streams<'_>) -> Done {
    let status = Api::new(common, streams)?.status()?;
    Ok(common.format().config(&status, streams.out)?)
}
