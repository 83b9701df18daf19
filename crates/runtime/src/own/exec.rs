//! Programs beside a container's own, and its streams.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use corten_podspec::{Attach, Credentials, Exec};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use tokio::sync::oneshot;

use super::container::running;
use super::{Node, blocking};
use crate::engine::{Attached, ContainerId, EngineError, Running, Streams};
use crate::plan::{c_string, not_run, refused};
use crate::spec::ExecSpec;

/// What whoever attached may be behind with before it is let go; the most that the kernel gives without asking.
const COPY_BYTES: usize = 1 << 20;

/// Starts the program with the container's identity, environment and limits; its streams are handed to it as they are. A terminal
/// is made in the container, and its other end comes back.
pub(super) async fn exec(
    node: &Arc<Node>,
    id: &ContainerId,
    spec: &ExecSpec,
    streams: Streams,
) -> Result<Running, EngineError> {
    let pod = node.pod(&id.pod)?;
    let ended = || EngineError::Gone(format!("container {} does not run", id.name));
    running(&pod, id)?.ok_or_else(ended)?;
    let link = pod.link()?;
    let template = {
        let (node, id) = (node.clone(), id.clone());
        blocking(move || node.files.read_exec(&id)).await?
    };
    let streams = [given(streams.stdin)?, given(streams.stdout)?, given(streams.stderr)?];
    let args = spec.args.iter().map(|arg| c_string(arg.as_str())).collect::<Result<_, _>>()?;
    let (sender, exit) = oneshot::channel();
    let key = {
        let mut state = pod.state();
        state.last_key += 1;
        let key = state.last_key;
        state.execs.insert(key, sender);
        key
    };
    let mut credentials = Credentials { args, ..template.credentials };
    if spec.tty && !credentials.env.iter().any(|variable| variable.to_bytes().starts_with(b"TERM=")) {
        credentials.env.push(c"TERM=xterm".to_owned());
    }
    let plan = Exec { key, credentials, descriptors: !spec.tty, terminal: spec.tty, ..template };
    let descriptors = streams.each_ref().map(AsFd::as_fd);
    match link.call(plan, if spec.tty { &[] } else { &descriptors }).await {
        Ok(answer) if spec.tty && answer.descriptor.is_none() => {
            // Killed before it had one, or by a pod process that is older than terminals: its exit is nobody's.
            Err(EngineError::Failed("the pod process sent no terminal".to_owned()))
        }
        Ok(answer) => Ok(Running { terminal: answer.descriptor, exit, pid: answer.done.pid }),
        Err(error) => {
            pod.state().execs.remove(&key);
            Err(not_run(error, &spec.args))
        }
    }
}

/// What is not given is empty and swallows everything.
fn given(stream: Option<OwnedFd>) -> Result<OwnedFd, EngineError> {
    let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    stream.map_or_else(null, Ok).map_err(|error| EngineError::Failed(format!("/dev/null: {error}")))
}

pub(super) async fn attach(node: &Arc<Node>, id: &ContainerId, stdin: bool) -> Result<Attached, EngineError> {
    let pod = node.pod(&id.pod)?;
    let key = running(&pod, id)?.ok_or_else(|| EngineError::Gone(format!("container {} does not run", id.name)))?;
    let ((stdout, out), (stderr, err)) = (copy_pipe()?, copy_pipe()?);
    let answer = pod.link()?.call(Attach { key, stdin }, &[out.as_fd(), err.as_fd()]).await.map_err(refused)?;
    let terminal = answer.done.terminal;
    Ok(Attached { input: answer.descriptor, terminal, stdout: Some(stdout), stderr: (!terminal).then_some(stderr) })
}

/// A pipe for a copy of output: reading and writing end. The larger it is, the longer a reader may be away.
fn copy_pipe() -> Result<(OwnedFd, OwnedFd), EngineError> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| EngineError::Failed(format!("a pipe for a copy of output: {error}")))?;
    if let Err(error) = fcntl_setpipe_size(&writer, COPY_BYTES) {
        tracing::debug!(%error, "a pipe keeps its first size");
    }
    Ok((reader, writer))
}
