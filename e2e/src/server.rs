//! The servers under test: the real Kubernetes (etcd and kube-apiserver) and Corten, each on free ports of loopback
//! with a directory of its own. Ended when dropped.

mod pki;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::http::{Client, Request};
use crate::kubeconfig::Endpoint;
use crate::process::{Process, wait};
use crate::spine::node::EVICTION;

/// The real control plane takes two seconds on a quiet machine and twenty on a busy one.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Whether the real store flushes what it acknowledges. Corten's always does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// For tests: the directory lives as long as they do.
    Never,
    /// For measurements.
    Durable,
}

pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) kubeconfig: PathBuf,
    /// In the order of starting.
    processes: Vec<Process>,
    /// The program and the data directory, for what outlives the process: pods with their links.
    purge: Option<(PathBuf, PathBuf)>,
    /// Removed with the server.
    _folder: TempDir,
}

impl Server {
    /// etcd and kube-apiserver from the folder `programs`; `extra` are further flags of the latter. No controllers.
    pub(crate) async fn real(programs: &Path, flush: Flush, extra: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [port, etcd_port, peer_port] = free_ports()?;
        let files = pki::write(folder.path())?;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let etcd = Process::start("etcd", &etcd(programs, folder.path(), &etcd_url, peer_port, flush), folder.path())?;
        let mut command = apiserver(programs, folder.path(), &etcd_url, port);
        command.args(extra);
        let api = Process::start("kube-apiserver", &command, folder.path())?;
        let kubeconfig = folder.path().join("admin.kubeconfig");
        let endpoint = Endpoint { address: format!("127.0.0.1:{port}"), ..files };
        fs::write(&kubeconfig, endpoint.print())?;
        let mut server =
            Self { name: "kubernetes", kubeconfig, processes: vec![etcd, api], purge: None, _folder: folder };
        server.ready().await?;
        Ok(server)
    }

    /// `corten up` with an empty data directory; `extra` are further flags.
    pub(crate) fn corten(program: &Path, extra: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [port] = free_ports()?;
        let data = folder.path().join("data");
        let mut command = Command::new(program);
        command
            .args(["up", "--network", "none", "--http-port", "0", "--https-port", "0"])
            .arg("--data-dir")
            .arg(&data)
            .arg("--listen")
            .arg(format!("127.0.0.1:{port}"));
        command.args(["--eviction-hard", EVICTION]).args(extra);
        let mut process = Process::start("corten", &command, folder.path())?;
        wait(READY_LIMIT, || {
            process.check()?;
            Ok(process.output()?.contains("ready in").then_some(()))
        })
        .context("corten up does not say `ready in`")?;
        let kubeconfig = data.join("admin.kubeconfig");
        let purge = Some((program.to_owned(), data));
        Ok(Self { name: "corten", kubeconfig, processes: vec![process], purge, _folder: folder })
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Client::new(&Endpoint::read(&self.kubeconfig)?)
    }

    /// Names and ids of the processes.
    pub(crate) fn pids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.processes.iter().map(Process::identity)
    }

    /// The last lines of every process, for reports.
    pub(crate) fn tail(&self) -> Result<String> {
        let tails: Result<Vec<String>> = self.processes.iter().map(Process::tail).collect();
        Ok(tails?.join("\n"))
    }

    /// Kills the API server without warning and starts it again. Returns when it answers.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.processes.last_mut().context("a server has a process")?.restart()?;
        self.ready().await
    }

    /// Ends the processes in order, the last started first.
    pub(crate) fn stop(mut self) -> Result<()> {
        while let Some(mut process) = self.processes.pop() {
            process.stop()?;
        }
        if let Some((program, data)) = &self.purge {
            let purged = Command::new(program).args(["purge", "--data-dir"]).arg(data).output()?;
            ensure!(purged.status.success(), "purge: {}", String::from_utf8_lossy(&purged.stderr));
        }
        Ok(())
    }

    async fn ready(&mut self) -> Result<()> {
        let mut client = self.client()?;
        let watch = corten_stdx::clock::Stopwatch::start();
        loop {
            self.processes.iter_mut().try_for_each(Process::check)?;
            if client.send(&Request::get("/readyz")).await.is_ok_and(|answer| answer.code == 200) {
                return Ok(());
            }
            ensure!(watch.elapsed() < READY_LIMIT, "{} is not ready within {READY_LIMIT:?}", self.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn etcd(programs: &Path, folder: &Path, url: &str, peer_port: u16, flush: Flush) -> Command {
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(programs.join("etcd"));
    command.args(["--name", "e2e", "--log-level", "warn", "--data-dir"]).arg(folder.join("etcd"));
    command.args(["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", &peer]);
    command.args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("e2e={peer}")]);
    if flush == Flush::Never {
        command.arg("--unsafe-no-fsync");
    }
    command
}

fn apiserver(programs: &Path, folder: &Path, etcd_url: &str, port: u16) -> Command {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(programs.join("kube-apiserver"));
    command.args([
        format!("--etcd-servers={etcd_url}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--cert-dir={}", file("self-made")),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("tokens.pub")),
        format!("--service-account-signing-key-file={}", file("tokens.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]);
    command
}

/// Ports that nobody listens on. They are free when asked; a server that finds its port taken ends and says so.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
