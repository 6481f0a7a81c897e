//! Which encoding the answer to a request gets, and bytes in it.
//!
//! gzip wherever a client lists it; deflate, which is zlib's format as upstream sends it, for those who list that alone;
//! never anything else: Grafana cannot read zstd. Upstream takes the first of the two that is listed and none with a
//! weight.
//!
//! Compat: prometheus `util/httputil/compression.go`.

use std::convert::Infallible;
use std::io::Write as _;

use axum::extract::FromRequestParts;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

/// The next level makes answers of numbers a tenth smaller at the most and takes twice the time.
const LEVEL: Compression = Compression::new(2);

/// How the body of an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Identity,
    Gzip,
    Deflate,
}

impl Encoding {
    /// The one that a client with these headers gets.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let mut chosen = Self::Identity;
        let lists = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for entry in lists.flat_map(|list| list.split(',')) {
            let (name, parameters) = entry.split_once(';').unwrap_or((entry, ""));
            if is_refusal(parameters) {
                continue;
            }
            match name.trim() {
                name if name.eq_ignore_ascii_case("gzip") => return Self::Gzip,
                name if name.eq_ignore_ascii_case("deflate") => chosen = Self::Deflate,
                _ => {}
            }
        }
        chosen
    }

    /// As `Content-Encoding` names it; nothing for bytes as they are.
    pub(crate) fn name(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Deflate => Some(HeaderValue::from_static("deflate")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Encoding {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::accepted(&parts.headers))
    }
}

/// A weight of zero says that the encoding must not be used.
fn is_refusal(parameters: &str) -> bool {
    let weight = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
}

/// Takes bytes and gives them back encoded.
pub(crate) enum Encoder {
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

const IN_MEMORY: &str = "a Vec takes every write";

impl Encoder {
    pub(crate) fn new(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Identity => Self::Identity(Vec::new()),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), LEVEL)),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), LEVEL)),
        }
    }

    /// Takes all of `plain`, which is empty afterwards.
    pub(crate) fn take_in(&mut self, plain: &mut Vec<u8>) {
        match self {
            Self::Identity(out) if out.is_empty() => std::mem::swap(out, plain),
            Self::Identity(out) => out.append(plain),
            Self::Gzip(encoder) => encoder.write_all(plain).expect(IN_MEMORY),
            Self::Deflate(encoder) => encoder.write_all(plain).expect(IN_MEMORY),
        }
        plain.clear();
    }

    /// What is encoded so far.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Identity(out) => out,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
        }
    }

    /// What is left once all is taken in.
    pub(crate) fn finish(self) -> Vec<u8> {
        match self {
            Self::Identity(out) => out,
            Self::Gzip(encoder) => encoder.finish().expect(IN_MEMORY),
            Self::Deflate(encoder) => encoder.finish().expect(IN_MEMORY),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn gzip_wherever_it_is_listed_deflate_alone_and_nothing_else() {
        use Encoding::{Deflate, Gzip, Identity};
        let of = |lists: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(list));
            }
            Encoding::accepted(&headers)
        };
        for (list, want) in [
            ("gzip", Gzip),
            ("gzip, deflate, br, zstd", Gzip),
            ("deflate, gzip", Gzip),
            ("zstd,br;q=1.0,gzip;q=0.1", Gzip),
            ("GZIP", Gzip),
            ("gzip;q=0, deflate", Deflate),
            ("gzip; q=0.000", Identity),
            ("deflate", Deflate),
            ("zstd", Identity),
            ("br", Identity),
            ("*", Identity),
            ("identity", Identity),
            ("", Identity),
            ("x-gzip", Identity),
        ] {
            assert_eq!(of(&[list]), want, "{list:?}");
        }
        assert_eq!(of(&["deflate", "br, gzip"]), Gzip);
        assert_eq!(of(&[]), Identity);
    }

    #[test]
    fn what_goes_in_in_pieces_comes_out_whole() {
        let text = b"0123456789abcdef".repeat(5000);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Deflate] {
            let mut encoder = Encoder::new(encoding);
            let mut encoded = Vec::new();
            for part in text.chunks(777) {
                encoder.take_in(&mut part.to_vec());
                encoded.append(encoder.out());
            }
            encoded.append(&mut encoder.finish());
            let mut decoded = Vec::new();
            match encoding {
                Encoding::Identity => decoded = encoded,
                Encoding::Gzip => {
                    flate2::read::GzDecoder::new(&*encoded).read_to_end(&mut decoded).map(drop).unwrap();
                }
                Encoding::Deflate => {
                    flate2::read::ZlibDecoder::new(&*encoded).read_to_end(&mut decoded).map(drop).unwrap();
                }
            }
            assert!(decoded == text, "{encoding:?}");
        }
    }
}
