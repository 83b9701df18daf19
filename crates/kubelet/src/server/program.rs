//! Exec and attach: a program's streams, between the engine's descriptors and the client's session.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_runtime::engine::{Attached, ContainerId, Engine, Exit, Running, Streams};
use corten_runtime::spec::ExecSpec;
use corten_streaming::remote::{self, Session, Sizes, Wanted};
use corten_streaming::{Driver, Incoming as Input, Outgoing};
use http::StatusCode;
use hyper::body::Incoming;

use super::answer::{Answer, Refusal, whole};
use super::fd::{Fd, drain, feed, follow_sizes, pipe};
use super::route::Target;
use super::{Host, Server};

/// How long output is waited for after a program's end while something that it has left behind holds it open and says nothing.
const QUIET_LIMIT: Duration = Duration::from_secs(2);

/// Between the end of a container's output and the word that it has ended.
const END_LIMIT: Duration = Duration::from_secs(5);

/// The running container that a request means.
fn container(server: &Server, target: &Target) -> Result<ContainerId, Refusal> {
    let pod = server.host.pod(&target.namespace, &target.pod);
    let pod = pod.filter(|pod| target.uid.is_empty() || target.uid == pod.uid);
    let pod = pod.ok_or_else(|| Refusal::not_found("pod does not exist"))?;
    let running = pod.container(&target.container).and_then(|container| container.running);
    let missing = || {
        let text = format!("container not found ({:?})", target.container);
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    };
    Ok(pod.id(&target.container, running.ok_or_else(missing)?))
}

pub(super) fn exec(
    server: &Server,
    mut request: http::Request<Incoming>,
    target: &Target,
    wanted: Wanted,
    command: Vec<String>,
) -> Result<Answer, Refusal> {
    let id = container(server, target)?;
    if command.is_empty() {
        return Err(Refusal::bad("you must specify a command"));
    }
    let (answer, upgrading) = match remote::upgrade(&mut request) {
        Ok(upgraded) => upgraded,
        Err(refused) => return Ok(whole(refused.into_response())),
    };
    let (engine, spec) = (server.engine.clone(), ExecSpec { args: command, tty: wanted.tty });
    server.tasks.spawn_endless("exec", async move {
        match upgrading.open(wanted).await {
            Ok((session, driver)) => while_connected(driver, run(&*engine, &id, &spec, session)).await,
            Err(error) => tracing::debug!(%error, "exec session did not open"),
        }
    });
    Ok(whole(answer))
}

/// Serves a session; when the client leaves, what it needed is let go of: a terminal hangs up, pipes close.
pub(super) async fn while_connected(mut driver: Driver, session: impl Future<Output = ()>) {
    tokio::select! {
        () = &mut driver => {}
        () = session => driver.await,
    }
}

/// Runs a program to its end with a client's streams.
async fn run(engine: &dyn Engine, id: &ContainerId, spec: &ExecSpec, mut session: Session) {
    let (ours, theirs) = match ends(spec.tty, &session) {
        Ok(ends) => ends,
        Err(error) => return fail(session, &format!("error executing command in container: {error}")).await,
    };
    let running = match engine.exec(id, spec, theirs).await {
        Ok(running) => running,
        Err(error) => return fail(session, &format!("error executing command in container: {error}")).await,
    };
    let Running { terminal, exit, .. } = running;
    let ended = match terminal.map(Fd::both).transpose() {
        Ok(Some(terminal)) => with_terminal(&mut session, &terminal, exit).await,
        Ok(None) => with_pipes(&mut session, ours, exit).await,
        Err(error) => return fail(session, &format!("error executing command in container: {error}")).await,
    };
    let told = match ended {
        Ok(Exit { code: 0, .. }) => session.end.success().await,
        Ok(exit) => session.end.exit_code(exit.code).await,
        Err(_) => session.end.failure("error executing command in container: the pod has ended").await,
    };
    if told.is_err() {
        tracing::debug!(container = id.name, "exec client left");
    }
}

async fn fail(session: Session, text: &str) {
    if session.end.failure(text).await.is_err() {
        tracing::debug!("client left");
    }
}

/// Our ends of a program's pipes.
#[derive(Default)]
struct Ends {
    stdin: Option<Fd>,
    stdout: Option<Fd>,
    stderr: Option<Fd>,
}

/// Pipes for the streams that the client has, unless a terminal takes their place.
fn ends(tty: bool, session: &Session) -> io::Result<(Ends, Streams)> {
    let (mut ours, mut theirs) = (Ends::default(), Streams::default());
    if tty {
        return Ok((ours, theirs));
    }
    if session.stdin.is_some() {
        let (reader, writer) = pipe()?;
        (theirs.stdin, ours.stdin) = (Some(reader), Some(Fd::writable(writer)?));
    }
    let output = |wanted: bool| -> io::Result<(Option<Fd>, Option<OwnedFd>)> {
        if !wanted {
            return Ok((None, None));
        }
        let (reader, writer) = pipe()?;
        Ok((Some(Fd::readable(reader)?), Some(writer)))
    };
    (ours.stdout, theirs.stdout) = output(session.stdout.is_some())?;
    (ours.stderr, theirs.stderr) = output(session.stderr.is_some())?;
    Ok((ours, theirs))
}

/// How the program ended, after its output.
async fn with_pipes<E: Future>(session: &mut Session, ends: Ends, exit: E) -> E::Output {
    let seen = AtomicUsize::new(0);
    let count = |bytes| {
        seen.fetch_add(bytes, Ordering::Relaxed);
    };
    let input = async {
        if let (Some(from), Some(to)) = (session.stdin.take(), ends.stdin) {
            feed(from, &to).await;
        }
    };
    let output = outputs((ends.stdout, session.stdout.take()), (ends.stderr, session.stderr.take()), count);
    until(input, output, exit, &seen).await
}

/// The same with a terminal.
async fn with_terminal<E: Future>(session: &mut Session, terminal: &Fd, exit: E) -> E::Output {
    let seen = AtomicUsize::new(0);
    let count = |bytes| {
        seen.fetch_add(bytes, Ordering::Relaxed);
    };
    let (stdin, sizes, stdout) = (session.stdin.take(), session.sizes.take(), session.stdout.take());
    let input = keys_and_sizes(stdin, sizes, terminal);
    let output = async {
        if let Some(to) = stdout {
            drain(terminal, to, count).await;
        }
    };
    until(input, output, exit, &seen).await
}

/// Both outputs to their ends.
async fn outputs(
    one: (Option<Fd>, Option<Outgoing>),
    other: (Option<Fd>, Option<Outgoing>),
    seen: impl Fn(usize) + Copy,
) {
    let copy = async |pair| {
        if let (Some(from), Some(to)) = pair {
            drain(&from, to, seen).await;
        }
    };
    tokio::join!(copy(one), copy(other));
}

async fn keys_and_sizes(keys: Option<Input>, sizes: Option<Sizes>, to: &Fd) {
    let keys = async {
        if let Some(keys) = keys {
            feed(keys, to).await;
        }
    };
    let sizes = async {
        if let Some(sizes) = sizes {
            follow_sizes(sizes, to).await;
        }
    };
    tokio::join!(keys, sizes);
}

/// Waits for the exit and for the output, which may be held open by others: then only while it says something.
async fn until<E: Future>(
    input: impl Future<Output = ()>,
    output: impl Future<Output = ()>,
    exit: E,
    seen: &AtomicUsize,
) -> E::Output {
    let (mut input, mut output, mut exit) = (pin!(input), pin!(output), pin!(exit));
    let (mut fed, mut drained) = (false, false);
    let code = loop {
        tokio::select! {
            code = &mut exit => break code,
            () = &mut input, if !fed => fed = true,
            () = &mut output, if !drained => drained = true,
        }
    };
    while !drained {
        let before = seen.load(Ordering::Relaxed);
        match tokio::time::timeout(QUIET_LIMIT, &mut output).await {
            Ok(()) => drained = true,
            Err(_) if seen.load(Ordering::Relaxed) == before => break,
            Err(_) => {}
        }
    }
    code
}

pub(super) fn attach(
    server: &Server,
    mut request: http::Request<Incoming>,
    target: &Target,
    wanted: Wanted,
) -> Result<Answer, Refusal> {
    let id = container(server, target)?;
    let (answer, upgrading) = match remote::upgrade(&mut request) {
        Ok(upgraded) => upgraded,
        Err(refused) => return Ok(whole(refused.into_response())),
    };
    let (engine, host) = (server.engine.clone(), server.host.clone());
    server.tasks.spawn_endless("attach", async move {
        match upgrading.open(wanted).await {
            Ok((session, driver)) => while_connected(driver, join(&*engine, &host, &id, wanted, session)).await,
            Err(error) => tracing::debug!(%error, "attach session did not open"),
        }
    });
    Ok(whole(answer))
}

/// Joins a container's streams until it has ended, or the client leaves.
async fn join(engine: &dyn Engine, host: &Arc<dyn Host>, id: &ContainerId, wanted: Wanted, mut session: Session) {
    // A terminal is needed for its size, too.
    let attached = match engine.attach(id, wanted.stdin || wanted.tty).await {
        Ok(attached) => attached,
        Err(error) => return fail(session, &format!("error attaching to container: {error}")).await,
    };
    let Attached { input, stdout, stderr, terminal } = attached;
    let fds = (|| {
        let input = input.map(Fd::writable).transpose()?;
        let stdout = stdout.map(Fd::readable).transpose()?;
        Ok::<_, io::Error>((input, stdout, stderr.map(Fd::readable).transpose()?))
    })();
    let (input, stdout, stderr) = match fds {
        Ok(fds) => fds,
        Err(error) => return fail(session, &format!("error attaching to container: {error}")).await,
    };
    let (sizes, stdin) = (session.sizes.take(), session.stdin.take());
    let typing = async {
        // With the end of the client's input ours is let go of, which may be its end for the container.
        if let Some(input) = input {
            keys_and_sizes(stdin, sizes.filter(|_| terminal), &input).await;
        }
    };
    let (to_out, to_err) = (session.stdout.take(), session.stderr.take());
    let printing = async {
        outputs((stdout, to_out), (stderr, to_err), |_| {}).await;
        tokio::time::timeout(END_LIMIT, host.ended(id)).await.is_ok()
    };
    let over = async {
        tokio::select! {
            complete = printing => complete,
            () = async { typing.await; pending().await } => false,
        }
    };
    let told = if over.await {
        session.end.success().await
    } else {
        session.end.failure("error attaching to container: its output came faster than it was taken").await
    };
    if told.is_err() {
        tracing::debug!(container = id.name, "attach client left");
    }
}
