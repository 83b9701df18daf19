//! Debian's nginx, as the peer of the edge and as the server behind both.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use super::super::census::family;
use crate::process::{Process, wait};
use crate::sandbox;
use crate::spine::node::LIMIT;

pub(super) struct Nginx(Process);

/// What it says of a request.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Log {
    /// What the edge says.
    Facts,
    /// What it says by itself.
    Combined,
}

/// Without a limit of requests a connection, and what it writes where the system's own nginx does not write.
const BOTH: &str = "daemon off; error_log stderr warn; pid PLACE/pid;
events { worker_connections 4096; }
http {
    client_body_temp_path PLACE/body; proxy_temp_path PLACE/proxy; fastcgi_temp_path PLACE/fastcgi;
    uwsgi_temp_path PLACE/uwsgi; scgi_temp_path PLACE/scgi;
    keepalive_requests 1000000000; tcp_nodelay on; server_tokens off;
";

/// What the edge does too: idle connections to the upstream, the same fields of forwarding, timeouts, counters, and a log that is
/// written in batches: of the same facts, or nginx's own `combined`, which says less.
const PROXY: &str = r#"
    log_format facts escape=json '{"time":$msec,"client":"$remote_addr","tls":"$https","method":"$request_method","host":"$host",'
        '"target":"$request_uri","status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,'
        '"backend":"$proxy_host","endpoint":"$upstream_addr","agent":"$http_user_agent"}';
    access_log PLACE/access.log FORMAT buffer=64k flush=1s;
    client_header_timeout 10s; client_body_timeout 60s; keepalive_timeout 75s; send_timeout 60s;
    proxy_connect_timeout 5s; proxy_read_timeout 60s; proxy_send_timeout 60s;
    upstream bench { server UPSTREAM; keepalive 128; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:PORT;
        server_name bench.localhost;
        location / {
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
        }
        location = /status { stub_status; }
    }
}
"#;

const UPSTREAM: &str = r#"
    access_log off;
    server { listen ADDRESS:PORT; location / { default_type text/plain; return 200 "BODY"; } }
}
"#;

impl Nginx {
    /// Passes on to the upstream.
    pub(super) fn proxy(
        folder: &Path,
        port: u16,
        upstream: u16,
        workers: usize,
        processors: &str,
        log: Log,
    ) -> Result<Self> {
        let upstream = format!("{}:{upstream}", sandbox::ADDRESS);
        let text = PROXY.replace("UPSTREAM", &upstream).replace("PORT", &port.to_string());
        let text = text.replace("FORMAT", if log == Log::Facts { "facts" } else { "combined" });
        Self::start("nginx", &folder.join("proxy"), workers, &text, port, processors)
    }

    /// Answers with so many bytes.
    pub(super) fn upstream(folder: &Path, port: u16, bytes: usize, processors: &str) -> Result<Self> {
        let text = UPSTREAM.replace("ADDRESS", sandbox::ADDRESS).replace("PORT", &port.to_string());
        let text = text.replace("BODY", &"a".repeat(bytes));
        Self::start("upstream", &folder.join("upstream"), 1, &text, port, processors)
    }

    fn start(
        name: &'static str,
        place: &Path,
        workers: usize,
        text: &str,
        port: u16,
        processors: &str,
    ) -> Result<Self> {
        fs::create_dir(place)?;
        let config = place.join("nginx.conf");
        let both = format!("worker_processes {workers}; {BOTH}{text}");
        fs::write(&config, both.replace("PLACE", &place.display().to_string()))?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", processors, "nginx", "-p"]).arg(place).args(["-e", "stderr", "-c"]).arg(config);
        let mut process = Process::start(name, &command, place)?;
        wait(LIMIT, || {
            process.check()?;
            Ok(listens(port)?.then_some(()))
        })?;
        Ok(Self(process))
    }

    /// The master and its workers, which it starts after it listens.
    pub(super) fn pids(&self, workers: usize) -> Result<Vec<u32>> {
        let master = self.0.identity().1;
        wait(LIMIT, || Ok(Some(family(master)?).filter(|pids| pids.len() > workers)))
    }

    /// The last lines of its log.
    pub(super) fn tail(&self) -> Result<String> {
        self.0.tail()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its workers.
        if let Err(error) = self.0.stop() {
            eprintln!("cannot end nginx: {error:#}");
        }
    }
}

/// Whether somebody listens on a port in this network namespace (`tcp` in proc_pid_net(5)).
fn listens(port: u16) -> Result<bool> {
    let table = fs::read_to_string(PathBuf::from("/proc/self/net/tcp"))?;
    Ok(table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))) && fields.nth(1) == Some("0A")
    }))
}
