//! The health check of gRPC (`grpc.health.v1.Health/Check`): two messages of one field each, so written by hand, over
//! HTTP/2 without TLS.

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::http_get::connect;

const BODY_MAX: usize = 10 << 10;
/// `SERVING` of the answer's enumeration.
const SERVING: u64 = 1;

/// Asks a service for its health; `service` is empty for the server as a whole.
pub(super) async fn check(host: &str, port: u16, service: &str) -> Result<(), String> {
    let shown = format!("{host}:{port}");
    let stream =
        connect(host, port).await.map_err(|error| format!("timeout: failed to connect service {shown:?}: {error}"))?;
    let failed = |error: &dyn std::fmt::Display| format!("error: health rpc failed: {error}");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let request = http::Request::post(format!("http://{shown}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(message(service)))
        .map_err(|error| failed(&error))?;
    let asked = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let head = answer.headers().get("grpc-status").cloned();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await.map_err(|error| failed(&error))?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status").cloned()).or(head);
        let status = status.as_ref().and_then(|status| status.to_str().ok()).unwrap_or("2").to_owned();
        Ok::<_, String>((status, body.to_bytes()))
    };
    let mut asked = std::pin::pin!(asked);
    let (status, body) = tokio::select! {
        answer = &mut asked => answer?,
        ended = connection => match ended {
            Ok(()) => asked.await?,
            Err(error) => return Err(failed(&error)),
        },
    };
    match status.as_str() {
        "0" => {}
        "12" => {
            return Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into());
        }
        status => return Err(failed(&format!("rpc error: code = {status}"))),
    }
    match serving(&body) {
        SERVING => Ok(()),
        2 => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
        _ => Err("service unhealthy (responded with \"UNKNOWN\")".to_owned()),
    }
}

/// A message in gRPC's frame: field 1, a string.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        put_varint(&mut field, service.len() as u64);
        field.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(5 + field.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    frame.put_slice(&field);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.put_u8(u8::try_from(number).unwrap_or_default());
}

/// Field 1 of the answer, a number; 0 where it is absent.
fn serving(frame: &[u8]) -> u64 {
    match frame.get(5..) {
        Some([0x08, rest @ ..]) => {
            let digits = rest.iter().enumerate().take(9);
            let mut number = 0;
            for (index, byte) in digits {
                number |= u64::from(byte & 0x7f) << (7 * index);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            number
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("db")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(message(&"x".repeat(300))[5..8], [0x0a, 0xac, 0x02]);
        let numbers = [serving(&[0, 0, 0, 0, 2, 8, 1]), serving(&[0, 0, 0, 0, 0]), serving(&[0, 0, 0, 0, 2, 8, 2])];
        assert_eq!(numbers, [1, 0, 2]);
    }
}
