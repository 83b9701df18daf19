//! Programs beside a container's own, and its streams.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use corten_podspec::{Credentials, Exec};
use tokio::sync::oneshot;

use super::container::running;
use super::{Node, blocking};
use crate::engine::{Attached, ContainerId, EngineError, Running, Streams};
use crate::plan::{c_string, not_run};
use crate::spec::ExecSpec;

/// Starts the program with the container's identity, environment and limits; its streams are handed to it as they are.
pub(super) async fn exec(
    node: &Arc<Node>,
    id: &ContainerId,
    spec: &ExecSpec,
    streams: Streams,
) -> Result<Running, EngineError> {
    if spec.tty {
        return Err(EngineError::Failed("an exec with a terminal is not supported by this runtime".to_owned()));
    }
    let pod = node.pod(&id.pod)?;
    let ended = || EngineError::Gone(format!("container {} does not run", id.name));
    running(&pod, id)?.ok_or_else(ended)?;
    let link = pod.link()?;
    let template = {
        let (node, id) = (node.clone(), id.clone());
        blocking(move || node.files.read_exec(&id)).await?
    };
    let streams = [given(streams.stdin)?, given(streams.stdout)?, given(streams.stderr)?];
    let (sender, exit) = oneshot::channel();
    let key = {
        let mut state = pod.state();
        state.last_key += 1;
        let key = state.last_key;
        state.execs.insert(key, sender);
        key
    };
    let args = spec.args.iter().map(|arg| c_string(arg.as_str())).collect::<Result<_, _>>()?;
    let credentials = Credentials { args, ..template.credentials };
    let plan = Exec { key, credentials, descriptors: true, ..template };
    let descriptors = [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()];
    match link.call(plan, &descriptors).await {
        Ok(answer) => Ok(Running { terminal: None, exit, pid: answer.done.pid }),
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
    running(&pod, id)?.ok_or_else(|| EngineError::Gone(format!("container {} does not run", id.name)))?;
    let text = if stdin { "attaching standard input" } else { "attaching" };
    Err(EngineError::Failed(format!("{text} is not supported by this runtime")))
}
