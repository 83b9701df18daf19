//! `corten token …`: what a further server shows to join this cluster.

mod text;

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_cli::option::{Output, period};
use corten_client::https::{Https, Server};
use corten_client::{Client, Delete, Resource, Select};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

use crate::args::Common;
use crate::cluster::{self, Cluster};
use crate::seams::Seams;
pub use text::{JoinToken, hash_of};

const SECRETS: Resource = Resource::new("", "v1", "secrets");
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The group whose rights let a server in.
const GROUP: &str = "system:bootstrappers:corten";

#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token that lets one server in, and print the command to run there.
    Create(Create),
    /// List the tokens that are good.
    Ls(Common),
    /// Take a token back.
    Rm(Remove),
}

#[derive(Debug, Args)]
struct Create {
    #[command(flatten)]
    common: Common,
    /// How long the token is good, such as 30m or 24h.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = period)]
    ttl: Duration,
}

#[derive(Debug, Args)]
struct Remove {
    #[command(flatten)]
    common: Common,
    /// The token, or its part before the first dot.
    token: String,
}

pub fn run(token: &Token) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    runtime.block_on(async {
        match &token.verb {
            Verb::Create(create) => create.run().await,
            Verb::Ls(common) => common.list().await,
            Verb::Rm(remove) => remove.run().await,
        }
    })
}

impl Common {
    fn client(&self) -> anyhow::Result<(Client, Seams)> {
        let seams = Seams::new(Clock::from_environment().map_err(anyhow::Error::msg)?, Random::system());
        let kubeconfig = self.data_dir.join("admin.kubeconfig");
        let server = Server::from_kubeconfig(&kubeconfig).with_context(|| {
            format!(
                "{} cannot be read; run this as root on the cluster's first server, or name its --data-dir",
                kubeconfig.display()
            )
        })?;
        let transport = Https::new(&server, seams.tasks.clone())?;
        Ok((Client::new(std::sync::Arc::new(transport), "corten"), seams))
    }

    async fn list(&self) -> anyhow::Result<()> {
        let (client, _) = self.client()?;
        let select = Select { fields: format!("type={TYPE}"), ..Select::default() };
        let found = client.list(&SECRETS, NAMESPACE, &select).await.with_context(unreachable)?;
        let tokens: Vec<(String, String)> =
            found.items.iter().map(|secret| (field(secret, "token-id"), field(secret, "expiration"))).collect();
        match self.output {
            Output::Json => {
                let rows: Vec<_> =
                    tokens.iter().map(|(id, end)| serde_json::json!({"id": id, "expires": end})).collect();
                println!("{}", serde_json::to_string_pretty(&rows)?);
            }
            Output::Text if tokens.is_empty() => println!("no tokens; make one with `corten token create`"),
            Output::Text => {
                println!("{:<8} EXPIRES", "ID");
                for (id, end) in &tokens {
                    println!("{id:<8} {}", if end.is_empty() { "never" } else { end });
                }
            }
        }
        Ok(())
    }
}

impl Create {
    async fn run(&self) -> anyhow::Result<()> {
        let (client, seams) = self.common.client()?;
        let Cluster { server, authority_pem, .. } = cluster::read(&client).await.with_context(unreachable)?;
        let server = server.context(
            "other servers cannot reach this cluster: its API listens on the loopback alone; start it with --listen 0.0.0.0:6443",
        )?;
        let token = JoinToken::new(&seams.random, &authority_pem)?;
        let end_s = seams.clock.wall_s() + i64::try_from(self.ttl.as_secs())?;
        let end = Time { seconds: end_s, ..Time::default() }.to_rfc3339();
        client.create(&SECRETS, NAMESPACE, &secret(&token, &end)).await.with_context(unreachable)?;
        let command = format!("corten node --server {server} --token {token}");
        match self.common.output {
            Output::Json => {
                let answer = serde_json::json!({
                    "token": token.to_string(), "server": server, "command": command, "expires": (end.as_str())
                });
                println!("{}", serde_json::to_string_pretty(&answer)?);
            }
            Output::Text => println!("{command}"),
        }
        Ok(())
    }
}

impl Remove {
    async fn run(&self) -> anyhow::Result<()> {
        let (client, _) = self.common.client()?;
        let id = self.token.split('.').next().unwrap_or_default();
        let name = format!("bootstrap-token-{id}");
        match client.delete(&SECRETS, NAMESPACE, &name, &Delete::default()).await {
            Err(error) if error.is_not_found() => {
                anyhow::bail!("there is no token {id:?}; `corten token ls` shows those that are good")
            }
            other => other.with_context(unreachable).map(drop)?,
        }
        if self.common.output == Output::Text {
            println!("token {id} removed");
        }
        Ok(())
    }
}

fn unreachable() -> &'static str {
    "the cluster's API does not do it; see whether `corten up` runs here"
}

fn secret(token: &JoinToken, end: &str) -> Value {
    value!({
        "apiVersion": "v1", "kind": "Secret", "type": TYPE,
        "metadata": {"name": (format!("bootstrap-token-{}", token.id)), "namespace": NAMESPACE},
        "stringData": {
            "token-id": (token.id.as_str()), "token-secret": (token.secret.as_str()), "expiration": end,
            "usage-bootstrap-authentication": "true", "auth-extra-groups": GROUP,
            "description": "lets one server join; made by corten token create"
        }
    })
}

/// A field of a Secret, as text.
fn field(secret: &Value, name: &str) -> String {
    let bytes = STANDARD.decode(secret.str_at(&["data", name])).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
