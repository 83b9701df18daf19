//! The runtime as a node uses it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::Duration;

use corten_runtime::engine::{ContainerId, Engine, EngineError, Event, Streams};
use corten_runtime::spec::{ContainerSpec, ExecSpec, Limits, PodSpec};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process};

use crate::container::{LIMIT, wait_until};
use crate::node::{Node, eventually, log};

fn id(pod: &str) -> ContainerId {
    ContainerId { pod: pod.to_owned(), name: "main".to_owned(), attempt: 0 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_runs_ends_and_is_removed() {
    let Some(mut node) = Node::new().await else { return };
    let pod = node.pod("a").await;
    let spec = node.spec("echo hello; echo $HOSTNAME $HOME; exit 3");
    let started = node.start("a", &spec).await.unwrap();
    assert!(started.pid > 0 && started.started_ns > 0);
    let (ended, exit) = node.exit().await;
    assert_eq!((ended, exit.code, exit.signal, exit.out_of_memory), (id("a"), 3, 0, false));
    assert!(exit.finished_ns >= started.started_ns);
    assert_eq!(log(&spec.log_path), "hello\na /");
    let again = node.start("a", &spec).await.unwrap();
    assert_eq!((again.exit, again.pid), (Some(exit), 0));
    let known = node.own.pods().await.unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].containers[0].exit, Some(exit));
    assert_eq!(node.own.create_pod(&pod).await.unwrap(), known[0].pid);
    let upper = node.path("pods/a/containers/main/0/upper");
    assert!(upper.is_dir());
    node.own.remove(&id("a")).await.unwrap();
    node.own.remove(&id("a")).await.unwrap();
    assert!(!upper.exists());
    assert!(node.own.pods().await.unwrap()[0].containers.is_empty());
    node.own.remove_pod("a").await.unwrap();
    node.own.remove_pod("a").await.unwrap();
    assert!(node.own.pods().await.unwrap().is_empty());
    assert!(!node.path("pods/a").exists());
    assert_eq!(fs::read_dir(node.path("run")).unwrap().count(), 0);
    assert!(spec.log_path.exists());
    assert!(matches!(node.start("a", &spec).await, Err(EngineError::Gone(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_runtime_process_finds_everything_as_it_was() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let running =
        node.start("a", &node.spec("echo up; while ! [ -e /go ]; do sleep 0.02; done; exit 4")).await.unwrap();
    let mut short = node.spec("exit 5");
    short.name = "short".to_owned();
    node.start("a", &short).await.unwrap();
    let (_, exit) = node.exit().await;
    let before = node.own.pods().await.unwrap();
    node.restart().await;
    assert_eq!(node.own.pods().await.unwrap(), before);
    assert_eq!(before[0].containers.iter().map(|container| container.exit).collect::<Vec<_>>(), [None, Some(exit)]);
    assert_eq!(node.start("a", &node.spec("")).await.unwrap(), running);
    let touch = ExecSpec { args: vec!["touch".to_owned(), "/go".to_owned()], tty: false };
    let done = node.own.exec(&id("a"), &touch, Streams::default()).await.unwrap();
    assert_eq!(done.exit.await.unwrap().code, 0);
    let (_, exit) = node.exit().await;
    assert_eq!(exit.code, 4);
    node.own.remove_pod("a").await.unwrap();
}

/// A runtime that is told to end while it starts containers waits for the answers of the pod process, and for nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_midst_of_starts_is_no_long_wait() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let spec = |number: usize| ContainerSpec { name: format!("c{number}"), ..node.spec("sleep 1000") };
    let specs: Vec<_> = (0..12).map(spec).collect();
    {
        let mut starts: FuturesUnordered<_> = specs.iter().map(|spec| node.start("a", spec)).collect();
        starts.next().await.expect("there are some").expect("it starts");
        // The others are under way, and whoever wanted them leaves.
    }
    node.restart().await;
    let known = node.own.pods().await.unwrap();
    let ended = known[0].containers.iter().filter(|container| container.exit.is_some()).count();
    assert!(!known[0].containers.is_empty() && ended == 0, "{known:?}");
    node.own.remove_pod("a").await.unwrap();
}

/// What ends while no runtime process is there is told by the next one.
#[tokio::test(flavor = "multi_thread")]
async fn an_exit_between_two_runtime_processes_is_found() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let running = node.start("a", &node.spec("sleep 0.3; exit 6")).await.unwrap();
    let pid = Pid::from_raw(i32::try_from(running.pid).unwrap()).unwrap();
    node.restart().await;
    eventually(|| rustix::process::test_kill_process(pid).is_err()).await;
    node.restart().await;
    let pods = node.own.pods().await.unwrap();
    assert_eq!(pods[0].containers[0].exit.map(|exit| exit.code), Some(6));
    node.own.remove_pod("a").await.unwrap();
}

/// Start and end of a program that ends at once are written down at the same moment.
#[tokio::test(flavor = "multi_thread")]
async fn no_end_is_lost_that_comes_with_its_start() {
    const SIDE_BY_SIDE: usize = 8;
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    for round in 0..25 {
        let spec = |number: usize| ContainerSpec { name: format!("c{number}"), attempt: round, ..node.spec(":") };
        let specs: Vec<_> = (0..SIDE_BY_SIDE).map(spec).collect();
        let starts: FuturesUnordered<_> = specs.iter().map(|spec| node.start("a", spec)).collect();
        starts.for_each(async |started| drop(started.expect("it starts"))).await;
        for _ in 0..SIDE_BY_SIDE {
            assert_eq!(node.exit().await.1.code, 0);
        }
    }
    let before = node.own.pods().await.unwrap();
    assert!(before[0].containers.iter().all(|container| container.started_ns > 0));
    node.restart().await;
    assert_eq!(node.own.pods().await.unwrap(), before);
    node.own.remove_pod("a").await.unwrap();
}

/// As when the disk is full for a while.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_cannot_be_written_down_is_told_when_it_can() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let running = node.start("a", &node.spec("while ! [ -e /go ]; do sleep 0.02; done; exit 6")).await.unwrap();
    let (folder, aside) = (node.path("pods/a/containers/main/0"), node.path("aside"));
    fs::rename(&folder, &aside).unwrap();
    fs::write(format!("/proc/{}/root/go", running.pid), "").unwrap();
    let pid = Pid::from_raw(i32::try_from(running.pid).unwrap()).unwrap();
    eventually(|| rustix::process::test_kill_process(pid).is_err()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    fs::rename(&aside, &folder).unwrap();
    assert_eq!(node.exit().await.1.code, 6);
    node.own.remove_pod("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_process_dies_is_gone_and_can_be_made_anew() {
    let Some(mut node) = Node::new().await else { return };
    let spec = node.pod("a").await;
    let pod = node.own.pods().await.unwrap()[0].pid;
    node.start("a", &node.spec("sleep 100")).await.unwrap();
    kill_process(Pid::from_raw(i32::try_from(pod).unwrap()).unwrap(), Signal::KILL).unwrap();
    assert_eq!(node.next_event().await, Event::PodGone("a".to_owned()));
    let left = node.own.pods().await.unwrap();
    assert_eq!((left[0].pid, left[0].containers[0].exit.map(|exit| exit.code)), (0, Some(137)));
    node.restart().await;
    assert_eq!(node.own.pods().await.unwrap()[0].pid, 0);
    let upper = node.path("pods/a/containers/main/0/upper");
    assert!(upper.is_dir());
    assert!(node.own.create_pod(&spec).await.unwrap() > 0);
    assert!(!upper.exists(), "what the containers before it wrote is gone");
    assert!(node.own.pods().await.unwrap()[0].containers.is_empty());
    assert_eq!(node.start("a", &node.spec("exit 0")).await.unwrap().exit, None);
    assert_eq!(node.exit().await.1.code, 0);
    node.own.remove_pod("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_cannot_be_made_leaves_nothing() {
    let Some(node) = Node::new().await else { return };
    let good = node.pod_spec("a");
    let bad = PodSpec { sysctls: [("kernel.is_there".to_owned(), "no".to_owned())].into(), ..good.clone() };
    assert!(node.own.create_pod(&bad).await.is_err());
    assert!(node.own.pods().await.unwrap().is_empty() && !node.path("pods/a").exists());
    assert_eq!(fs::read_dir(node.path("run")).unwrap().count(), 0);
    assert!(node.own.create_pod(&good).await.unwrap() > 0, "another try is not in its way");
    node.own.remove_pod("a").await.unwrap();
}

/// A process that was killed while it made or removed a pod leaves files without a record.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_half_a_pod_goes_at_the_next_start() {
    let Some(mut node) = Node::new().await else { return };
    fs::create_dir_all(node.path("pods/a/containers/main/0/upper")).unwrap();
    fs::create_dir_all(node.path("pods/b/containers")).unwrap();
    fs::create_dir_all(node.path("pods/b/node")).unwrap();
    for file in ["a.sock", "b.main.0.exec", "b.main.0.exec.new"] {
        fs::write(node.path("run").join(file), "").unwrap();
    }
    node.restart().await;
    assert_eq!(fs::read_dir(node.path("run")).unwrap().count(), 0);
    assert!(!node.path("pods/a").exists() && !node.path("pods/b/containers").exists());
    assert!(node.path("pods/b/node").exists(), "it belongs to others");
    assert!(node.own.pods().await.unwrap().is_empty());
}

/// A process that was killed while it removed a container leaves a folder without a record.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_half_a_container_goes_with_its_pod() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    node.start("a", &node.spec("exit 0")).await.unwrap();
    node.exit().await;
    assert!(node.path("run/a.main.0.exec").exists());
    fs::remove_file(node.path("pods/a/containers/main/0/container.json")).unwrap();
    node.restart().await;
    node.own.remove_pod("a").await.unwrap();
    assert_eq!(fs::read_dir(node.path("run")).unwrap().count(), 0);
    assert!(!node.path("pods/a").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_asks_first_and_kills_then() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let mut polite = node.spec("trap 'exit 9' TERM; echo up; while :; do sleep 0.02; done");
    node.start("a", &polite).await.unwrap();
    eventually(|| log(&polite.log_path) == "up").await;
    node.own.stop(&id("a"), 15, LIMIT).await.unwrap();
    assert_eq!(node.exit().await.1.code, 9);
    node.own.stop(&id("a"), 15, LIMIT).await.unwrap();
    polite.attempt = 1;
    polite.args[2] = "trap '' TERM; echo deaf; while :; do sleep 1; done".to_owned();
    node.start("a", &polite).await.unwrap();
    eventually(|| log(&polite.log_path).ends_with("deaf")).await;
    let deaf = ContainerId { attempt: 1, ..id("a") };
    assert!(matches!(node.own.remove(&deaf).await, Err(EngineError::Failed(_))));
    node.own.stop(&deaf, 15, Duration::from_millis(100)).await.unwrap();
    assert_eq!(node.exit().await.1.signal, 9);
    node.own.remove_pod("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_run_is_told_and_leaves_nothing() {
    let Some(node) = Node::new().await else { return };
    node.pod("a").await;
    let mut spec = node.spec("");
    spec.args = vec!["nothing".to_owned()];
    let text = "error during container init: exec: \"nothing\": executable file not found in $PATH".to_owned();
    assert_eq!(node.start("a", &spec).await, Err(EngineError::NotRun { code: 127, text }));
    assert!(node.own.pods().await.unwrap()[0].containers.is_empty());
    assert!(!node.path("pods/a/containers/main").exists());
    spec.user.image_user = "nobody-here".to_owned();
    let text = "unable to find user nobody-here: no matching entries in passwd file".to_owned();
    assert_eq!(node.start("a", &spec).await, Err(EngineError::Invalid(text)));
    node.own.remove_pod("a").await.unwrap();
    let wrong = node.pod_spec("../b");
    assert!(matches!(node.own.create_pod(&wrong).await, Err(EngineError::Invalid(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_beside_the_containers_own() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let mut spec = node.spec("echo up; sleep 100; true");
    spec.env.push(("COLOUR".to_owned(), "red".to_owned()));
    node.start("a", &spec).await.unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let args = ["sh", "-c", "echo $COLOUR; cat /proc/1/comm; exit 7"].map(str::to_owned).to_vec();
    let streams = Streams { stdout: Some(writer), ..Streams::default() };
    let running = node.own.exec(&id("a"), &ExecSpec { args, tty: false }, streams).await.unwrap();
    let mut text = String::new();
    File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "red\nsh\n");
    assert_eq!(running.exit.await.unwrap().code, 7);
    let none = ExecSpec { args: vec!["none".to_owned()], tty: false };
    let refused = node.own.exec(&id("a"), &none, Streams::default()).await.unwrap_err();
    assert!(matches!(refused, EngineError::NotRun { code: 127, .. }), "{refused}");
    let inside = node.own.path_in(&id("a"), "/bin/sh").await.unwrap();
    assert_eq!(fs::metadata(inside).unwrap().len(), fs::metadata("/bin/busybox").unwrap().len());
    node.own.remove_pod("a").await.unwrap();
    assert!(matches!(node.own.exec(&id("a"), &none, Streams::default()).await, Err(EngineError::Gone(_))));
    assert!(node.events.try_recv().is_ok_and(|event| matches!(event, Event::Exited(..))));
}

/// Reads until the text has come; a terminal may have nothing yet.
fn read_until(from: &mut File, wanted: &str) {
    let mut text = String::new();
    let mut bytes = [0; 256];
    assert!(
        wait_until(|| {
            match from.read(&mut bytes) {
                Ok(length) => text.push_str(str::from_utf8(&bytes[..length]).unwrap()),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{text:?}"),
            }
            text.contains(wanted)
        }),
        "{text:?} without {wanted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_and_attached_streams_outlive_a_restart() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let script = "while read line; do echo got $line; done; echo end";
    node.start("a", &ContainerSpec { tty: true, stdin: true, ..node.spec(script) }).await.unwrap();
    let args = ["sh", "-c", "read line; echo $TERM; busybox tty; exit $line"].map(str::to_owned).to_vec();
    let running = node.own.exec(&id("a"), &ExecSpec { args, tty: true }, Streams::default()).await.unwrap();
    let mut terminal = File::from(running.terminal.unwrap());
    terminal.write_all(b"5\n").unwrap();
    read_until(&mut terminal, "xterm\r\n/dev/pts/1\r\n");
    assert_eq!(running.exit.await.unwrap().code, 5);
    for word in ["one", "two"] {
        let attached = node.own.attach(&id("a"), true).await.unwrap();
        assert!(attached.terminal && attached.stderr.is_none());
        let mut out = File::from(attached.stdout.unwrap());
        File::from(attached.input.unwrap()).write_all(format!("{word}\n").as_bytes()).unwrap();
        read_until(&mut out, &format!("got {word}\r\n"));
        node.restart().await;
    }
    let watching = node.own.attach(&id("a"), false).await.unwrap();
    assert!(watching.input.is_none());
    node.own.remove_pod("a").await.unwrap();
    assert!(matches!(node.own.attach(&id("a"), false).await, Err(EngineError::Gone(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_change_and_are_measured() {
    let Some(node) = Node::new().await else { return };
    let mut pod = node.pod_spec("a");
    pod.limits.memory_bytes = Some(256 << 20);
    node.own.create_pod(&pod).await.unwrap();
    let mut spec = node.spec("sleep 100");
    spec.limits = Limits { memory_bytes: Some(64 << 20), pids: Some(30), cpu_milli: Some(500), ..Limits::default() };
    node.start("a", &spec).await.unwrap();
    let usage = node.own.usage("a", "main").await.unwrap();
    assert!(usage.pids >= 1 && usage.memory_bytes > 0 && usage.cpu_ns > 0, "{usage:?}");
    assert!(usage.working_set_bytes <= usage.memory_bytes);
    // The pod's own process counts too. Each is read at its own moment, and a program that begins needs less a little later.
    let whole_is_more = async {
        loop {
            let (part, whole) = (node.own.usage("a", "main").await.unwrap(), node.own.usage("a", "").await.unwrap());
            if whole.memory_bytes > part.memory_bytes && whole.pids > part.pids {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, whole_is_more).await.expect("it holds within the limit");
    node.own.resize("a", "main", &Limits { memory_bytes: Some(80 << 20), ..Limits::default() }).await.unwrap();
    let refused = node.own.resize("a", "main", &Limits { memory_bytes: Some(4096), ..Limits::default() }).await;
    assert!(matches!(refused, Err(EngineError::Failed(text)) if text.contains("in use")));
    node.own.remove_pod("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn want_of_memory_is_told() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let mut spec = node.spec("x=a; while :; do x=$x$x; done");
    spec.limits.memory_bytes = Some(16 << 20);
    node.start("a", &spec).await.unwrap();
    let (_, exit) = node.exit().await;
    assert_eq!((exit.code, exit.out_of_memory), (137, true));
    node.own.remove_pod("a").await.unwrap();
}

/// Memory and processes are given back, and the machine stays usable.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_forks_without_end_stays_inside_its_limit() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    let mut spec = node.spec("f() { f | f & }; f; sleep 0.5; echo over");
    spec.limits.pids = Some(25);
    node.start("a", &spec).await.unwrap();
    eventually(|| fs::read_to_string(&spec.log_path).unwrap().contains("can't fork")).await;
    assert!(node.own.usage("a", "main").await.is_ok_and(|usage| usage.pids <= 25));
    node.own.stop(&id("a"), 9, Duration::ZERO).await.unwrap();
    node.exit().await;
    node.own.remove_pod("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_what_images_expect() {
    let Some(mut node) = Node::new().await else { return };
    let script = "ls /dev; ls /dev/shm /dev/mqueue | wc -l; touch /sys/x 2>/dev/null || echo readonly; \
        ls /proc/acpi | wc -l; cat /proc/mounts | grep -c pod-runtime; pwd";
    let mut spec = node.spec(script);
    spec.cwd = "/made".to_owned();
    let busybox = "busybox";
    for applet in ["wc", "grep", "pwd"] {
        std::os::unix::fs::symlink(busybox, node.path("root/bin").join(applet)).unwrap();
    }
    let text = node.output(&spec).await;
    let core = if std::path::Path::new("/proc/kcore").exists() { "core\n" } else { "" };
    let dev = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n";
    assert_eq!(text, format!("{core}{dev}3\nreadonly\n0\n0\n/made"));
    assert_eq!(node.pod_groups(), 0);
}

/// As after a loss of power: files that were never filled.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_costs_one_pod() {
    let Some(mut node) = Node::new().await else { return };
    node.pod("a").await;
    node.start("a", &node.spec("sleep 100")).await.unwrap();
    let torn = node.path("pods/b/containers");
    fs::create_dir_all(torn.join("main/0")).unwrap();
    fs::write(torn.join("pod.json"), "").unwrap();
    node.restart().await;
    assert_eq!(node.own.pods().await.unwrap().iter().map(|pod| pod.id.clone()).collect::<Vec<_>>(), ["a"]);
    assert!(!node.path("pods/b").exists());
    // A pod that lives is not given up for its file.
    let whole = fs::read(node.path("pods/a/containers/pod.json")).unwrap();
    fs::write(node.path("pods/a/containers/pod.json"), "{").unwrap();
    assert!(node.reopen().await.is_err());
    fs::write(node.path("pods/a/containers/pod.json"), whole).unwrap();
    node.restart().await;
    assert_eq!(node.own.pods().await.unwrap()[0].containers[0].exit, None);
    node.own.remove_pod("a").await.unwrap();
}
