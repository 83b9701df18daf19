//! A terminal of our own, as somebody sits at one: a program runs in it, lines are typed, the window's size changes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use corten_stdx::clock::Stopwatch;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::process::{Ended, wait};
use crate::spine::node::LIMIT;

/// A line that has no answer yet is typed again: who types before the other side listens is not heard.
const TYPED_AGAIN_AFTER: Duration = Duration::from_secs(2);

pub(super) struct Terminal {
    /// What the screen shows and the keyboard sends.
    master: File,
    process: Ended,
    shown: Receiver<Vec<u8>>,
    /// What was shown and not asked for yet.
    rest: String,
}

impl Terminal {
    /// Starts a program in a window of so many rows and columns. The terminal is the one that controls it, so that it is told of
    /// a new size.
    pub(super) fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("openpt")?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let slave = File::options().read(true).write(true).open(&name).with_context(|| name.clone())?;
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "--"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            inside.env(variable, value.context("nothing is taken out of the environment")?);
        }
        let master = File::from(master);
        let (sender, shown) = sync_channel(1024);
        let mut screen = master.try_clone()?;
        inside.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let mut terminal = Self {
            process: Ended::new(inside.spawn().context("setsid (util-linux)")?),
            master,
            shown,
            rest: String::new(),
        };
        // What it was started with holds the other end open.
        drop(inside);
        terminal.resize(rows, columns)?;
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The kernel says EIO when nobody has the other end any more.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Ok(terminal)
    }

    /// The window gets another size.
    pub(super) fn resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).context("the window's size")
    }

    pub(super) fn types(&mut self, keys: &str) -> Result<()> {
        self.master.write_all(keys.as_bytes()).context("a terminal is typed into")
    }

    /// Types a line until the screen shows its answer. What is typed is shown too, so the answer is to differ from it.
    pub(super) fn answers(&mut self, line: &str, answer: &str) -> Result<()> {
        ensure!(!line.contains(answer), "{answer:?} is typed already");
        let mut typed: Option<Stopwatch> = None;
        let found = wait(LIMIT, || {
            if typed.as_ref().is_none_or(|typed| typed.elapsed() > TYPED_AGAIN_AFTER) {
                self.types(&format!("{line}\n"))?;
                typed = Some(Stopwatch::start());
            }
            Ok(self.shows(answer).then_some(()))
        });
        found.with_context(|| format!("{line:?} is not answered with {answer:?}; the screen shows {:?}", self.rest))
    }

    /// Whether the screen shows this by now; what stands before it is forgotten.
    fn shows(&mut self, words: &str) -> bool {
        for bytes in self.shown.try_iter() {
            self.rest.push_str(&String::from_utf8_lossy(&bytes));
        }
        let Some(at) = self.rest.find(words) else { return false };
        self.rest.drain(..at + words.len());
        true
    }

    /// Waits for the end of the program; what the screen shows last.
    pub(super) fn ends(mut self) -> Result<(ExitStatus, String)> {
        let status = wait(LIMIT, || self.process.status());
        // Comes to an end when the program's end of the terminal is closed.
        for bytes in &self.shown {
            self.rest.push_str(&String::from_utf8_lossy(&bytes));
        }
        Ok((status.with_context(|| format!("it goes on; the screen shows {:?}", self.rest))?, self.rest))
    }
}
