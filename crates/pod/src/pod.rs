//! The pod: one event loop over the listening socket, the connection, ended children, reports and output.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use corten_podspec::{
    Attach, Connect, Done, Event, Exec, Failed, PROCESSES_MAX, Request, Setup, Shutdown, Signal, Start, Step, Sysctl,
    VERSION, Welcome,
};

use crate::child::{Failing, join_cgroups, run_exec, run_start, set_oom_score, write_file};
use crate::control::{Control, Received, Ticket};
use crate::credentials::text;
use crate::process::{KEYS_END, Plumbing, Process, REPORT, cgroup};
use crate::sys::{self, Epoll, Forked};
use crate::{init, template};

const LISTENER: u64 = u64::MAX;
const CONNECTION: u64 = u64::MAX - 1;
const SIGNALS: u64 = u64::MAX - 2;

pub(crate) struct Pod {
    epoll: Epoll,
    listener: OwnedFd,
    signals: OwnedFd,
    control: Control,
    was_connected: bool,
    set_up: Option<SetUp>,
    processes: BTreeMap<u64, Process>,
    /// The request that asked for the end.
    ending: Option<Ticket>,
}

/// What every container of the pod starts from.
struct SetUp {
    /// The mount namespace that theirs are copies of.
    template: OwnedFd,
    /// The first process of their process namespace, if they share one.
    init: Option<OwnedFd>,
}

/// What a request gives back.
type Answer = Result<(Event, Option<OwnedFd>), Failed>;

impl Pod {
    pub(crate) fn new(listener: OwnedFd, signals: OwnedFd) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&listener, LISTENER)?;
        epoll.add(&signals, SIGNALS)?;
        let (control, processes) = (Control::none(), BTreeMap::new());
        Ok(Self { epoll, listener, signals, control, was_connected: false, set_up: None, processes, ending: None })
    }

    /// Until the pod is shut down, or its only connection closes before it was set up.
    pub(crate) fn serve(mut self) -> io::Result<()> {
        loop {
            for token in self.epoll.wait(self.timeout_ms())? {
                match token {
                    LISTENER => self.accept()?,
                    SIGNALS => self.reap()?,
                    CONNECTION => self.receive(),
                    _ => self.ready(token >> 2, token & 3),
                }
            }
            self.kill_overdue();
            if self.was_connected && self.set_up.is_none() && !self.control.is_connected() {
                return Ok(());
            }
            if let Some(ticket) = self.ending.filter(|_| self.nothing_runs()) {
                self.control.answer(ticket, &Done::default().into(), None);
                return Ok(());
            }
        }
    }

    fn nothing_runs(&self) -> bool {
        self.processes.values().all(|process| process.exited.is_some())
    }

    fn timeout_ms(&self) -> i32 {
        let Some(next) = self.processes.values().filter_map(|process| process.kill_at_ns).min() else { return -1 };
        let wait = next.saturating_sub(sys::nanoseconds(libc::CLOCK_MONOTONIC)).div_ceil(1_000_000);
        i32::try_from(wait).unwrap_or(i32::MAX)
    }

    fn kill_overdue(&mut self) {
        let now = sys::nanoseconds(libc::CLOCK_MONOTONIC);
        for process in self.processes.values_mut().filter(|process| process.kill_at_ns.is_some_and(|at| at <= now)) {
            process.kill_at_ns = None;
            kill(process);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        if let Some(socket) = self.control.accept(&self.listener)? {
            self.epoll.add(socket, CONNECTION)?;
            self.was_connected = true;
        }
        Ok(())
    }

    fn receive(&mut self) {
        if let Received::Request { ticket, request, descriptors } = self.control.receive() {
            self.handle(ticket, *request, descriptors);
        }
    }

    fn handle(&mut self, ticket: Ticket, request: Request, descriptors: Vec<OwnedFd>) {
        let answer = match request {
            Request::Hello(_) => Some(Ok((self.welcome(), None))),
            Request::Setup(plan) => Some(self.setup(&plan).map(done)),
            Request::Start(plan) => self.start(ticket, &plan).err().map(Err),
            Request::Exec(plan) => self.exec(ticket, &plan, descriptors).err().map(Err),
            Request::Signal(plan) => Some(self.signal(&plan).map(done)),
            Request::Acknowledge(plan) => Some(self.acknowledge(plan.key).map(done)),
            Request::ReopenLog(plan) => Some(self.reopen_log(plan.key).map(done)),
            Request::Connect(plan) => Some(connect(&plan)),
            Request::Attach(plan) => Some(self.attach(&plan, descriptors)),
            Request::Shutdown(plan) => self.shutdown(ticket, &plan).err().map(Err),
        };
        // None is answered when the child reports, or when the last one has ended.
        if let Some(answer) = answer {
            let (event, descriptor) = answer.unwrap_or_else(|failed| (failed.into(), None));
            self.control.answer(ticket, &event, descriptor.as_ref());
        }
    }

    fn welcome(&self) -> Event {
        let processes = self.processes.values().map(Process::state).collect();
        Welcome { version: VERSION, set_up: self.set_up.is_some(), processes, pid: std::process::id() }.into()
    }

    fn setup(&mut self, plan: &Setup) -> Result<(), Failed> {
        if self.set_up.is_some() {
            return Err(state(libc::EALREADY, "the pod is set up"));
        }
        join_cgroups(&plan.cgroup_joins)?;
        if let Some(score) = plan.oom_score_adj {
            set_oom_score(score).failing(Step::Limits, || "oom_score_adj".to_owned())?;
        }
        sys::unshare(namespaces(plan)).failing(Step::Namespaces, String::new)?;
        if !plan.host_network {
            sys::loopback_up().failing(Step::Namespaces, || "lo".to_owned())?;
        }
        if !plan.host_uts {
            sys::set_hostname(&plan.hostname).failing(Step::Namespaces, || text(&plan.hostname))?;
        }
        plan.sysctls.iter().try_for_each(set_sysctl)?;
        let template = template::make(plan.shm_bytes).failing(Step::Shm, || "mount namespace".to_owned())?;
        let init = plan.share_processes.then(|| init::start(&template)).transpose();
        let init = init.failing(Step::Clone, || "first process".to_owned())?;
        self.set_up = Some(SetUp { template, init });
        Ok(())
    }

    fn start(&mut self, ticket: Ticket, plan: &Start) -> Result<(), Failed> {
        let set_up = self.may_start(plan.key)?;
        let plumbing = Plumbing::of(plan).failing(Step::Log, || text(&plan.output.log_path))?;
        let group = cgroup(&plan.cgroup2).failing(Step::Cgroup, || text(&plan.cgroup2))?;
        let (reader, writer) = sys::pipe().failing(Step::Clone, || "pipe".to_owned())?;
        let own = if plan.host_pid || set_up.init.is_some() { 0 } else { libc::CLONE_NEWPID };
        let (pid, pidfd) = fork_in(set_up.init.as_ref(), own, group.as_ref(), || {
            run_start(plan, &set_up.template, &writer, &plumbing.stdio)
        })?;
        self.keep(plan.key, (pid, pidfd), (reader, ticket), plumbing)
    }

    fn exec(&mut self, ticket: Ticket, plan: &Exec, descriptors: Vec<OwnedFd>) -> Result<(), Failed> {
        self.may_start(plan.key)?;
        let plumbing = match <[OwnedFd; 3]>::try_from(descriptors) {
            _ if plan.terminal => Plumbing::handed_terminal().failing(Step::Terminal, String::new)?,
            Ok(descriptors) => Plumbing::handed(descriptors),
            Err(_) if plan.descriptors => return Err(state(libc::EINVAL, "three descriptors must come with it")),
            Err(_) => Plumbing::new(&plan.output).failing(Step::Log, || text(&plan.output.log_path))?,
        };
        let group = cgroup(&plan.cgroup2).failing(Step::Cgroup, || text(&plan.cgroup2))?;
        let container = &self.running(plan.container)?.pidfd;
        let (reader, writer) = sys::pipe().failing(Step::Clone, || "pipe".to_owned())?;
        let (pid, pidfd) =
            fork_in(Some(container), 0, group.as_ref(), || run_exec(plan, container, &writer, &plumbing.stdio))?;
        self.keep(plan.key, (pid, pidfd), (reader, ticket), plumbing)
    }

    fn may_start(&self, key: u64) -> Result<&SetUp, Failed> {
        let in_use = self.processes.contains_key(&key);
        let Some(set_up) = &self.set_up else { return Err(state(libc::EINVAL, "the pod is not set up")) };
        match () {
            () if self.ending.is_some() => Err(state(libc::ESHUTDOWN, "the pod is ending")),
            () if key >= KEYS_END => Err(state(libc::EINVAL, "the key is too large")),
            () if in_use => Err(state(libc::EEXIST, "the key is in use")),
            () if self.processes.len() >= PROCESSES_MAX => Err(state(libc::EAGAIN, "too many processes")),
            () => Ok(set_up),
        }
    }

    fn keep(
        &mut self,
        key: u64,
        child: (i32, OwnedFd),
        report: (OwnedFd, Ticket),
        plumbing: Plumbing,
    ) -> Result<(), Failed> {
        let process = Process::started(key, child, report, plumbing);
        let watched = process.watch(&self.epoll).failing(Step::Clone, || "watch".to_owned());
        if watched.is_err() {
            kill(&process);
        }
        self.processes.insert(key, process);
        watched
    }

    fn running(&self, key: u64) -> Result<&Process, Failed> {
        let process = self.processes.get(&key).ok_or_else(|| state(libc::ESRCH, "no such key"))?;
        if process.exited.is_some() || process.failure.is_some() {
            return Err(state(libc::ESRCH, "it has ended"));
        }
        Ok(process)
    }

    fn signal(&mut self, plan: &Signal) -> Result<(), Failed> {
        let process = self.running(plan.key)?;
        sys::send_signal(&process.pidfd, plan.signal).failing(Step::Signal, || plan.signal.to_string())?;
        if plan.kill_after_ms > 0 {
            let now = sys::nanoseconds(libc::CLOCK_MONOTONIC);
            let at = now.saturating_add(plan.kill_after_ms.saturating_mul(1_000_000));
            if let Some(process) = self.processes.get_mut(&plan.key) {
                process.kill_at_ns = Some(process.kill_at_ns.map_or(at, |before| before.min(at)));
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, key: u64) -> Result<(), Failed> {
        match self.processes.get(&key) {
            None => Err(state(libc::ESRCH, "no such key")),
            Some(process) if process.exited.is_none() => Err(state(libc::EBUSY, "it runs")),
            Some(_) => {
                self.processes.remove(&key);
                Ok(())
            }
        }
    }

    fn reopen_log(&mut self, key: u64) -> Result<(), Failed> {
        let process = self.processes.get_mut(&key).ok_or_else(|| state(libc::ESRCH, "no such key"))?;
        process.reopen_log().failing(Step::Log, || key.to_string())
    }

    fn attach(&mut self, plan: &Attach, descriptors: Vec<OwnedFd>) -> Answer {
        let copies = <[OwnedFd; 2]>::try_from(descriptors);
        let copies = copies.map_err(|_| state(libc::EINVAL, "two descriptors must come with it"))?;
        self.running(plan.key)?;
        let process = self.processes.get_mut(&plan.key).ok_or_else(|| state(libc::ESRCH, "no such key"))?;
        let joined = process.attach(copies, plan.stdin).failing(Step::Output, || plan.key.to_string())?;
        let done = Done { descriptor: joined.input.is_some(), terminal: joined.terminal, ..Done::default() };
        Ok((done.into(), joined.input))
    }

    fn shutdown(&mut self, ticket: Ticket, plan: &Shutdown) -> Result<(), Failed> {
        if !plan.forget_exits && !self.processes.is_empty() {
            return Err(state(libc::EBUSY, "processes run or are not acknowledged"));
        }
        self.processes.values().filter(|process| process.exited.is_none()).for_each(kill);
        self.ending = Some(ticket);
        Ok(())
    }

    /// Children that have ended, ours and adopted ones.
    fn reap(&mut self) -> io::Result<()> {
        let mut drained = [0; 128];
        while sys::is_readable(&self.signals) {
            sys::read(&self.signals, &mut drained)?;
        }
        while let Some((pid, status)) = sys::reap() {
            let key = self.processes.iter().find(|(_, process)| process.is(pid)).map(|(key, _)| *key);
            if let Some(key) = key {
                self.ended(key, status);
            }
        }
        Ok(())
    }

    fn ended(&mut self, key: u64, status: i32) {
        self.ready(key, REPORT);
        let Some(process) = self.processes.get_mut(&key) else { return };
        // Without anybody to tell, a failed start is an exit like any other, which the next control finds.
        if process.failure.take().is_some_and(|(ticket, event)| self.control.answer(ticket, &event, None)) {
            self.processes.remove(&key);
            return;
        }
        let exited = process.end(status);
        self.control.tell(&exited.into());
    }

    fn ready(&mut self, key: u64, part: u64) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if part != REPORT {
            process.pump(part);
        } else if let Some((ticket, event, terminal)) = process.read_report(&self.epoll) {
            self.control.answer(ticket, &event, terminal.as_ref());
        }
    }
}

fn namespaces(plan: &Setup) -> i32 {
    let chosen = [
        (!plan.host_network, libc::CLONE_NEWNET),
        (!plan.host_ipc, libc::CLONE_NEWIPC),
        (!plan.host_uts, libc::CLONE_NEWUTS),
    ];
    chosen.iter().filter(|(own, _)| *own).map(|(_, flag)| flag).sum()
}

fn set_sysctl(setting: &Sysctl) -> Result<(), Failed> {
    let about = || text(&setting.path);
    let path = [b"/proc/sys/", setting.path.as_bytes()].concat();
    let path = std::ffi::CString::new(path).map_err(io::Error::from).failing(Step::Sysctl, about)?;
    write_file(&path, setting.value.as_bytes()).failing(Step::Sysctl, about)
}

/// Forks a child in the process namespace of another process, if one is given. The child never comes back.
fn fork_in(
    of: Option<&OwnedFd>,
    flags: i32,
    group: Option<&OwnedFd>,
    child: impl FnOnce(),
) -> Result<(i32, OwnedFd), Failed> {
    let join = |target: &OwnedFd| sys::join_namespaces(target, libc::CLONE_NEWPID);
    let own = sys::open(c"/proc/self/ns/pid", libc::O_RDONLY).failing(Step::Join, || "pid".to_owned())?;
    if let Some(of) = of {
        join(of).failing(Step::Join, || "pid".to_owned())?;
    }
    let forked = sys::fork(flags, group);
    if matches!(forked, Ok(Forked::Child)) {
        child();
        sys::exit_now(126);
    }
    if of.is_some() {
        join(&own).expect("a process may return to its own process namespace");
    }
    match forked.failing(Step::Clone, String::new)? {
        Forked::Parent { pid, pidfd } => Ok((pid, pidfd)),
        Forked::Child => unreachable!("the child has become another program or ended"),
    }
}

fn connect(plan: &Connect) -> Answer {
    let socket = sys::connect(&plan.address, plan.port).failing(Step::Connect, || plan.port.to_string())?;
    Ok((Done { descriptor: true, ..Done::default() }.into(), Some(socket)))
}

fn done((): ()) -> (Event, Option<OwnedFd>) {
    (Done::default().into(), None)
}

fn state(errno: i32, about: &str) -> Failed {
    Failed { step: Step::State, errno, about: about.to_owned() }
}

/// Fails only when it has ended already.
fn kill(process: &Process) {
    drop(sys::send_signal(&process.pidfd, libc::SIGKILL));
}
