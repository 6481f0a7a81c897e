//! A client that costs little: one connection, one request at a time, the body looked at as it comes and not kept.

use std::net::Ipv4Addr;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(crate) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How it ended shows in the request that was under way.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Asks and shows each piece of the body to `see`.
    pub(crate) async fn get(
        &mut self,
        path: &str,
        is_gzip: bool,
        mut see: impl FnMut(&[u8]),
    ) -> anyhow::Result<StatusCode> {
        let encoding = if is_gzip { "gzip" } else { "identity" };
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT_ENCODING, encoding)
            .body(Empty::new())?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        if is_gzip && status.is_success() {
            let sent =
                answer.headers().get(header::CONTENT_ENCODING).context("the answer is not compressed")?;
            anyhow::ensure!(sent == "gzip", "the answer is compressed as {sent:?}");
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                see(data);
            }
        }
        Ok(status)
    }
}

/// A path with its parameters.
pub(crate) fn path(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut encoded = form_urlencoded::Serializer::new(format!("/api/v1/{path}?"));
    encoded.extend_pairs(parameters).finish()
}
