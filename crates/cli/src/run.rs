//! `corten run IMAGE`: one command from an image to a URL. It makes ordinary objects, tells what they wait for, and follows
//! the logs. A second run of the same name changes what differs.

mod apply;
mod board;
mod follow;
mod objects;
mod wait;
mod words;

use std::time::Duration;

use anyhow::ensure;
use clap::Args;

use crate::app::{check_name, name_of};
use crate::connect::{Session, Target};
use crate::option::period;
use board::Board;
use objects::Wanted;
use words::{Port, Source, Variable, Volume};

#[derive(Debug, Args)]
#[command(override_usage = "corten run [OPTIONS] IMAGE [CMD]...")]
pub struct Run {
    #[command(flatten)]
    target: Target,
    /// What it is called [default: the last part of the image's name]; running it again under a name changes what runs.
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// A port of the container, or SERVICE:CONTAINER; the first one is reached by URL, through the edge. May be repeated.
    #[arg(short = 'p', long = "port", value_name = "PORT", value_parser = words::port)]
    ports: Vec<Port>,
    /// The host of that URL [default: NAME.localhost].
    #[arg(long, value_name = "HOST", requires = "ports")]
    host: Option<String>,
    /// A variable of its environment; a name alone takes the value from here. May be repeated.
    #[arg(short, long, value_name = "K=V", value_parser = words::variable)]
    env: Vec<Variable>,
    /// A volume that is kept, data:/var/lib/x[:size=5Gi], or a folder of the server, /host:/path[:ro]. May be repeated.
    #[arg(short = 'v', long = "volume", value_name = "VOLUME", value_parser = words::volume)]
    volumes: Vec<Volume>,
    /// The most memory that it may use; beyond it, it is killed.
    #[arg(long, value_name = "256Mi", value_parser = words::bytes)]
    memory: Option<String>,
    /// The most processor time, in processors.
    #[arg(long, value_name = "0.5", value_parser = words::processors)]
    cpus: Option<String>,
    /// How many processes and threads it may have.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pids: Option<u32>,
    /// How many bytes a second it may read of each disk.
    #[arg(long, value_name = "5M", value_parser = words::rate)]
    io_read: Option<String>,
    /// How many bytes a second it may write to each disk.
    #[arg(long, value_name = "5M", value_parser = words::rate)]
    io_write: Option<String>,
    /// How many of it run.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..))]
    replicas: u16,
    /// End when it is ready, and print its URL alone; otherwise its logs are followed.
    #[arg(short, long)]
    detach: bool,
    /// How long to wait until it is ready.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = period)]
    timeout: Duration,
    /// The image, and what it is to do in place of what it says by itself; an image that a server has is not asked for again.
    // One list, so that options behind the image are the command's.
    #[arg(value_name = "IMAGE CMD", required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// Makes or changes the application, and waits for it.
///
/// # Errors
/// When an option cannot be meant, the cluster refuses an object, or the application does not become ready.
pub fn run(run: &Run) -> anyhow::Result<()> {
    let name = run.name.clone().unwrap_or_else(|| name_of(run.image()));
    check_name(&name)?;
    run.check()?;
    run.target.with(async |session| carry_out(run, &name, &session).await)
}

impl Run {
    fn image(&self) -> &str {
        self.words.first().expect("the option is required")
    }

    fn command(&self) -> &[String] {
        &self.words[1..]
    }

    /// What no option can know by itself.
    fn check(&self) -> anyhow::Result<()> {
        let is_shared = |volume: &&Volume| matches!(volume.source, Source::Named { .. }) && !volume.readonly;
        if let Some(volume) = self.volumes.iter().find(is_shared).filter(|_| self.replicas > 1) {
            anyhow::bail!(
                "{} replicas would write into one volume at {}; leave --replicas out, or add :ro",
                self.replicas,
                volume.target
            );
        }
        for (at, port) in self.ports.iter().enumerate() {
            let twice = self.ports[at + 1..].iter().any(|other| other.service == port.service);
            ensure!(!twice, "port {} of the Service is named twice; write -p OTHER:{}", port.service, port.container);
        }
        for (at, volume) in self.volumes.iter().enumerate() {
            let twice = self.volumes[at + 1..].iter().any(|other| other.target == volume.target);
            ensure!(!twice, "two volumes are to be at {}; choose another path for one", volume.target);
        }
        Ok(())
    }
}

async fn carry_out(run: &Run, name: &str, session: &Session) -> anyhow::Result<()> {
    let wanted = Wanted { run, name, namespace: &session.namespace };
    apply::apply(session, &wanted).await?;
    let board = Board::open(session, name).await;
    let stays = format!("`corten rm{} {name}` ends it", run.target.again());
    let url = tokio::select! {
        ready = wait::ready(session, &board, run.timeout, run.ports.is_empty()) => match ready {
            Ok(url) => url,
            Err(error) => anyhow::bail!("{error:#}\n{name} stays and is tried again and again; {stays}"),
        },
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            eprintln!("{name} goes on by itself; {stays}");
            return Ok(());
        }
    };
    if run.detach {
        println!("{}", url.as_deref().unwrap_or(name));
        return Ok(());
    }
    if let Some(url) = &url {
        eprintln!("{:<10} {url}", "url");
    }
    eprintln!("{:<10} its output follows; Ctrl-C leaves it running, {stays}", "logs");
    tokio::select! {
        followed = follow::follow(session, &board, run.replicas > 1) => followed,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            eprintln!("\n{name} goes on; {stays}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        run: Run,
    }

    fn parse(words: &str) -> Result<Run, clap::Error> {
        Command::try_parse_from(format!("run {words}").split(' ')).map(|command| command.run)
    }

    #[test]
    fn the_command_begins_behind_the_image() {
        let run = parse("-p 80 busybox sh -c ls").expect("a command line");
        assert_eq!((run.image(), run.command().join(" ").as_str()), ("busybox", "sh -c ls"));
        let run = parse("busybox --name x").expect("a command line");
        assert_eq!((run.name.as_deref(), run.command().join(" ").as_str()), (None, "--name x"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_next_step() {
        let check = |words: &str, said: &str| {
            let refused = match parse(words) {
                Ok(run) => run.check().expect_err(words).to_string(),
                Err(error) => error.to_string(),
            };
            assert!(refused.contains(said), "{refused}");
        };
        check("-p 80 -p 80:8080 x", "named twice");
        check("-v a:/x -v b:/x x", "another path");
        check("-v a:/x --replicas 2 x", "add :ro");
        check("--memory 256m x", "write 256Mi");
        check("--replicas 0 x", "--replicas");
        check("--pids 0 x", "--pids");
        assert!(parse("-v a:/x:ro --replicas 2 x").expect("a command line").check().is_ok());
    }
}
