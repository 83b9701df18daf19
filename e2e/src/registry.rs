//! A registry on this machine, as little of one as images need to be pulled. A thread and one request a connection: one whose other end
//! has lost its power holds up nobody else. It can stop in the middle of a blob, for whoever wants to do something meanwhile.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// How long a connection is looked at that waits in the middle of a blob.
const LOOK: Duration = Duration::from_millis(10);

/// Media types and bytes by path.
#[derive(Default)]
pub(crate) struct Content(HashMap<String, (&'static str, Vec<u8>)>);

/// Its threads end with the process.
pub(crate) struct Registry {
    address: SocketAddr,
    gate: Arc<Gate>,
}

/// What is sent of a layer waits here after its half, while the gate is closed.
#[derive(Default)]
struct Gate {
    is_closed: AtomicBool,
    is_reached: AtomicBool,
}

impl Registry {
    pub(crate) fn start(at: impl ToSocketAddrs, content: Content) -> Result<Self> {
        let (listener, gate) = (TcpListener::bind(at)?, Arc::new(Gate::default()));
        let own = Self { address: listener.local_addr()?, gate: gate.clone() };
        let content = Arc::new(content);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (content, gate) = (content.clone(), gate.clone());
                std::thread::spawn(move || {
                    if let Err(error) = answer(&content, &gate, connection) {
                        eprintln!("registry: {error:#}");
                    }
                });
            }
        });
        Ok(own)
    }

    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on layers come to their half, or whole again.
    pub(crate) fn stop_halfway(&self, stop: bool) {
        self.gate.is_closed.store(stop, Ordering::SeqCst);
    }

    /// Whether half of a layer was sent, and no more.
    pub(crate) fn is_halfway(&self) -> bool {
        self.gate.is_reached.load(Ordering::SeqCst)
    }
}

impl Content {
    /// An image of one layer for this machine; `promised` is the layer that its manifest names.
    pub(crate) fn image(&mut self, name: &str, promised: &[u8], sent: Vec<u8>) -> Result<()> {
        let config = json!({
            "os": "linux", "architecture": architecture(), "rootfs": {"type": "layers", "diff_ids": [digest(promised)?]},
        });
        let config = config.to_string().into_bytes();
        let layers = json!([described(LAYER, promised)?]);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, &config)?, "layers": layers,
        });
        let name = format!("/v2/{name}");
        self.0.insert(format!("{name}/manifests/1"), (MANIFEST, manifest.to_string().into_bytes()));
        self.0.insert(format!("{name}/blobs/{}", digest(&config)?), (CONFIG, config));
        self.0.insert(format!("{name}/blobs/{}", digest(promised)?), (LAYER, sent));
        Ok(())
    }

    /// An image for machines of another kind.
    pub(crate) fn foreign_image(&mut self, name: &str) -> Result<()> {
        let other = json!({"os": "linux", "architecture": "other"});
        let entry = json!({"mediaType": MANIFEST, "digest": digest(b"elsewhere")?, "size": 9, "platform": other});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        self.0.insert(format!("/v2/{name}/manifests/1"), (INDEX, index.to_string().into_bytes()));
        Ok(())
    }
}

/// This machine's, in the words of images.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn described(kind: &str, bytes: &[u8]) -> Result<Value> {
    Ok(json!({"mediaType": kind, "digest": digest(bytes)?, "size": bytes.len()}))
}

/// By sha256sum(1), so that nothing of ours is its own judge.
fn digest(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("piped")?.write_all(bytes)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "sha256sum: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    Ok(format!("sha256:{}", text.split_whitespace().next().context("a digest")?))
}

fn answer(content: &Content, gate: &Gate, connection: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(&connection).lines();
    let request = lines.next().context("a request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).context("a path")?;
    let none = ("application/json", br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec());
    let (code, (kind, bytes)) = match content.0.get(path) {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", &none),
    };
    let length = bytes.len();
    let head =
        format!("HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let mut connection = &connection;
    connection.write_all(head.as_bytes()).context("the answer")?;
    if request.starts_with("HEAD") {
        return Ok(());
    }
    let (first, second) = bytes.split_at(length / 2);
    connection.write_all(first).context("the answer")?;
    while *kind == LAYER && gate.is_closed.load(Ordering::SeqCst) {
        gate.is_reached.store(true, Ordering::SeqCst);
        std::thread::sleep(LOOK);
    }
    connection.write_all(second).context("the answer")
}
