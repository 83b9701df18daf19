//! One container or exec: its descriptors, its log, and how it ended.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use corten_podspec::{Done, Event, Exited, Output, ProcessState, Start};

use crate::child::Stdio;
use crate::control::Ticket;
use crate::log::{Flow, Log, Pump};
use crate::sys::{self, Epoll};

/// What of a process a ready descriptor belongs to; with its key it makes the token.
pub(crate) const REPORT: u64 = 0;
pub(crate) const STDOUT: u64 = 1;
pub(crate) const STDERR: u64 = 2;

/// Keys are below this, so that a token holds a key and a part.
pub(crate) const KEYS_END: u64 = 1 << 60;

pub(crate) fn token(key: u64, part: u64) -> u64 {
    key << 2 | part
}

pub(crate) struct Process {
    key: u64,
    pid: i32,
    pub(crate) pidfd: OwnedFd,
    started_ns: u64,
    /// Until the program runs: the reading end of the child's report, and the request to answer.
    starting: Option<(OwnedFd, Ticket)>,
    /// The child has reported why it cannot become the program, and is about to end.
    pub(crate) failure: Option<(Ticket, Event)>,
    pumps: [Option<Pump>; 2],
    log: Option<Log>,
    input: Input,
    terminal: Terminal,
    pub(crate) exited: Option<Exited>,
    /// When it is killed, on the monotonic clock.
    pub(crate) kill_at_ns: Option<u64>,
}

/// The writing end of standard input.
enum Input {
    None,
    Kept(OwnedFd),
    /// Goes to the first that asks for it, so that input ends when that one closes it, or dies.
    Once(OwnedFd),
}

/// The end of a terminal that is not the program's.
enum Terminal {
    None,
    /// It comes out of this socket when the program runs, and is kept.
    Kept(OwnedFd),
    /// It comes out of this socket when the program runs, and goes to control with the answer.
    Handed(OwnedFd),
}

/// Descriptors of both sides, made before the fork.
pub(crate) struct Plumbing {
    pub(crate) stdio: Stdio,
    pumps: [Option<Pump>; 2],
    log: Option<Log>,
    input: Input,
    terminal: Terminal,
}

/// A container's streams for whoever attached.
pub(crate) struct Joined {
    pub(crate) input: Option<OwnedFd>,
    pub(crate) terminal: bool,
}

impl Plumbing {
    /// A container's.
    pub(crate) fn of(plan: &Start) -> io::Result<Self> {
        if plan.terminal {
            // Without a log it must be read all the same, or the program would wait for room.
            let path = if plan.output.log_path.is_empty() { c"/dev/null" } else { &plan.output.log_path };
            let log = Log::open(path.to_owned())?;
            let (ours, child) = sys::socket_pair()?;
            return Ok(Self { log: Some(log), ..Self::of_terminal(Terminal::Kept(ours), child) });
        }
        let mut plumbing = Self::new(&plan.output)?;
        if let (true, Stdio::Descriptors([input, ..])) = (plan.stdin, &mut plumbing.stdio) {
            let (reader, writer) = sys::pipe()?;
            *input = reader;
            plumbing.input = if plan.stdin_once { Input::Once(writer) } else { Input::Kept(writer) };
        }
        Ok(plumbing)
    }

    /// No input; output into a log, if there is one.
    pub(crate) fn new(output: &Output) -> io::Result<Self> {
        let null = || sys::open(c"/dev/null", libc::O_RDWR);
        if output.log_path.is_empty() {
            return Ok(Self::handed([null()?, null()?, null()?]));
        }
        let log = Log::open(output.log_path.clone())?;
        let (out, out_child) = sys::pipe()?;
        let (err, err_child) = sys::pipe()?;
        sys::set_nonblocking(&out)?;
        sys::set_nonblocking(&err)?;
        let pumps = [Some(Pump::new(out, "stdout")), Some(Pump::new(err, "stderr"))];
        Ok(Self { pumps, log: Some(log), ..Self::handed([null()?, out_child, err_child]) })
    }

    /// Descriptors that control has sent take the place of the log.
    pub(crate) const fn handed(descriptors: [OwnedFd; 3]) -> Self {
        let stdio = Stdio::Descriptors(descriptors);
        Self { stdio, pumps: [None, None], log: None, input: Input::None, terminal: Terminal::None }
    }

    /// A terminal whose other end control gets.
    pub(crate) fn handed_terminal() -> io::Result<Self> {
        let (ours, child) = sys::socket_pair()?;
        Ok(Self::of_terminal(Terminal::Handed(ours), child))
    }

    const fn of_terminal(terminal: Terminal, child: OwnedFd) -> Self {
        Self { stdio: Stdio::Terminal(child), pumps: [None, None], log: None, input: Input::None, terminal }
    }
}

impl Process {
    /// Keeps the parent's side of a fork. The child's ends are closed by dropping them here.
    pub(crate) fn started(
        key: u64,
        (pid, pidfd): (i32, OwnedFd),
        report: (OwnedFd, Ticket),
        plumbing: Plumbing,
    ) -> Self {
        let Plumbing { stdio, pumps, log, input, terminal } = plumbing;
        drop(stdio);
        let started_ns = sys::nanoseconds(libc::CLOCK_REALTIME);
        Self {
            key,
            pid,
            pidfd,
            started_ns,
            starting: Some(report),
            failure: None,
            pumps,
            log,
            input,
            terminal,
            exited: None,
            kill_at_ns: None,
        }
    }

    pub(crate) fn watch(&self, epoll: &Epoll) -> io::Result<()> {
        if let Some((report, _)) = &self.starting {
            epoll.add(report, token(self.key, REPORT))?;
        }
        for (pump, part) in self.pumps.iter().zip([STDOUT, STDERR]) {
            if let Some(pump) = pump {
                epoll.add(&pump.pipe, token(self.key, part))?;
            }
        }
        Ok(())
    }

    pub(crate) const fn is(&self, pid: i32) -> bool {
        self.pid == pid && self.exited.is_none()
    }

    pub(crate) fn state(&self) -> ProcessState {
        let pid = if self.exited.is_some() { 0 } else { self.pid.unsigned_abs() };
        ProcessState { key: self.key, pid, started_ns: self.started_ns, exited: self.exited.clone() }
    }

    /// The child has closed its report. Nothing in it means that the program runs: that is the answer to the request. What
    /// failed is kept, and told when the child has ended, so that nothing of it is there any more.
    pub(crate) fn read_report(&mut self, epoll: &Epoll) -> Option<(Ticket, Event, Option<OwnedFd>)> {
        let (report, ticket) = self.starting.take()?;
        let mut bytes = vec![0; 4096 + 256];
        let length = sys::read(&report, &mut bytes).unwrap_or(0);
        if length == 0 {
            let terminal = self.take_terminal(epoll);
            let (pid, started_ns) = (self.pid.unsigned_abs(), self.started_ns);
            let done = Done { pid, started_ns, descriptor: terminal.is_some(), ..Done::default() };
            return Some((ticket, done.into(), terminal));
        }
        let failed = Event::decode(&bytes[..length]).map(|(_, event)| event);
        self.failure = Some((ticket, failed.unwrap_or_else(|error| unreadable(&error.to_string()))));
        None
    }

    /// The terminal that the child has made, if it is control's; otherwise its output goes into the log from now on. None has
    /// come if the child was killed before it made one.
    fn take_terminal(&mut self, epoll: &Epoll) -> Option<OwnedFd> {
        let (Terminal::Kept(socket) | Terminal::Handed(socket)) = &self.terminal else { return None };
        let (_, mut descriptors) = sys::receive(socket, &mut [0; 8]).ok().flatten()?;
        let master = descriptors.pop()?;
        if matches!(self.terminal, Terminal::Handed(_)) {
            return Some(master);
        }
        let pump = self.pumps[0].insert(Pump::new(master, "stdout"));
        epoll.add(&pump.pipe, token(self.key, STDOUT)).is_err().then(|| self.pumps[0] = None);
        None
    }

    /// Lets somebody see what comes out from now on, and write what goes in.
    pub(crate) fn attach(&mut self, copies: [OwnedFd; 2], stdin: bool) -> io::Result<Joined> {
        for (pump, copy) in self.pumps.iter_mut().zip(copies) {
            if let Some(pump) = pump {
                pump.copy_to(copy)?;
            }
        }
        let terminal = matches!(self.terminal, Terminal::Kept(_));
        let input = match (&self.input, &self.pumps) {
            _ if !stdin => None,
            (_, [Some(pump), _]) if terminal => Some(sys::duplicate(&pump.pipe)?),
            (Input::Kept(writer), _) => Some(sys::duplicate(writer)?),
            (Input::Once(_), _) => match mem::replace(&mut self.input, Input::None) {
                Input::Once(writer) => Some(writer),
                Input::Kept(_) | Input::None => None,
            },
            (Input::None, _) => None,
        };
        Ok(Joined { input, terminal })
    }

    pub(crate) fn pump(&mut self, part: u64) {
        let index = if part == STDOUT { 0 } else { 1 };
        let (Some(pump), Some(log)) = (&mut self.pumps[index], &mut self.log) else { return };
        if pump.turn(log) == Flow::Ended {
            self.pumps[index] = None;
        }
    }

    /// Takes what was written before the end, and remembers the end.
    pub(crate) fn end(&mut self, status: i32) -> Exited {
        if let Some(log) = &mut self.log {
            self.pumps.iter_mut().flatten().for_each(|pump| pump.drain(log));
        }
        self.input = Input::None;
        let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
        let code = if signal == 0 { libc::WEXITSTATUS(status) } else { 128 + signal };
        let finished_ns = sys::nanoseconds(libc::CLOCK_REALTIME);
        let log_bytes_dropped = self.log.as_ref().map_or(0, |log| log.dropped);
        let exited = Exited { key: self.key, code, signal, finished_ns, log_bytes_dropped };
        self.kill_at_ns = None;
        self.exited.insert(exited).clone()
    }

    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        self.log.as_mut().map_or(Ok(()), Log::reopen)
    }
}

fn unreadable(about: &str) -> Event {
    let about = about.to_owned();
    corten_podspec::Failed { step: corten_podspec::Step::Decode, errno: libc::EBADMSG, about }.into()
}

/// An open group to be born in.
pub(crate) fn cgroup(path: &CStr) -> io::Result<Option<OwnedFd>> {
    if path.is_empty() {
        return Ok(None);
    }
    sys::open(path, libc::O_PATH | libc::O_DIRECTORY).map(Some)
}
