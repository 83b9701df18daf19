//! What a forked child does before it becomes the container's program. It reports what fails through a pipe that closes by
//! itself when the program starts.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use corten_podspec::{Credentials, Event, Exec, Failed, Start, Step};

use crate::credentials::{become_program, text};
use crate::{rootfs, sys};

/// Turns a failed call into the report of a step.
pub(crate) trait Failing<T> {
    fn failing(self, step: Step, about: impl FnOnce() -> String) -> Result<T, Failed>;
}

impl<T> Failing<T> for io::Result<T> {
    fn failing(self, step: Step, about: impl FnOnce() -> String) -> Result<T, Failed> {
        self.map_err(|error| Failed { step, errno: sys::errno(&error), about: about() })
    }
}

/// Where the container's terminals are made.
const PTMX: &CStr = c"/dev/pts/ptmx";

/// Standard input, output and error of a child.
pub(crate) enum Stdio {
    Descriptors([OwnedFd; 3]),
    /// A terminal that the child makes, as only it sees the container's /dev/pts; its other end goes into this socket.
    Terminal(OwnedFd),
}

impl Stdio {
    fn descriptors(&self) -> &[OwnedFd] {
        match self {
            Self::Descriptors(descriptors) => descriptors,
            Self::Terminal(socket) => std::slice::from_ref(socket),
        }
    }
}

/// The child of a container's start.
pub(crate) fn run_start(plan: &Start, template: &OwnedFd, report: &OwnedFd, stdio: &Stdio) -> ! {
    let prepared = let_go(&[report, template], stdio)
        .and_then(|()| live_with_parent(report))
        .and_then(|()| join_cgroups(&plan.cgroup_joins))
        .and_then(|()| sys::unshare(libc::CLONE_NEWCGROUP).failing(Step::Cgroup, || "namespace".to_owned()))
        .and_then(|()| adjust_oom_score(&plan.credentials))
        .and_then(|()| rootfs::enter(plan, template));
    finish(prepared, &plan.credentials, report, stdio)
}

/// The child of an exec, in the container's process namespace already.
pub(crate) fn run_exec(plan: &Exec, container: &OwnedFd, report: &OwnedFd, stdio: &Stdio) -> ! {
    let prepared = let_go(&[report, container], stdio)
        .and_then(|()| live_with_parent(report))
        .and_then(|()| join_cgroups(&plan.cgroup_joins))
        .and_then(|()| adjust_oom_score(&plan.credentials))
        .and_then(|()| {
            let flags = libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
            sys::join_namespaces(container, flags).failing(Step::Join, String::new)
        });
    finish(prepared, &plan.credentials, report, stdio)
}

fn finish(prepared: Result<(), Failed>, credentials: &Credentials, report: &OwnedFd, stdio: &Stdio) -> ! {
    let ready = prepared.and_then(|()| {
        sys::new_session().failing(Step::Output, || "session".to_owned())?;
        match stdio {
            Stdio::Descriptors([input, output, error]) => {
                give_pipes([input, output, error], credentials.uid)?;
                use_streams([input, output, error])
            }
            Stdio::Terminal(socket) => use_terminal(socket, credentials.uid),
        }
    });
    let failed = match ready {
        Ok(()) => become_program(credentials, report),
        Err(failed) => failed,
    };
    let told = Event::from(failed).encode(0).map(|bytes| sys::write(report, &bytes));
    sys::exit_now(if matches!(told, Ok(Ok(_))) { 127 } else { 126 })
}

/// Whoever the program is may open its streams by name (`/dev/stdout`, `/proc/1/fd/1`), as with other runtimes. What is no
/// pipe is somebody else's: `/dev/null` is the whole machine's.
fn give_pipes(streams: [&OwnedFd; 3], uid: u32) -> Result<(), Failed> {
    for fd in streams.into_iter().filter(|_| uid != 0) {
        if sys::is_pipe(fd).failing(Step::Output, || "stream".to_owned())? {
            sys::give_to(fd, uid).failing(Step::Output, || "owner".to_owned())?;
        }
    }
    Ok(())
}

fn use_streams(streams: [&OwnedFd; 3]) -> Result<(), Failed> {
    for (fd, to) in streams.into_iter().zip(0..) {
        sys::duplicate_to(fd, to).failing(Step::Output, || to.to_string())?;
    }
    Ok(())
}

/// Makes a terminal, hands its other end over, and lives with it. It belongs to the user, who may open it by name.
fn use_terminal(socket: &OwnedFd, uid: u32) -> Result<(), Failed> {
    let about = || text(PTMX);
    let (master, slave) = sys::open_terminal(PTMX).failing(Step::Terminal, about)?;
    sys::give_to(&slave, uid).failing(Step::Terminal, about)?;
    sys::control_by(&slave).failing(Step::Terminal, about)?;
    sys::send(socket, b"t", Some(&master)).failing(Step::Terminal, about)?;
    use_streams([&slave, &slave, &slave])
}

/// Gives up what belongs to the pod process and to other children: an end of another child's report in our hands would hide
/// the pod process' death from it.
fn let_go(keep: &[&OwnedFd], stdio: &Stdio) -> Result<(), Failed> {
    let keep: Vec<&OwnedFd> = keep.iter().copied().chain(stdio.descriptors()).collect();
    sys::close_all_but(&keep).failing(Step::Clone, || "descriptors".to_owned())
}

/// Dies with the pod process from here on, and now if that is dead already.
pub(crate) fn live_with_parent(report: &OwnedFd) -> Result<(), Failed> {
    sys::die_with_parent().failing(Step::ParentDeath, String::new)?;
    if sys::reader_is_gone(report).failing(Step::ParentDeath, String::new)? {
        sys::exit_now(125);
    }
    Ok(())
}

/// Joins groups by their `cgroup.procs` (or `tasks`) files. 0 stands for the writer, so no number has to fit a namespace.
pub(crate) fn join_cgroups(files: &[CString]) -> Result<(), Failed> {
    files.iter().try_for_each(|path| write_file(path, b"0").failing(Step::Cgroup, || text(path)))
}

/// The kernel refuses a lower score without CAP_SYS_RESOURCE; then the inherited one stays.
fn adjust_oom_score(credentials: &Credentials) -> Result<(), Failed> {
    let Some(score) = credentials.oom_score_adj else { return Ok(()) };
    set_oom_score(score).failing(Step::Limits, || "oom_score_adj".to_owned())
}

pub(crate) fn set_oom_score(score: i32) -> io::Result<()> {
    match write_file(c"/proc/self/oom_score_adj", score.to_string().as_bytes()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => Ok(()),
        other => other,
    }
}

pub(crate) fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> io::Result<()> {
    let file = sys::open(path, libc::O_WRONLY | libc::O_TRUNC)?;
    sys::write(&file, bytes).map(drop)
}
