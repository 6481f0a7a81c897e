//! `ferula check healthy` and `ferula check ready`: whether a server answers as it should.
//!
//! Compat: prometheus `cmd/promtool/main.go`, `CheckServerStatus`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ::config::http_client::HttpClient;
use clap::Args;

use super::{Outcome, Streams, existing_file};
use crate::http_client::Client;

/// After which a server that has not answered is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// A status page has one line; who sends more is something else.
const BODY_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// HTTP client configuration file for promtool to connect to Prometheus.
    #[arg(long = "http.config.file", value_name = "filename", value_parser = existing_file)]
    http_config: Option<PathBuf>,
    /// The URL for the Prometheus server.
    #[arg(long, default_value = "http://localhost:9090")]
    url: url::Url,
}

pub(super) fn run(options: &Options, path: &str, streams: &mut Streams<'_>) -> io::Result<Outcome> {
    let http = match options.http_config.as_deref().map(::config::http_client::load) {
        None => HttpClient::default(),
        Some(Ok(http)) => http,
        Some(Err(e)) => {
            writeln!(streams.err, "promtool: error: Failed to load HTTP config file: {e}")?;
            return Ok(Outcome::Failed);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(ask(&options.url, path, &http)) {
        Ok(body) => {
            writeln!(streams.err, "  SUCCESS:  {body}")?;
            Ok(Outcome::Passed)
        }
        Err(e) => {
            writeln!(streams.err, "  FAILED: {e}")?;
            Ok(Outcome::Failed)
        }
    }
}

async fn ask(server: &url::Url, path: &str, http: &HttpClient) -> Result<String, String> {
    let mut url = server.clone();
    url.set_path(&format!("{}/{path}", server.path().trim_end_matches('/')));
    let client = Client::new(http, PATIENCE).map_err(|e| e.to_string())?;
    let chain = |e: &dyn std::error::Error| {
        let mut text = e.to_string();
        let mut source = e.source();
        while let Some(e) = source {
            text = format!("{text}: {e}");
            source = e.source();
        }
        text
    };
    let request = client.request(http::Method::GET, url).map_err(|e| chain(&e))?;
    let mut response = request.send().await.map_err(|e| chain(&e))?;
    if response.status() != http::StatusCode::OK {
        let shown = server.as_str().trim_end_matches('/');
        return Err(format!("check failed: URL={shown}, status={}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| chain(&e))? {
        body.extend(part);
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("check failed: the answer is longer than {BODY_BYTES_MAX} bytes"));
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
