//! A server behind the edge: it keeps whole requests that reached it, and answers by their path.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use corten_proxy::codec::Limits;
use corten_proxy::codec::body::Body;
use corten_proxy::codec::request::Request;
use corten_proxy::codec::scan::Scan;

/// A request as it reached the server.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// Answers after which the connection is closed.
const LAST: [&str; 6] = ["/until-close", "/cut", "/cut-chunked", "/once", "/two-lengths", "/unasked-upgrade"];

#[derive(Clone, Default)]
pub(crate) struct Origin {
    pub(crate) name: String,
    got: Arc<Mutex<Vec<Got>>>,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Answers to `/wait` come when this is set.
    pub(crate) release: Arc<AtomicBool>,
}

impl Origin {
    pub(crate) fn start(name: &str) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let origin = Self { name: name.to_owned(), ..Self::default() };
        let serving = origin.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (origin, stream) = (serving.clone(), stream.unwrap());
                origin.connections.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || origin.serve(stream));
            }
        });
        (origin, address)
    }

    pub(crate) fn taken(&self) -> Vec<Got> {
        std::mem::take(&mut *self.got.lock().unwrap())
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut input = Vec::new();
        while let Some(got) = self.next(&mut stream, &mut input) {
            self.got.lock().unwrap().push(got.clone());
            let sent = self.answer(&mut stream, &got, &mut input);
            if !sent || LAST.contains(&got.target.as_str()) {
                return;
            }
        }
    }

    fn next(&self, stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<Got> {
        let (limits, mut scan, mut request) = (Limits::default(), Scan::default(), Request::default());
        let length = loop {
            match scan.head(input, &limits).unwrap() {
                Some(length) => break length,
                None => more(stream, input)?,
            }
        };
        request.read(&input[..length], &limits).unwrap();
        let head = String::from_utf8_lossy(&input[..length]).into_owned();
        input.drain(..length);
        let target = String::from_utf8_lossy(request.target()).into_owned();
        if target.starts_with("/early") {
            stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").unwrap();
            thread::sleep(Duration::from_millis(200));
            return None;
        }
        if request.expects_continue {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        }
        let mut body: Body = request.body(&limits);
        let mut data = Vec::new();
        while !body.is_done() {
            if input.is_empty() {
                more(stream, input)?;
            }
            let piece = body.piece(input).unwrap();
            data.extend_from_slice(&input[piece.skip..piece.skip + piece.data]);
            input.drain(..piece.skip + piece.data);
        }
        Some(Got { head, target, body: data })
    }

    /// Whether the answer could be sent, and the connection can go on.
    fn answer(&self, stream: &mut TcpStream, got: &Got, input: &mut Vec<u8>) -> bool {
        let path = got.target.split('?').next().unwrap();
        let mut send = |text: &str| stream.write_all(text.as_bytes()).is_ok();
        match path {
            "/chunked" => {
                send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: 1\r\n\r\n")
            }
            "/until-close" => send("HTTP/1.1 200 OK\r\n\r\nabcde"),
            "/cut" => send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
            "/cut-chunked" => send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            "/no-content" => send("HTTP/1.1 204 No Content\r\n\r\n"),
            "/head" => send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            "/hints" => {
                send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
            "/gone" => false,
            "/once" => send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nonce"),
            "/two-lengths" => send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
            "/unasked-upgrade" => {
                send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nsmuggled")
            }
            "/ahead" => {
                send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
            }
            "/wait" => {
                while !self.release.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(5));
                }
                send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nwaited")
            }
            "/websocket" => {
                send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                echo(stream, std::mem::take(input));
                false
            }
            "/large" => {
                let chunk = vec![b'x'; 64 * 1024];
                send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n")
                    && (0..1024).all(|_| stream.write_all(&chunk).is_ok())
            }
            _ => {
                let text = format!("{} {} {}", self.name, got.target, got.body.len());
                send(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
            }
        }
    }
}

fn more(stream: &mut TcpStream, input: &mut Vec<u8>) -> Option<()> {
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
    input.extend_from_slice(&bytes[..count]);
    Some(())
}

fn echo(stream: &mut TcpStream, mut input: Vec<u8>) {
    while stream.write_all(&input).is_ok() {
        input.clear();
        if more(stream, &mut input).is_none() {
            return;
        }
    }
}
