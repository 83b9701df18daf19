//! What `corten up` says, a line for each part and one at the end, and that it is so when it is said.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use super::node::{NAME, Node};

/// Parts in their order, and what is said of each.
const PARTS: [(&str, &str); 7] = [
    ("store", r"\d+ objects at revision \d+"),
    ("certificates", r"/\S+/pki"),
    ("api", r"https://127\.0\.0\.1:6443"),
    ("controllers", r"[1-9]\d*"),
    ("network", r"pods 10\.244\.0\.0/24, services 10\.96\.0\.0/16"),
    ("node", r"e2e, \d+ pods"),
    ("edge", r"http://localhost/"),
];

/// Nobody is slower than this on loopback.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Starts the node and reads what it says.
pub(super) fn up(node: &mut Node) -> Result<()> {
    node.up()?;
    // At once: that it answers is what the last line means.
    edge(node)?;
    name(node)?;
    let nodes = node.kubectl(&["get", "nodes", "--no-headers"])?;
    ensure!(nodes.starts_with(&format!("{NAME} ")) && nodes.contains(" Ready "), "the node is not ready: {nodes}");
    let kubeconfig = node.kubeconfig();
    lines(&node.control()?.output()?, &kubeconfig.display().to_string())
}

/// A line for each part, in the order of starting, and the last one.
fn lines(output: &str, kubeconfig: &str) -> Result<()> {
    // The log, which is on the same file here, has a time before each line.
    let said: Vec<&str> =
        output.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase())).collect();
    let last = format!(r"ready in \d+ ms, kubeconfig {kubeconfig}");
    let patterns = PARTS.iter().map(|(part, about)| format!("{part} +{about}")).chain([last]);
    let wanted: Vec<String> = patterns.collect();
    ensure!(said.len() == wanted.len(), "there are to be {} lines: {said:#?}", wanted.len());
    for (line, pattern) in said.iter().zip(&wanted) {
        ensure!(Regex::new(&format!("^{pattern}$"))?.is_match(line), "{line:?} is not like {pattern:?}");
    }
    Ok(())
}

/// The edge answers: it knows no such host.
fn edge(node: &Node) -> Result<()> {
    let mut stream = TcpStream::connect(node.edge()).context("the edge")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 404 "), "the edge answers {answer:?}");
    Ok(())
}

/// Cluster DNS answers with the API's address.
fn name(node: &Node) -> Result<()> {
    let [dns, api] = [("kube-system", "service/kube-dns"), ("default", "service/kubernetes")]
        .map(|(namespace, service)| node.field(namespace, service, "{.spec.clusterIP}"));
    let (dns, api) = (dns?, api?.parse::<std::net::Ipv4Addr>()?);
    // A query as in RFC 1035, 4.1: a header that asks for recursion, one question for an address.
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["kubernetes", "default", "svc", "cluster", "local", ""] {
        query.push(u8::try_from(label.len())?);
        query.extend(label.bytes());
    }
    query.extend([0, 1, 0, 1]);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    socket.send_to(&query, (dns.as_str(), 53)).with_context(|| format!("cluster DNS at {dns}"))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).with_context(|| format!("cluster DNS at {dns} does not answer"))?;
    ensure!(answer[..length].ends_with(&api.octets()), "cluster DNS answers {:?}", &answer[..length]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_strange_line_is_seen() {
        let good = "store         0 objects at revision 1\n2026-11-21T19:30:36Z  INFO corten::pki: made\ncertificates  /d/pki\n\
                    api           https://127.0.0.1:6443\ncontrollers   21\n\
                    network       pods 10.244.0.0/24, services 10.96.0.0/16\nnode          e2e, 0 pods\n\
                    edge          http://localhost/\nready in 821 ms, kubeconfig /d/k\n";
        lines(good, "/d/k").unwrap();
        assert!(lines(&good.replace("821", "?"), "/d/k").is_err());
        assert!(lines(&good.replace("edge          http://localhost/\n", ""), "/d/k").is_err());
        assert!(lines(good, "/elsewhere").is_err());
    }
}
