//! Bodies: reading one within its limit, decoding it, and writing answers in the negotiated encoding.

use std::error::Error;
use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apimachinery::{json, yaml};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use crate::http::negotiate::{BodyEncoding, Encoding};
use crate::registry::{Body, Configuration};

pub type BoxError = Box<dyn Error + Send + Sync>;
pub type StreamBody = UnsyncBoxBody<Bytes, BoxError>;
pub type Request = http::Request<StreamBody>;
pub type Response = http::Response<StreamBody>;

/// Largest request body (upstream's limit).
pub const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Smaller answers are not worth compressing (upstream's threshold).
const GZIP_BYTES_MIN: usize = 128 * 1024;

/// Bytes of an unrecognised body that its refusal shows.
const SUMMARY_BYTES_MAX: usize = 30;

/// Reads a whole body; 413 beyond [`BODY_BYTES_MAX`].
pub async fn read(mut body: StreamBody) -> Result<Bytes, Status> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::bad_request(format!("unable to read the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

fn too_large() -> Status {
    Status::too_large(format!("Request entity is too large: limit is {BODY_BYTES_MAX}"))
}

/// Reads an answer's whole body, as in-process callers do. An answer that breaks off is an error, never a short text.
pub async fn collect(response: Response) -> Result<Bytes, BoxError> {
    Ok(response.into_body().collect().await?.to_bytes())
}

/// A full body.
pub fn full(bytes: impl Into<Bytes>) -> StreamBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Decodes a text body; `kind` is what it should hold, for the refusal. Protobuf is the caller's.
pub fn decode_text(bytes: &[u8], encoding: BodyEncoding, kind: &str) -> Result<Body, Status> {
    parse_text(bytes, encoding).map_err(|why| unrecognized(kind, &why, bytes))
}

/// Decodes what is to be applied, with what a strict reader says of it; `kind` is what it should hold, for the refusal.
pub(crate) fn configuration(bytes: &[u8], kind: &str) -> Result<Configuration, Status> {
    let document = yaml::parse_document(bytes).map_err(|error| unrecognized(kind, &error.to_string(), bytes))?;
    let refused = document.strict_error().map(|why| format!("error converting YAML to JSON: {why}"));
    Ok(Configuration { value: document.value, refused })
}

/// Decodes a text body, or tells what is wrong with it.
pub(crate) fn parse_text(bytes: &[u8], encoding: BodyEncoding) -> Result<Body, String> {
    match encoding {
        BodyEncoding::Json => {
            let parsed = json::parse(bytes);
            parsed.map(Body::from).map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))
        }
        BodyEncoding::Yaml => yaml::parse(bytes).map(Body::from).map_err(|error| error.to_string()),
        BodyEncoding::Protobuf => Err("protobuf is not a text".to_owned()),
    }
}

/// `the object provided is unrecognized (must be of type Pod): … (7b…)`.
pub fn unrecognized(kind: &str, why: &str, bytes: &[u8]) -> Status {
    let summary = summarize(bytes);
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})"))
}

fn summarize(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<empty>".to_owned();
    }
    let shown = &bytes[..bytes.len().min(SUMMARY_BYTES_MAX)];
    let shown = match bytes[0] {
        b'{' => String::from_utf8_lossy(shown).into_owned(),
        _ => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if bytes.len() > SUMMARY_BYTES_MAX { format!("{shown} ...") } else { shown }
}

/// How one request wants its answer written.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub encoding: Encoding,
    pub pretty: bool,
    pub gzip: bool,
}

impl Output {
    pub const JSON: Self = Self { encoding: Encoding::Json, pretty: false, gzip: false };

    /// Whether stored JSON may go out as it stands.
    pub fn raw(self) -> bool {
        self.encoding == Encoding::Json && !self.pretty
    }

    /// Writes a value as a whole answer.
    pub fn value(self, code: u16, value: &Value) -> Response {
        let bytes = match self.encoding {
            Encoding::Yaml => yaml::to_string(value).into_bytes(),
            Encoding::Json | Encoding::Protobuf if self.pretty => pretty(value),
            Encoding::Json | Encoding::Protobuf => line(json::to_vec(value)),
        };
        self.bytes(code, bytes)
    }

    /// Writes bytes that are in the encoding already.
    pub fn bytes(self, code: u16, bytes: Vec<u8>) -> Response {
        let media_type = match self.encoding {
            Encoding::Yaml => Encoding::Yaml.media_type(),
            Encoding::Json | Encoding::Protobuf => Encoding::Json.media_type(),
        };
        let compress = self.gzip && bytes.len() > GZIP_BYTES_MIN;
        let bytes = if compress { gzip(&bytes) } else { bytes };
        let mut response = respond(code, media_type, bytes);
        set(&mut response, CACHE_CONTROL, "no-cache, private");
        if compress {
            set(&mut response, CONTENT_ENCODING, "gzip");
            set(&mut response, VARY, "Accept-Encoding");
        }
        response
    }

    pub fn status(self, status: &Status) -> Response {
        let mut response = self.value(status.code, &status.to_value());
        let retry_after_s = status.details.as_ref().map_or(0, |details| details.retry_after_s);
        if retry_after_s > 0 {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_s));
        }
        response
    }
}

/// A plain answer.
pub fn respond(code: u16, media_type: &str, bytes: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(bytes));
    *response.status_mut() = http::StatusCode::from_u16(code).expect("answers have codes between 100 and 999");
    set(&mut response, CONTENT_TYPE, media_type);
    response
}

/// A plain text answer, as upstream's `http.Error` and `http.NotFound` give it.
pub fn text(code: u16, message: &str) -> Response {
    let mut response = respond(code, "text/plain; charset=utf-8", message.to_owned());
    set(&mut response, http::header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

pub fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn line(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(b'\n');
    bytes
}

/// Indented JSON as Go writes it.
fn pretty(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    write_pretty(value, 0, &mut out);
    out
}

fn write_pretty(value: &Value, depth: usize, out: &mut Vec<u8>) {
    let break_line = |depth: usize, out: &mut Vec<u8>| {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', depth * 2));
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push(b'{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                break_line(depth + 1, out);
                json::write_str(key, out);
                out.extend_from_slice(b": ");
                write_pretty(value, depth + 1, out);
            }
            break_line(depth, out);
            out.push(b'}');
        }
        Value::Array(items) if !items.is_empty() => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                break_line(depth + 1, out);
                write_pretty(item, depth + 1, out);
            }
            break_line(depth, out);
            out.push(b']');
        }
        other => json::write(other, out),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).expect("writing to memory cannot fail");
    encoder.finish().expect("writing to memory cannot fail")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn refusals_of_bodies() {
        let text = |bytes: &[u8]| decode_text(bytes, BodyEncoding::Json, "Pod").unwrap_err().message;
        assert_eq!(
            text(b"{"),
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: \
             unexpected end of JSON input ({)"
        );
        assert!(text(b"").ends_with("(<empty>)"));
        assert!(text(&[b'x'; 40]).ends_with(&format!("({} ...)", "78".repeat(30))));
        assert_eq!(decode_text(b"a: [", BodyEncoding::Yaml, "Pod").unwrap_err().code, 400);
    }

    #[test]
    fn indents_as_go() {
        let value = value!({"kind": "K", "empty": {}, "none": [], "list": [1_i64, {"a": "b"}]});
        let text = String::from_utf8(pretty(&value)).unwrap();
        let expect = "{\n  \"kind\": \"K\",\n  \"empty\": {},\n  \"none\": [],\n  \"list\": [\n    1,\n    {\n      \"a\": \"b\"\n    }\n  ]\n}";
        assert_eq!(text, expect);
    }

    #[tokio::test]
    async fn limits_and_compression() {
        assert_eq!(read(full(vec![b' '; BODY_BYTES_MAX])).await.unwrap().len(), BODY_BYTES_MAX);
        let refused = read(full(vec![b' '; BODY_BYTES_MAX + 1])).await.unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (413, "Request entity is too large: limit is 3145728"));

        let large = Value::from("x".repeat(GZIP_BYTES_MIN));
        let output = Output { gzip: true, ..Output::JSON };
        let response = output.value(200, &large);
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let packed = read(response.into_body()).await.unwrap();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(packed.as_ref()).read_to_string(&mut unpacked).unwrap();
        assert_eq!(unpacked.len(), GZIP_BYTES_MIN + 3);
        assert!(!output.value(200, &value!({})).headers().contains_key(CONTENT_ENCODING));
    }
}
