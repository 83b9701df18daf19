//! A registry on loopback that can be told to fail: as much of the distribution specification as pulling asks for, one thread a
//! connection, one request a connection.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_image::Digest;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::layout::{Packed, config, here};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry; its thread ends with the process.
#[derive(Clone)]
pub(crate) struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    content: HashMap<String, Content>,
    faults: Vec<Fault>,
    access: Access,
    requests: Vec<Request>,
}

struct Content {
    kind: String,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
}

/// Who may read.
#[derive(Clone, Default)]
pub(crate) enum Access {
    #[default]
    Anybody,
    /// The header's value that is let in.
    Basic(String),
    /// Who holds a token, which is given to this header's value, or to everybody.
    Token(Option<String>),
}

/// What goes wrong with paths that hold `path`, so many times.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) times: usize,
    pub(crate) what: Wrong,
}

#[derive(Clone)]
pub(crate) enum Wrong {
    /// The connection ends after so many bytes of the body.
    Cut(usize),
    /// Nothing comes any more after so many bytes.
    Stall(usize),
    /// A status and a header instead of the content.
    Status(u16, &'static str, String),
    /// Ranges are not known.
    NoRange,
    /// Another body.
    Body(Vec<u8>),
    /// Another digest in the header.
    Digest(String),
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::serve("127.0.0.1:0", |registry, connection| registry.answer(connection))
    }

    /// Encrypted, on an address that is this machine's without being loopback's: 0.0.0.0 as a destination, ip(7).
    pub(crate) fn start_encrypted(config: Arc<ServerConfig>) -> Self {
        Self::serve("0.0.0.0:0", move |registry, connection| {
            let session = ServerConnection::new(config.clone()).expect("a good configuration");
            let mut stream = StreamOwned::new(session, connection);
            registry.answer(&mut stream);
            stream.conn.send_close_notify();
            // The client may have left.
            drop(stream.flush());
        })
    }

    fn serve(address: &str, answer: impl Fn(&Self, TcpStream) + Clone + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let registry = Self { address: listener.local_addr().expect("bound"), state: Arc::default() };
        let serving = registry.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (serving, answer) = (serving.clone(), answer.clone());
                std::thread::spawn(move || answer(&serving, connection));
            }
        });
        registry
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    pub(crate) fn fail(&self, path: &str, times: usize, what: Wrong) {
        let fault = Fault { path: path.to_owned(), times, what };
        self.state.lock().expect("no panic").faults.push(fault);
    }

    pub(crate) fn allow(&self, access: Access) {
        self.state.lock().expect("no panic").access = access;
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().expect("no panic").requests.clone()
    }

    /// How often a path that holds this was asked for.
    pub(crate) fn count(&self, part: &str) -> usize {
        self.requests().iter().filter(|request| request.path.contains(part)).count()
    }

    fn put(&self, path: String, kind: &str, bytes: &[u8]) {
        let content = Content { kind: kind.to_owned(), bytes: bytes.to_vec() };
        self.state.lock().expect("no panic").content.insert(path, content);
    }

    fn blob(&self, repository: &str, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.put(format!("/v2/{repository}/blobs/{digest}"), "application/octet-stream", bytes);
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Offers a manifest or index under a tag and its digest; its descriptor.
    pub(crate) fn manifest(&self, repository: &str, tag: &str, kind: &str, document: &Value) -> Value {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        for version in [tag.to_owned(), digest.to_string()] {
            self.put(format!("/v2/{repository}/manifests/{version}"), kind, &bytes);
        }
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }

    /// Offers an image; its manifest's descriptor.
    pub(crate) fn push(&self, repository: &str, tag: &str, layers: &[Packed]) -> Value {
        self.push_for(repository, tag, layers, &here())
    }

    pub(crate) fn push_for(&self, repository: &str, tag: &str, layers: &[Packed], architecture: &str) -> Value {
        let config = config(layers, architecture).to_string();
        let config = self.blob(repository, "application/vnd.oci.image.config.v1+json", config.as_bytes());
        let described: Vec<Value> =
            layers.iter().map(|layer| self.blob(repository, &layer.media_type, &layer.bytes)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": described});
        self.manifest(repository, tag, MANIFEST, &manifest)
    }

    fn answer(&self, mut connection: impl Read + Write) {
        let Some(request) = read(&mut connection) else { return };
        let (bytes, stall) = self.decide(&request);
        self.state.lock().expect("no panic").requests.push(request);
        // The client may have left.
        if connection.write_all(&bytes).is_ok() && stall {
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    /// What is written, and whether the connection then stays open in silence.
    fn decide(&self, request: &Request) -> (Vec<u8>, bool) {
        let mut state = self.state.lock().expect("no panic");
        if request.path.starts_with("/token") {
            return (token(&state.access, request), false);
        }
        if let Some(refusal) = self.refuse(&state.access, request) {
            return (refusal, false);
        }
        let fault = state.faults.iter_mut().find(|fault| fault.times > 0 && request.path.contains(&fault.path));
        let fault = fault.map(|fault| {
            fault.times -= 1;
            fault.what.clone()
        });
        if let Some(Wrong::Status(status, name, value)) = &fault {
            return (head(*status, &[(name, value)], 0), false);
        }
        let plain = request.path.split('?').next().unwrap_or_default();
        let Some(content) = state.content.get(plain) else { return (head(404, &[], 0), false) };
        let mut body = match &fault {
            Some(Wrong::Body(bytes)) => bytes.clone(),
            _ => content.bytes.clone(),
        };
        let total = body.len();
        let digest = match fault {
            Some(Wrong::Digest(ref digest)) => digest.clone(),
            _ => Digest::of(&body).to_string(),
        };
        let start = request.range.as_ref().filter(|_| !matches!(fault, Some(Wrong::NoRange))).map(|range| {
            range.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().expect("an open range")
        });
        let range = start.map(|start| format!("bytes {start}-{}/{total}", total - 1)).unwrap_or_default();
        body.drain(..start.unwrap_or(0));
        let mut headers = vec![("Content-Type", content.kind.as_str()), ("Docker-Content-Digest", &digest)];
        headers.extend(start.map(|_| ("Content-Range", range.as_str())));
        let mut bytes = head(if start.is_some() { 206 } else { 200 }, &headers, body.len());
        let cut = match fault {
            Some(Wrong::Cut(at) | Wrong::Stall(at)) => at.min(body.len()),
            _ => body.len(),
        };
        bytes.extend_from_slice(&body[..cut]);
        (bytes, matches!(fault, Some(Wrong::Stall(_))))
    }

    fn refuse(&self, access: &Access, request: &Request) -> Option<Vec<u8>> {
        let (wanted, challenge) = match access {
            Access::Anybody => return None,
            Access::Basic(wanted) => (wanted.clone(), "Basic realm=\"test\"".to_owned()),
            Access::Token(_) => {
                let realm = format!("http://{}/token", self.address);
                ("Bearer secret-token".to_owned(), format!("Bearer realm=\"{realm}\",service=\"test\""))
            }
        };
        let known = request.authorization.as_ref() == Some(&wanted);
        (!known).then(|| head(401, &[("WWW-Authenticate", &challenge)], 0))
    }
}

fn token(access: &Access, request: &Request) -> Vec<u8> {
    let Access::Token(wanted) = access else { return head(404, &[], 0) };
    if wanted.is_some() && *wanted != request.authorization {
        return head(401, &[], 0);
    }
    let body = r#"{"token":"secret-token"}"#;
    let mut bytes = head(200, &[], body.len());
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn head(status: u16, headers: &[(&str, &str)], length: usize) -> Vec<u8> {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status} Said\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn read(connection: &mut impl Read) -> Option<Request> {
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next()?.ok()?;
    let mut request = Request { path: first.split(' ').nth(1)?.to_owned(), range: None, authorization: None };
    for line in lines {
        let line = line.ok()?;
        match line.split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("range") => request.range = Some(value.to_owned()),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                request.authorization = Some(value.to_owned());
            }
            Some(_) => {}
        }
    }
    Some(request)
}
