//! A registry on loopback with images that nobody can use: one is not there, one is made for another architecture, and the
//! layer of one is not what its manifest says. One thread, one request a connection.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Media type and bytes by path.
type Content = HashMap<String, (&'static str, Vec<u8>)>;

/// Its thread ends with the process.
pub(super) struct Registry(SocketAddr);

impl Registry {
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = Self(listener.local_addr()?);
        let content = Arc::new(content()?);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if let Err(error) = answer(&content, connection) {
                    eprintln!("registry: {error:#}");
                }
            }
        });
        Ok(own)
    }

    pub(super) fn reference(&self, name: &str) -> String {
        format!("{}/{name}:1", self.0)
    }
}

/// This machine's, in the words of images.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn content() -> Result<Content> {
    let mut content = Content::new();
    let other = json!({"os": "linux", "architecture": "other"});
    let entry = json!({"mediaType": MANIFEST, "digest": digest(b"elsewhere")?, "size": 9, "platform": other});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    content.insert("/v2/other-architecture/manifests/1".to_owned(), (INDEX, index.to_string().into_bytes()));

    // An empty tar, and one whose owner somebody has changed on the way.
    let (promised, mut sent) = (vec![0; 1024], vec![0; 1024]);
    sent[1000] = 1;
    let config = json!({
        "os": "linux", "architecture": architecture(), "rootfs": {"type": "layers", "diff_ids": [digest(&promised)?]},
    });
    let config = config.to_string().into_bytes();
    let layers = json!([described(LAYER, &promised)?]);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described(CONFIG, &config)?, "layers": layers,
    });
    let name = "/v2/corrupt-layer";
    content.insert(format!("{name}/manifests/1"), (MANIFEST, manifest.to_string().into_bytes()));
    content.insert(format!("{name}/blobs/{}", digest(&config)?), (CONFIG, config));
    content.insert(format!("{name}/blobs/{}", digest(&promised)?), (LAYER, sent));
    Ok(content)
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

fn answer(content: &Content, connection: TcpStream) -> Result<()> {
    let mut lines = BufReader::new(&connection).lines();
    let request = lines.next().context("a request")??;
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).context("a path")?;
    let none = ("application/json", br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#.to_vec());
    let (code, (kind, bytes)) = match content.get(path) {
        Some(found) => ("200 OK", found),
        None => ("404 Not Found", &none),
    };
    let length = bytes.len();
    let mut answer =
        format!("HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
            .into_bytes();
    if !request.starts_with("HEAD") {
        answer.extend_from_slice(bytes);
    }
    (&connection).write_all(&answer).context("the answer")
}
