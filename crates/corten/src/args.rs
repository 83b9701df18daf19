//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use corten_cli::option::Output;
use corten_kubelet::eviction::threshold::{self, Thresholds};
use ipnet::Ipv4Net;

/// A platform in one binary, speaking the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "corten", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start everything on this server, in the foreground.
    Up(Up),
    /// Make this server a node of the cluster whose API is at a URL.
    Node(Join),
    /// Tokens with which further servers join this cluster.
    Token(crate::token::Token),
    /// Show what each server has and uses, and what is wrong.
    Status(corten_cli::status::Status),
    /// Say what blocks an object, such as pod/web, and the command that helps.
    Why(corten_cli::why::Why),
    /// Run an image: make what it needs, wait until it is ready, print its URL, follow its logs.
    Run(corten_cli::run::Run),
    /// List what `corten run` has started.
    Ps(corten_cli::ps::Ps),
    /// Take away what `corten run` has started.
    Rm(corten_cli::rm::Rm),
    /// The images of this server.
    Image(crate::image::Image),
    /// Have systemd start it with this server, and again when it ends.
    Install(crate::service::install::Install),
    /// Undo that; pods and data stay.
    Uninstall(crate::service::uninstall::Uninstall),
    /// Replace the installed program while pods go on; one that does not become ready is taken back.
    Upgrade(crate::service::upgrade::Upgrade),
    /// End everything that runs on this server for corten, pods too; data stay.
    Down(crate::down::Down),
    /// Write everything that makes this cluster into one file, sealed by a passphrase, while it runs.
    Backup(crate::backup::Backup),
    /// Make a cluster out of a backup, in an empty place.
    Restore(crate::backup::restore::Restore),
    /// Take away everything that corten has put on this server: pods, links, rules, files.
    Purge(Purge),
    /// Carry requests; the holder of this server's sockets starts this by itself.
    #[command(hide = true)]
    Edge,
    /// Print the version.
    Version(crate::version::Ask),
}

/// What a server is as a node of its cluster, wherever the API is.
#[derive(Debug, Args)]
pub struct Node {
    /// Where everything is kept.
    #[arg(long, value_name = "D", default_value = "/var/lib/corten")]
    pub data_dir: PathBuf,
    /// This server's node name [default: its host name].
    #[arg(long, value_name = "N")]
    pub name: Option<String>,
    /// Where this node's own server listens, which the API server alone may use [default: 0.0.0.0:10250, or a free port].
    #[arg(long, value_name = "ADDR:PORT")]
    pub node_listen: Option<SocketAddr>,
    /// How many processes and threads one pod may have.
    #[arg(long, value_name = "N", default_value = "4096")]
    pub pod_pids_limit: NonZeroU64,
    /// With less than this left the node ends pods, as `SIGNAL<AMOUNT` with commas between; what is not named is not watched.
    #[arg(long, value_name = "LIST", default_value = threshold::DEFAULT)]
    pub eviction_hard: Thresholds,
    /// How long the node says that it is short of something after it was so last, in seconds.
    #[arg(long, value_name = "T", default_value = "300", value_parser = seconds)]
    pub eviction_pressure_transition_period: Duration,
    /// How many pods this node may have. The first server's number also gives every node's range of addresses its size, when
    /// a node enters the cluster: a /24 for up to 128 pods, twice as many addresses as pods beyond.
    #[arg(long, value_name = "N", default_value = "110", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_pods: u16,
    /// Where the edge takes plain requests; 0 for nowhere.
    #[arg(long, value_name = "PORT", default_value = "80")]
    pub http_port: u16,
    /// Where the edge takes requests over TLS; 0 for nowhere.
    #[arg(long, value_name = "PORT", default_value = "443")]
    pub https_port: u16,
}

/// A whole cluster on this server, which others may join.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub node: Node,
    /// Make the images of the repository's example shop and run it.
    #[arg(long)]
    pub demo: bool,
    /// Where the API listens.
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:6443")]
    pub listen: SocketAddr,
    /// The range of the addresses that Services get.
    #[arg(long, value_name = "RANGE", default_value = "10.96.0.0/16")]
    pub service_cidr: Ipv4Net,
    /// The range of the addresses that pods get.
    #[arg(long, value_name = "RANGE", default_value = "10.244.0.0/16")]
    pub pod_cidr: Ipv4Net,
    /// How long a node may be silent before its pods are moved, in seconds.
    #[arg(long, value_name = "T", default_value = "20", value_parser = seconds)]
    pub node_grace: Duration,
    /// Put new pods rather on servers that are seen to use little, besides those where little is asked for.
    #[arg(long)]
    pub weigh_use: bool,
    /// Which of the built-in controllers run: `none` leaves them to others, such as upstream's controller manager.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub controllers: Controllers,
    /// Whether this server's kernel is told of Services: `none` leaves them to others, such as upstream's proxy.
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub network: Network,
}

/// A further server of a cluster.
#[derive(Debug, Args)]
pub struct Join {
    #[command(flatten)]
    pub node: Node,
    /// Where the cluster's API is.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// What `corten token create` has printed on the cluster's first server; needed once.
    #[arg(long, value_name = "T", env = "CORTEN_TOKEN", hide_env = true)]
    pub token: Option<String>,
    /// Under which of its addresses others reach this server [default: the one that leads to the API].
    #[arg(long, value_name = "ADDR")]
    pub node_ip: Option<Ipv4Addr>,
}

/// What verbs that answer have in common: which data directory they are about, and how they answer.
#[derive(Debug, Args)]
pub struct Common {
    /// Where everything is kept.
    #[arg(long, value_name = "D", default_value = "/var/lib/corten")]
    pub data_dir: PathBuf,
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// Which part of the network is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Network {
    All,
    None,
}

/// Which instance is taken away.
#[derive(Debug, Args)]
pub struct Purge {
    /// Where everything is kept.
    #[arg(long, value_name = "D", default_value = "/var/lib/corten")]
    pub data_dir: PathBuf,
}

/// Which built-in controllers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Controllers {
    All,
    None,
}

/// Whole seconds, at least one; `20` and `20s` are the same.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.strip_suffix('s').unwrap_or(text).parse() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("not a number of seconds from 1 on".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
