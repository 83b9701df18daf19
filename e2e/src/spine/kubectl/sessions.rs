//! exec, attach, run, cp and port-forward: with a terminal and without, by WebSocket and by SPDY.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::following::Following;
use super::terminal::Terminal;
use super::{IDLE, IMAGE, Kubectl, NAMESPACE, container, run};
use crate::spine::node::Node;

/// More than what any queue on the way holds.
const MANY_BYTES: usize = 3 << 20;

/// What a web server of the small image serves.
const PAGE: &str = "a page through a forwarded port";

/// All of them, in a pod of their own.
pub(super) fn all(node: &Node, kubectl: Kubectl) -> Result<()> {
    let pod =
        format!("{}-{}", kubectl.program.replace('.', "-"), if kubectl.web_socket { "websocket" } else { "spdy" });
    let page = format!("mkdir /tmp/www; echo {PAGE} > /tmp/www/index.html; httpd -p 8080 -h /tmp/www; {IDLE}");
    let mut terminal = container("terminal", "exec sh");
    terminal["stdin"] = json!(true);
    terminal["tty"] = json!(true);
    let mut lines = container("lines", "while read line; do echo got $line; done");
    lines["stdin"] = json!(true);
    let talks = container("talks", "while :; do echo a word; sleep 0.2; done");
    run(node, &pod, &json!({"containers": [container("shell", &page), terminal, lines, talks]}))?;
    let sessions = Sessions { node, kubectl, pod };
    sessions.pipes().context("exec without a terminal")?;
    sessions.screen().context("exec -it")?;
    sessions.attached().context("attach")?;
    sessions.copies().context("cp")?;
    sessions.started().context("run")?;
    sessions.forwarded().context("port-forward")
}

struct Sessions<'a> {
    node: &'a Node,
    kubectl: Kubectl,
    pod: String,
}

impl Sessions<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        self.kubectl.command(self.node, arguments)
    }

    /// exec in the pod's shell, which says by which protocol it went.
    fn exec(&self, options: &[&str], command: &[&str]) -> Command {
        self.command(&[&["-v=6", "exec", &self.pod, "-c", "shell"], options, &["--"], command].concat())
    }

    /// Checks that a session took its protocol at once, and no other after that.
    fn protocol(&self, path: &str, said: &str) -> Result<()> {
        let (asked, other) = if self.kubectl.web_socket { ("GET", "POST") } else { ("POST", "GET") };
        let mut sessions = said.lines().filter(|line| line.contains(path)).peekable();
        ensure!(sessions.peek().is_some(), "nothing is asked of {path}: {said}");
        for line in sessions {
            let switched = line.contains("101 Switching Protocols") || line.contains("UPGRADE");
            ensure!(
                line.contains(asked) && !line.contains(other) && switched,
                "not the protocol that was wanted: {line}"
            );
        }
        Ok(())
    }

    /// Standard streams each for itself, the exit code, and many bytes both ways.
    fn pipes(&self) -> Result<()> {
        let Output { status, stdout, stderr } =
            self.exec(&[], &["sh", "-c", "echo to-out; echo to-err >&2; exit 7"]).output()?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(stdout == b"to-out\n", "it prints {:?}", String::from_utf8_lossy(&stdout));
        ensure!(said.lines().any(|line| line == "to-err"), "standard error is lost: {said}");
        ensure!(status.code() == Some(7), "it ends with {status}");
        self.protocol("/exec?", &said)?;

        let bytes: Vec<u8> = (0..MANY_BYTES).map(|at| (at % 251) as u8).collect();
        let mut child =
            self.exec(&["-i"], &["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut input = child.stdin.take().context("piped")?;
        let back = std::thread::scope(|scope| {
            let writer = scope.spawn(|| input.write_all(&bytes).map(|()| drop(input)));
            let output = child.wait_with_output();
            writer.join().map_err(|_| anyhow::anyhow!("the writer has panicked"))??;
            anyhow::Ok(output?)
        })?;
        ensure!(back.status.success() && back.stdout == bytes, "of {MANY_BYTES} bytes {} came back", back.stdout.len());
        Ok(())
    }

    /// A terminal, its size and its changes, Ctrl-C, and the exit code.
    fn screen(&self) -> Result<()> {
        let mut terminal = Terminal::start(&self.exec(&["-it"], &["sh"]), 40, 111)?;
        terminal.answers("test -t 0 && test -t 1 && test -t 2 && echo all-$((1 + 1)) $TERM", "all-2 xterm")?;
        terminal.answers("stty size", "40 111")?;
        terminal.resize(25, 80)?;
        terminal.answers("stty size", "25 80")?;
        // Ends by its interruption alone; the session goes on. The shell may lose the one that comes while it starts the command.
        terminal.answers("echo begins-$((1 + 2)); sleep 100000", "begins-3")?;
        terminal.answers("\u{3}echo ended-$?", "ended-130")?;
        terminal.types("exit 9\n")?;
        let (status, shown) = terminal.ends()?;
        ensure!(status.code() == Some(9), "it ends with {status} and {shown:?}");
        ensure!(shown.contains("command terminated with exit code 9"), "it shows last {shown:?}");
        Ok(())
    }

    /// To a shell with a terminal, to a program that reads, and to one that only talks.
    fn attached(&self) -> Result<()> {
        let attach = ["-v=6", "attach", &self.pod, "-c"];
        let mut terminal = Terminal::start(&self.command(&[&attach[..], &["terminal", "-it"]].concat()), 31, 97)?;
        terminal.answers("echo attached-$((20 + 3))", "attached-23")?;
        terminal.answers("stty size", "31 97")?;
        terminal.resize(33, 99)?;
        terminal.answers("stty size", "33 99")?;
        terminal.types("exit 0\n")?;
        let (status, shown) = terminal.ends()?;
        ensure!(status.success(), "with a terminal it ends with {status} and {shown:?}");

        let mut lines = Following::start(&mut self.command(&[&attach[..], &["lines", "-i"]].concat()))?;
        lines.types("a line\n")?;
        lines.shows("got a line")?;
        self.protocol("/attach?", &lines.stop()?)?;

        let mut talks = Following::start(&mut self.command(&[&attach[..], &["talks"]].concat()))?;
        talks.until(|lines| lines.iter().filter(|line| *line == "a word").count() > 3)?;
        self.protocol("/attach?", &talks.stop()?)?;
        let restarts = "{.status.containerStatuses[?(@.name!='terminal')].restartCount}";
        let restarts = self.node.field(NAMESPACE, &format!("pod/{}", self.pod), restarts)?;
        ensure!(restarts == "0 0 0", "who detaches ends the container: {restarts}");
        Ok(())
    }

    /// A folder goes in and comes back.
    fn copies(&self) -> Result<()> {
        let (here, back) = (self.node.folder().join(&self.pod), self.node.folder().join(format!("{}-back", self.pod)));
        fs::create_dir_all(here.join("inner"))?;
        let bytes: Vec<u8> = (0..MANY_BYTES / 3).map(|at| (at % 241) as u8).collect();
        fs::write(here.join("inner/large"), &bytes)?;
        fs::write(here.join("small"), "a small file\n")?;
        let there = format!("{}:/tmp/copied", self.pod);
        for (from, to) in [(here.display().to_string(), there.clone()), (there, back.display().to_string())] {
            let Output { status, stderr, .. } = self.command(&["cp", "-c", "shell", &from, &to]).output()?;
            ensure!(status.success(), "{from} to {to}: {status}: {}", String::from_utf8_lossy(&stderr));
        }
        ensure!(fs::read(back.join("inner/large"))? == bytes, "the large file has changed on its way");
        ensure!(fs::read_to_string(back.join("small"))? == "a small file\n", "the small file has changed on its way");
        Ok(())
    }

    /// A pod for one session, which goes with it.
    fn started(&self) -> Result<()> {
        let (name, image) = (format!("{}-once", self.pod), format!("--image={IMAGE}"));
        let run = ["run", &name, "--rm", "-it", "--restart=Never", &image, "--image-pull-policy=IfNotPresent"];
        let mut terminal = Terminal::start(&self.command(&[&run[..], &["--", "sh"]].concat()), 24, 80)?;
        terminal.answers("echo runs-$((40 + 2)) $HOSTNAME", &format!("runs-42 {name}"))?;
        terminal.types("exit 4\n")?;
        let (status, shown) = terminal.ends()?;
        ensure!(status.code() == Some(4), "it ends with {status} and {shown:?}");
        ensure!(shown.contains(&format!("pod \"{name}\" deleted")), "the pod is not deleted: {shown:?}");
        Ok(())
    }

    /// A port of the pod answers on loopback, every time.
    fn forwarded(&self) -> Result<()> {
        let target = format!("pod/{}", self.pod);
        let mut forwarding = Following::start(&mut self.command(&["-v=6", "port-forward", &target, ":8080"]))?;
        forwarding.shows("Forwarding from 127.0.0.1:")?;
        let line = forwarding.seen.iter().find(|line| line.contains("127.0.0.1:")).context("it was shown")?;
        let port = line.split(['.', ':', ' ']).find_map(|word| word.parse::<u16>().ok().filter(|port| *port > 1023));
        let port = port.with_context(|| format!("no port in {line:?}"))?;
        for _ in 0..3 {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains(PAGE), "it answers {answer:?}");
        }
        self.protocol("/portforward", &forwarding.stop()?)
    }
}
