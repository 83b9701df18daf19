//! The holder: keeps the listening sockets of a node, and runs the edge that serves them. An edge that dies is started again
//! while new connections wait in the sockets' queues; a new version takes over while the old one finishes. Control comes and
//! goes; the newest connection wins. What is kept has a name and means nothing here.

use std::io;
use std::os::fd::OwnedFd;

use corten_podspec::{
    Done, Drain, EdgeOrder, End, Failed, Held, HolderEvent, HolderRequest, Keep, Lend, MESSAGE_BYTES_MAX, Run, Serve,
    Step, VERSION, id_of,
};

use crate::child::{Failing, join_cgroups, live_with_parent};
use crate::credentials::prepare;
use crate::sys::{self, Epoll, Forked};

const LISTENER: u64 = u64::MAX;
const CONNECTION: u64 = u64::MAX - 1;
const SIGNALS: u64 = u64::MAX - 2;

const MS: u64 = 1_000_000;

/// Things that are kept.
const KEPT_MAX: usize = 256;

/// Edges at a time: one that serves and those that are drained.
const EDGES_MAX: usize = 8;

/// An edge that has served for so long is started again at once; otherwise the wait doubles from the least to the most.
const STEADY_NS: u64 = 500 * MS;
const WAIT_NS_MIN: u64 = 20 * MS;
const WAIT_NS_MAX: u64 = 5_000 * MS;

pub(crate) struct Holder {
    epoll: Epoll,
    listener: OwnedFd,
    signals: OwnedFd,
    control: Option<OwnedFd>,
    was_connected: bool,
    kept: Vec<Kept>,
    run: Option<Running>,
    /// The newest one is last.
    edges: Vec<Edge>,
    starts: u64,
    wait_ns: u64,
    start_at_ns: Option<u64>,
    failed: Option<Failed>,
    is_ending: bool,
}

struct Kept {
    name: String,
    bytes: Box<[u8]>,
    descriptor: Option<OwnedFd>,
}

/// What an edge is started from.
struct Running {
    plan: Run,
    program: OwnedFd,
    output: OwnedFd,
    errors: OwnedFd,
}

struct Edge {
    pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    report: OwnedFd,
    /// Since when it serves.
    ready_ns: Option<u64>,
    kill_at_ns: Option<u64>,
}

/// An answer, and the descriptor that comes with it.
type Outcome = Result<(HolderEvent, Option<OwnedFd>), Failed>;

impl Holder {
    pub(crate) fn new(listener: OwnedFd, signals: OwnedFd) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        epoll.add(&listener, LISTENER)?;
        epoll.add(&signals, SIGNALS)?;
        Ok(Self {
            epoll,
            listener,
            signals,
            control: None,
            was_connected: false,
            kept: Vec::new(),
            run: None,
            edges: Vec::new(),
            starts: 0,
            wait_ns: 0,
            start_at_ns: None,
            failed: None,
            is_ending: false,
        })
    }

    /// Until it is told to end, or its only connection closes before there was an edge to run.
    pub(crate) fn serve(mut self) -> io::Result<()> {
        loop {
            for token in self.epoll.wait(self.timeout_ms())? {
                match token {
                    LISTENER => self.accept()?,
                    SIGNALS => self.reap()?,
                    CONNECTION => self.receive(),
                    pid => self.heard(pid),
                }
            }
            self.look_at_clock();
            let was_left = self.was_connected && self.run.is_none() && self.control.is_none();
            if self.edges.is_empty() && (self.is_ending || was_left) {
                return Ok(());
            }
        }
    }

    fn timeout_ms(&self) -> i32 {
        let kills = self.edges.iter().filter_map(|edge| edge.kill_at_ns);
        let Some(next) = kills.chain(self.start_at_ns).min() else { return -1 };
        i32::try_from(next.saturating_sub(now()).div_ceil(MS)).unwrap_or(i32::MAX)
    }

    fn look_at_clock(&mut self) {
        let now = now();
        for edge in self.edges.iter_mut().filter(|edge| edge.kill_at_ns.is_some_and(|at| at <= now)) {
            edge.kill_at_ns = None;
            kill(edge);
        }
        if self.start_at_ns.is_some_and(|at| at <= now) {
            self.start_at_ns = None;
            self.start();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let socket = sys::accept(&self.listener)?;
        if sys::peer_uid(&socket)? == sys::own_uid() {
            self.epoll.add(&socket, CONNECTION)?;
            self.control = Some(socket);
            self.was_connected = true;
        }
        Ok(())
    }

    fn receive(&mut self) {
        let Some(socket) = &self.control else { return };
        let mut buffer = vec![0; MESSAGE_BYTES_MAX + 1];
        let (length, descriptors) = match sys::receive(socket, &mut buffer) {
            Ok(Some(received)) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Ok(None) | Err(_) => return self.control = None,
        };
        match HolderRequest::decode(&buffer[..length]) {
            Ok((id, request)) => {
                let (event, descriptor) =
                    self.handle(request, descriptors).unwrap_or_else(|failed| (failed.into(), None));
                self.answer(id, &event, descriptor.as_ref());
            }
            Err(error) => match id_of(&buffer[..length]) {
                Some(id) => {
                    let failed = Failed { step: Step::Decode, errno: libc::EBADMSG, about: error.to_string() };
                    self.answer(id, &failed.into(), None);
                }
                None => self.control = None,
            },
        }
    }

    fn answer(&mut self, id: u32, event: &HolderEvent, descriptor: Option<&OwnedFd>) {
        let Some(socket) = &self.control else { return };
        let sent = event.encode(id).is_ok_and(|bytes| sys::send(socket, &bytes, descriptor).is_ok());
        if !sent {
            self.control = None;
        }
    }

    fn handle(&mut self, request: HolderRequest, mut descriptors: Vec<OwnedFd>) -> Outcome {
        match request {
            HolderRequest::Hello(_) => return Ok((self.held(), None)),
            HolderRequest::Lend(lend) => return Ok((Done::default().into(), Some(self.lend(&lend)?))),
            HolderRequest::Keep(Keep { name, bytes }) => {
                self.keep(Kept { name, bytes, descriptor: descriptors.pop() })?
            }
            HolderRequest::Forget(forget) => {
                self.kept.retain(|kept| kept.name != forget.name);
                self.tell_all(&forget.into(), None);
            }
            HolderRequest::Run(plan) => self.run(plan, descriptors)?,
            HolderRequest::End(End { drain_ms }) => {
                (self.is_ending, self.start_at_ns) = (true, None);
                self.edges.iter_mut().for_each(|edge| drain(edge, drain_ms));
            }
        }
        Ok((Done::default().into(), None))
    }

    fn lend(&self, lend: &Lend) -> Result<OwnedFd, Failed> {
        let kept = self.kept.iter().find(|kept| kept.name == lend.name).and_then(|kept| kept.descriptor.as_ref());
        let kept = kept.ok_or_else(|| state(libc::ENOENT, "no such descriptor is kept"))?;
        kept.try_clone().failing(Step::State, || lend.name.clone())
    }

    fn held(&self) -> HolderEvent {
        let names = self.kept.iter().map(|kept| kept.name.clone()).collect();
        let newest = self.edges.last();
        let pid = newest.map_or(0, |edge| edge.pid.unsigned_abs());
        let ready = newest.is_some_and(|edge| edge.ready_ns.is_some());
        Held { version: VERSION, names, pid, starts: self.starts, ready, failed: self.failed.clone() }.into()
    }

    fn keep(&mut self, kept: Kept) -> Result<(), Failed> {
        let known = self.kept.iter().position(|known| known.name == kept.name);
        if known.is_none() && self.kept.len() >= KEPT_MAX {
            return Err(state(libc::ENOSPC, "too many things are kept"));
        }
        let order = Keep { name: kept.name.clone(), bytes: kept.bytes.clone() };
        self.tell_all(&order.into(), kept.descriptor.as_ref());
        match known {
            Some(at) => self.kept[at] = kept,
            None => self.kept.push(kept),
        }
        Ok(())
    }

    fn tell_all(&mut self, order: &EdgeOrder, descriptor: Option<&OwnedFd>) {
        self.edges.iter().for_each(|edge| tell(edge, order, descriptor));
    }

    fn run(&mut self, plan: Run, descriptors: Vec<OwnedFd>) -> Result<(), Failed> {
        let Ok([program, output, errors]) = <[OwnedFd; 3]>::try_from(descriptors) else {
            return Err(state(libc::EINVAL, "three descriptors must come with it"));
        };
        if self.edges.len() >= EDGES_MAX || self.is_ending {
            return Err(state(libc::EAGAIN, "too many edges are still ending"));
        }
        self.run = Some(Running { plan, program, output, errors });
        (self.wait_ns, self.start_at_ns) = (0, None);
        self.start();
        Ok(())
    }

    fn start(&mut self) {
        let Some(running) = &self.run else { return };
        self.starts += 1;
        match running.start(&self.epoll) {
            Ok(edge) => {
                for kept in &self.kept {
                    let order = Keep { name: kept.name.clone(), bytes: kept.bytes.clone() };
                    tell(&edge, &order.into(), kept.descriptor.as_ref());
                }
                tell(&edge, &Serve { version: VERSION }.into(), None);
                self.edges.push(edge);
            }
            Err(failed) => {
                self.failed = Some(failed);
                self.start_later(0);
            }
        }
    }

    fn start_later(&mut self, served_ns: u64) {
        if self.is_ending {
            return;
        }
        self.wait_ns = if served_ns >= STEADY_NS { 0 } else { (self.wait_ns * 2).clamp(WAIT_NS_MIN, WAIT_NS_MAX) };
        self.start_at_ns = Some(now() + self.wait_ns);
    }

    /// An edge says that it serves: those before it are done.
    fn heard(&mut self, pid: u64) {
        let Some(at) = self.edges.iter().position(|edge| u64::from(edge.pid.unsigned_abs()) == pid) else { return };
        let mut buffer = [0; 256];
        let said = sys::receive(&self.edges[at].socket, &mut buffer);
        if !matches!(said, Ok(Some(_))) || self.edges[at].ready_ns.is_some() {
            return;
        }
        self.edges[at].ready_ns = Some(now());
        let drain_ms = self.run.as_ref().map_or(0, |running| running.plan.drain_ms);
        self.edges[..at].iter_mut().for_each(|edge| drain(edge, drain_ms));
    }

    fn reap(&mut self) -> io::Result<()> {
        let mut drained = [0; 128];
        while sys::is_readable(&self.signals) {
            sys::read(&self.signals, &mut drained)?;
        }
        while let Some((pid, _)) = sys::reap() {
            let Some(at) = self.edges.iter().position(|edge| edge.pid == pid) else { continue };
            let was_newest = at + 1 == self.edges.len();
            let edge = self.edges.remove(at);
            if let Some(failed) = edge.failure() {
                self.failed = Some(failed);
            }
            // One that was being drained for another is not missed; without another, any end is one too early.
            if was_newest {
                self.start_later(edge.ready_ns.map_or(0, |since| now().saturating_sub(since)));
            }
        }
        Ok(())
    }
}

impl Running {
    fn start(&self, epoll: &Epoll) -> Result<Edge, Failed> {
        let (socket, theirs) = sys::message_pair().failing(Step::Clone, || "socket".to_owned())?;
        let (report, writer) = sys::pipe().failing(Step::Clone, || "pipe".to_owned())?;
        sys::set_nonblocking(&report).failing(Step::Clone, || "pipe".to_owned())?;
        match sys::fork(0, None).failing(Step::Clone, String::new)? {
            Forked::Child => {
                drop((socket, report));
                self.become_edge(&theirs, &writer)
            }
            Forked::Parent { pid, pidfd } => {
                epoll.add(&socket, u64::from(pid.unsigned_abs())).failing(Step::Clone, || "watch".to_owned())?;
                Ok(Edge { pid, pidfd, socket, report, ready_ns: None, kill_at_ns: None })
            }
        }
    }

    fn become_edge(&self, socket: &OwnedFd, report: &OwnedFd) -> ! {
        let failed = match self.prepare(socket, report) {
            Ok(()) => {
                let plan = &self.plan.credentials;
                let error = sys::execute_open(&self.program, &plan.args, &plan.env);
                Failed { step: Step::Exec, errno: sys::errno(&error), about: "the edge".to_owned() }
            }
            Err(failed) => failed,
        };
        let told = HolderEvent::from(failed).encode(0).map(|bytes| sys::write(report, &bytes));
        sys::exit_now(if matches!(told, Ok(Ok(_))) { 127 } else { 126 })
    }

    fn prepare(&self, socket: &OwnedFd, report: &OwnedFd) -> Result<(), Failed> {
        sys::close_all_but(&[socket, report, &self.program, &self.output, &self.errors])
            .failing(Step::Clone, || "descriptors".to_owned())?;
        live_with_parent(report)?;
        join_cgroups(&self.plan.cgroup_joins)?;
        sys::new_session().failing(Step::Output, || "session".to_owned())?;
        for (fd, to) in [socket, &self.output, &self.errors].into_iter().zip(0..) {
            sys::duplicate_to(fd, to).failing(Step::Output, || to.to_string())?;
        }
        prepare(&self.plan.credentials, report)
    }
}

impl Edge {
    /// What the child said before it became an edge, if that went wrong.
    fn failure(&self) -> Option<Failed> {
        let mut buffer = [0; 4096];
        let length = sys::read(&self.report, &mut buffer).ok().filter(|length| *length > 0)?;
        match HolderEvent::decode(&buffer[..length]) {
            Ok((_, HolderEvent::Failed(failed))) => Some(failed),
            _ => None,
        }
    }
}

fn drain(edge: &mut Edge, drain_ms: u64) {
    if edge.kill_at_ns.is_none() {
        tell(edge, &Drain { drain_ms }.into(), None);
        edge.kill_at_ns = Some(now().saturating_add(drain_ms.saturating_mul(MS)));
    }
}

/// An edge that does not listen to its holder is of no use, and is started again.
fn tell(edge: &Edge, order: &EdgeOrder, descriptor: Option<&OwnedFd>) {
    let sent = order.encode(0).is_ok_and(|bytes| sys::send(&edge.socket, &bytes, descriptor).is_ok());
    if !sent {
        kill(edge);
    }
}

/// Fails only when it has ended already.
fn kill(edge: &Edge) {
    drop(sys::send_signal(&edge.pidfd, libc::SIGKILL));
}

fn now() -> u64 {
    sys::nanoseconds(libc::CLOCK_MONOTONIC)
}

fn state(errno: i32, about: &str) -> Failed {
    Failed { step: Step::State, errno, about: about.to_owned() }
}
