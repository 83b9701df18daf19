//! When a node is ready, as others see it: its object says Ready and its lease is renewed, cluster DNS answers, the edge answers.
//! Asked again and again from outside, all three at the same time.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use crate::http::{Client, Request};
use crate::kubeconfig::Endpoint;
use crate::process::wait;
use crate::spine::node::{LIMIT, NAME, Node};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(2);

/// How long one question may take.
const QUESTION_MAX: Duration = Duration::from_millis(100);

/// Cluster DNS, where nothing else was asked for.
const NAMES: ([u8; 4], u16) = ([10, 96, 0, 10], 53);

/// After how long each part answered.
pub(super) struct Ready {
    pub(super) node: Duration,
    pub(super) names: Duration,
    pub(super) edge: Duration,
}

/// `lease` is when the node's lease was renewed last, as the start before has seen it: that is no answer of this one.
pub(super) async fn watch(node: &Node, since: &Stopwatch, lease: &mut Option<String>) -> Result<Ready> {
    let kubeconfig = node.data().join("admin.kubeconfig");
    let edge = node.edge();
    let mut client = None;
    let node_ready = async {
        loop {
            match renewed(&mut client, &kubeconfig).await {
                Ok(time) if lease.as_ref() != Some(&time) => {
                    *lease = Some(time);
                    return Ok(since.elapsed());
                }
                outcome => late(since, outcome.map(drop)).context("the node is not Ready")?,
            }
            sleep(PAUSE).await;
        }
    };
    let names_answer = until(since, "cluster DNS does not answer", ask_names);
    let edge_answers = until(since, "the edge does not answer", move || ask_edge(edge));
    let (node_ready, names, edge) = tokio::try_join!(node_ready, names_answer, edge_answers)?;
    Ok(Ready { node: node_ready, names, edge })
}

/// What control itself says of its start.
pub(super) fn printed_ms(node: &mut Node) -> Result<f64> {
    let control = node.control()?;
    let line = wait(LIMIT, || {
        let output = control.output()?;
        Ok(output.lines().find(|line| line.contains("ready in")).map(str::to_owned))
    })?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "in").context("ready in N ms")?;
    Ok(words.get(at + 1).context("ready in N ms")?.parse()?)
}

async fn until<F>(since: &Stopwatch, what: &'static str, ask: impl Fn() -> F) -> Result<Duration>
where
    F: Future<Output = Result<()>>,
{
    loop {
        match timeout(QUESTION_MAX, ask()).await {
            Ok(Ok(())) => return Ok(since.elapsed()),
            Ok(outcome) => late(since, outcome).context(what)?,
            Err(_) => late(since, Ok(())).context(what)?,
        }
        sleep(PAUSE).await;
    }
}

/// The last outcome, once it has taken too long.
fn late(since: &Stopwatch, outcome: Result<()>) -> Result<()> {
    if since.elapsed() < LIMIT {
        return Ok(());
    }
    outcome?;
    anyhow::bail!("nothing within {LIMIT:?}")
}

/// When the lease of a node that is Ready was renewed last.
async fn renewed(client: &mut Option<Client>, kubeconfig: &Path) -> Result<String> {
    if client.is_none() {
        *client = Some(Client::new(&Endpoint::read(kubeconfig)?)?);
    }
    let client = client.as_mut().context("made")?;
    let node = get(client, &format!("/api/v1/nodes/{NAME}")).await?;
    let conditions = node["status"]["conditions"].as_array().context("a node has conditions")?;
    let ready = conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    ensure!(ready, "the node is not Ready");
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{NAME}");
    let lease = get(client, &lease).await?;
    Ok(lease["spec"]["renewTime"].as_str().context("a lease has a time")?.to_owned())
}

async fn get(client: &mut Client, path: &str) -> Result<Value> {
    let answer = client.send(&Request::get(path)).await?;
    ensure!(answer.code == 200, "{path}: {}", answer.code);
    Ok(serde_json::from_slice(&answer.body)?)
}

/// The address of the API by its name, as RFC 1035 has it.
async fn ask_names() -> Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
    socket.connect(SocketAddr::from(NAMES)).await?;
    let question = question("kubernetes.default.svc.cluster.local");
    socket.send(&question).await?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).await?;
    ensure!(is_answer(&question, &answer[..length]), "no address in {:?}", &answer[..length]);
    Ok(())
}

/// A question for an IPv4 address, with recursion desired.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x0c, 0x0e, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

/// The same id, an answer, no error, at least one record.
fn is_answer(question: &[u8], answer: &[u8]) -> bool {
    answer.len() > 12
        && answer[..2] == question[..2]
        && answer[2] & 0x80 != 0
        && answer[3] & 0x0f == 0
        && answer[6..8] != [0, 0]
}

/// Any answer to a request for a host that nobody has.
pub(super) async fn ask_edge(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody.localhost\r\nConnection: close\r\n\r\n").await?;
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    ensure!(&head == b"HTTP/1.1 ", "the edge answers {head:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_is_an_answer() {
        let question = question("a.b");
        assert_eq!(question.len(), 12 + 5 + 4);
        let mut answer = question.clone();
        answer[2] |= 0x80;
        assert!(!is_answer(&question, &answer), "no record");
        answer[7] = 1;
        assert!(is_answer(&question, &answer));
        answer[3] = 3;
        assert!(!is_answer(&question, &answer), "no such name");
        answer[3] = 0;
        answer[0] = 0;
        assert!(!is_answer(&question, &answer), "another's");
    }
}
