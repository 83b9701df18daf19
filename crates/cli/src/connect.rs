//! The way to the cluster that a verb means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use corten_client::https::{Https, Server};
use corten_client::{Client, Informers};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::app::MANAGER;

const DATA_DIR: &str = "/var/lib/corten";
const KUBECONFIG: &str = "admin.kubeconfig";

/// Which cluster, and where in it.
#[derive(Debug, Args)]
pub(crate) struct Target {
    #[command(flatten)]
    cluster: Cluster,
    /// The namespace of what is made, listed, removed or looked at.
    #[arg(short, long, value_name = "N", default_value = "default")]
    pub(crate) namespace: String,
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct Cluster {
    /// The file that says where the cluster is and who you are [default: $KUBECONFIG, or what `corten up` has written].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where a server started here keeps everything; its admin.kubeconfig is used.
    #[arg(long, value_name = "D", conflicts_with = "kubeconfig")]
    data_dir: Option<PathBuf>,
}

/// A connection, and what is built on it.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) namespace: String,
    tasks: Tasks,
}

impl Target {
    /// Runs a verb against the cluster.
    pub(crate) fn with<F: Future<Output = anyhow::Result<()>>>(
        &self,
        verb: impl FnOnce(Session) -> F,
    ) -> anyhow::Result<()> {
        self.cluster.run(&self.namespace, verb)
    }

    /// What another command needs to mean the same place.
    pub(crate) fn again(&self) -> String {
        let words = self.cluster.again();
        if self.namespace == "default" { words } else { format!("{words} -n {}", self.namespace) }
    }
}

impl Cluster {
    /// Runs a verb that looks at all of the cluster.
    pub(crate) fn with<F: Future<Output = anyhow::Result<()>>>(
        &self,
        verb: impl FnOnce(Session) -> F,
    ) -> anyhow::Result<()> {
        self.run("", verb)
    }

    fn run<F: Future<Output = anyhow::Result<()>>>(
        &self,
        namespace: &str,
        verb: impl FnOnce(Session) -> F,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
        runtime.block_on(async { verb(self.open(namespace)?).await })
    }

    fn open(&self, namespace: &str) -> anyhow::Result<Session> {
        let file = self.file();
        let server = Server::from_kubeconfig(&file).with_context(|| {
            format!(
                "{} cannot be used; run this as root where `corten up` runs, or name a file with --kubeconfig",
                file.display()
            )
        })?;
        let clock = Clock::from_environment().map_err(anyhow::Error::msg)?;
        let tasks = Tasks::new();
        let transport = Https::new(&server, tasks.clone())?;
        let client = Client::new(Arc::new(transport), MANAGER);
        Ok(Session { client, clock, namespace: namespace.to_owned(), tasks })
    }

    /// What another command needs to mean the same cluster.
    fn again(&self) -> String {
        let mut words = String::new();
        for (option, file) in [("--kubeconfig", &self.kubeconfig), ("--data-dir", &self.data_dir)] {
            if let Some(file) = file {
                words = format!(" {option} {}", file.display());
            }
        }
        words
    }

    fn file(&self) -> PathBuf {
        let named = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        match (&self.kubeconfig, &self.data_dir, named) {
            (Some(file), ..) => file.clone(),
            (None, Some(dir), _) => dir.join(KUBECONFIG),
            (None, None, Some(named)) => named,
            (None, None, None) => Path::new(DATA_DIR).join(KUBECONFIG),
        }
    }
}

impl Session {
    /// Caches of this connection.
    pub(crate) fn informers(&self) -> Informers {
        Informers::new(self.client.clone(), self.clock.clone(), Random::system(), self.tasks.clone())
    }
}

/// What to add to an error of a request.
pub(crate) fn refused() -> &'static str {
    "the cluster's API does not do it; see whether `corten up` runs"
}
