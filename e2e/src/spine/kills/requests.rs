//! Requests for the pods that are struck, and what may become of them. Through the edge: a GET is answered, whoever dies but the
//! edge; a POST may have been carried out when its server dies, so it is not sent to another one, and whoever asked is told that it
//! was cut. What was answered was carried out once, and nothing twice: each server writes down what it has carried out. By the
//! Service's address there is no process of ours between, and a server that died is met until the kernel's table is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::node::Node;
use super::NAMESPACE;
use super::judge::{Death, Strikes, lost};
use crate::load::{ANSWER_LIMIT, Load, Report, Running};

const HOST: &str = "many.localhost";
/// A word of its page.
const WORD: &str = "still here";

/// How long after a kill, with control there, the Service's address may lead to the server that died. It is some tens of milliseconds
/// where the machine has nothing else to do.
const LED_ASTRAY_MAX: Duration = Duration::from_secs(2);

pub(super) struct Requests {
    edge: Running,
    posts: Running,
    service: Running,
    records: PathBuf,
}

/// Where servers write down what they have carried out.
pub(super) fn records(node: &Node) -> PathBuf {
    node.folder().join("records")
}

impl Requests {
    pub(super) fn start(node: &Node) -> Result<Self> {
        let address = node.field(NAMESPACE, "service/many", "{.spec.clusterIP}:80")?;
        let address = address.parse().with_context(|| format!("the Service's address is {address:?}"))?;
        let edge = Load {
            name: "while everything is killed",
            address: node.edge(),
            host: HOST.to_owned(),
            path: "/".to_owned(),
            echo: false,
            expect: WORD.to_owned(),
            keep_alive: false,
            connections: 16,
            requests_per_s: 200,
        };
        let service =
            Load { name: "by the Service's address", address, connections: 4, requests_per_s: 100, ..edge.clone() };
        let posts = Load {
            name: "POST while everything is killed",
            path: "/cgi-bin/record".to_owned(),
            echo: true,
            expect: String::new(),
            connections: 8,
            requests_per_s: 50,
            ..edge.clone()
        };
        Ok(Self {
            edge: edge.start(),
            posts: posts.start(),
            service: service.start(),
            records: records(node).join("all"),
        })
    }

    /// Since their start.
    pub(super) fn elapsed(&self) -> Duration {
        self.edge.elapsed()
    }

    /// Ends them, and judges what became of them.
    pub(super) async fn judge(self, edges: &[Death], strikes: &Strikes) -> Result<()> {
        let (edge, posts, service) = (self.edge.stop().await?, self.posts.stop().await?, self.service.stop().await?);
        let cut = lost(&edge, edges)?;
        println!("        {} requests, {cut} cut with an edge, slowest {:.0?}", edge.samples.len(), edge.slowest());
        let deaths = [edges, &strikes.deaths].concat();
        let cut = lost(&posts, &deaths)?;
        println!(
            "        {} POSTs, {cut} cut with an edge or a server, slowest {:.0?}",
            posts.samples.len(),
            posts.slowest()
        );
        once(&posts, &fs::read_to_string(&self.records).context("what was carried out")?)?;
        let (refused, longest) = strikes.lost(&service, LED_ASTRAY_MAX)?;
        println!(
            "        {} by the Service's address, {refused} met a server that had died, the last {longest:.0?} after its kill",
            service.samples.len()
        );
        Ok(())
    }
}

/// What was answered was carried out once, and what was not at most once; who was not answered was told so.
fn once(posts: &Report, records: &str) -> Result<()> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    records.lines().for_each(|token| *times.entry(token).or_default() += 1);
    for sample in &posts.samples {
        let done = times.remove(sample.token.as_str()).unwrap_or_default();
        let expected = if sample.failure.is_none() { done == 1 } else { done <= 1 };
        ensure!(expected, "{} was carried out {done} times: {:?}", sample.token, sample.failure);
        ensure!(sample.took < ANSWER_LIMIT, "nobody was told what became of {}: {:?}", sample.token, sample.failure);
    }
    ensure!(times.is_empty(), "carried out, and nobody has asked for it: {times:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Failure, Sample};

    #[test]
    fn what_was_answered_is_there_once_and_what_was_cut_not_twice() {
        let check = |is_answered: bool, records: &str| {
            let failure = (!is_answered).then(|| Failure { is_refusal: false, text: "cut".to_owned() });
            let (begun, took) = (Duration::ZERO, Duration::from_millis(10));
            let samples = vec![Sample { begun, took, token: "0-1".to_owned(), failure }];
            once(&Report { name: "r", took: Duration::from_secs(1), samples }, records).is_ok()
        };
        assert_eq!([check(true, "0-1\n"), check(true, ""), check(true, "0-1\n0-1\n")], [true, false, false]);
        assert_eq!([check(false, "0-1\n"), check(false, ""), check(false, "0-1\n0-1\n")], [true, true, false]);
        assert!(!check(true, "0-1\n0-2\n"), "nobody has asked for that");
    }
}
