//! Pods that share something with each other or with the host, and containers with more rights.

use std::fs;
use std::path::Path;

use corten_runtime::engine::Engine;
use corten_runtime::spec::{ContainerSpec, Mount, PodSpec, Propagation};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};

use crate::node::{Node, eventually, log};

fn bind(source: &Path, target: &str, propagation: Propagation) -> Mount {
    Mount { source: source.to_owned(), target: target.into(), readonly: false, propagation }
}

fn tmpfs(target: &Path) {
    mount("tmpfs", target, "tmpfs", MountFlags::empty(), None).unwrap();
}

/// A mount of the host's that others can take part in; gone with this value.
struct Shared(std::path::PathBuf);

impl Shared {
    fn new(path: std::path::PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        tmpfs(&path);
        mount_change(&path, MountPropagationFlags::SHARED).unwrap();
        Self(path)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            eprintln!("{} is left mounted: {error}", self.0.display());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_that_share_processes_see_each_other_and_die_whole() {
    let Some(mut node) = Node::new().await else { return };
    let pod = PodSpec { share_processes: true, ..node.pod_spec("a") };
    node.own.create_pod(&pod).await.unwrap();
    let mut first = node.spec("sleep 4321 & echo up; while ! [ -e /dev/shm/end ]; do sleep 0.02; done");
    first.name = "first".to_owned();
    first.log_path = node.path("logs/first.log");
    let started = node.start("a", &first).await.unwrap();
    eventually(|| log(&first.log_path) == "up").await;
    let second = node.spec(
        "cat /proc/1/comm; cat /proc/[0-9]*/cmdline 2>/dev/null | grep -c 4321; touch /dev/shm/end; ls -l /proc/1/root/ 2>&1",
    );
    link(&node, &["grep"]);
    node.start("a", &second).await.unwrap();
    let (one, two) = (node.exit().await, node.exit().await);
    let text = log(&second.log_path);
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!((rows[0], rows[1]), ("corten-pod", "1"), "{text}");
    assert!(text.contains("Permission denied"), "the first process is out of reach: {text}");
    assert_eq!([one.1.code, two.1.code].iter().filter(|code| **code == 0).count(), 1);
    // What the first has left behind went with it.
    let left = || {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
            .any(|line| line == b"sleep\x004321\0")
    };
    eventually(|| !left()).await;
    assert!(started.pid > 0);
    node.own.remove_pod("a").await.unwrap();
}

fn link(node: &Node, applets: &[&str]) {
    for applet in applets {
        std::os::unix::fs::symlink("busybox", node.path("root/bin").join(applet)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_host_is_in_the_hosts_namespaces() {
    let Some(mut node) = Node::new().await else { return };
    link(&node, &["readlink"]);
    let script = "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; cat /proc/$PPID_OF_TEST/comm; ls /sys/class/net | head -n 1";
    let host: Vec<String> = ["net", "ipc", "uts", "pid", "mnt"]
        .map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned())
        .to_vec();
    let pod = PodSpec { host_network: true, host_pid: true, host_ipc: true, ..node.pod_spec("a") };
    let mut spec = node.spec(script);
    spec.env.push(("PPID_OF_TEST".to_owned(), std::process::id().to_string()));
    let text = node.output_in(&pod, &spec).await;
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!(rows[..4], host[..4]);
    assert_ne!(rows[4], host[4]);
    assert_eq!(rows[5], fs::read_to_string("/proc/self/comm").unwrap().trim());
    let own = node.output_in(&node.pod_spec("b"), &node.spec(script)).await;
    assert!(own.lines().zip(&host).all(|(own, host)| own != host), "{own}");
    let mut left = node.spec("sleep 100 & sleep 100 & exit 0");
    left.log_path = node.path("logs/left.log");
    let pod = PodSpec { id: "c".to_owned(), ..pod };
    node.output_in(&pod, &left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_take_part_as_far_as_they_are_told() {
    let Some(mut node) = Node::new().await else { return };
    let shared = Shared::new(node.path("shared"));
    for folder in ["later", "back"] {
        fs::create_dir(shared.0.join(folder)).unwrap();
    }
    link(&node, &["mount"]);
    node.pod("a").await;
    let script = "mount -t tmpfs x /both/back && touch /both/back/from-container; echo up; \
        while ! [ -e /slave/later/from-host ]; do sleep 0.02; done; ls /slave/later /private/later /both/later";
    let mut spec = node.spec(script);
    spec.security.privileged = true;
    spec.mounts = vec![
        bind(&shared.0, "/private", Propagation::Private),
        bind(&shared.0, "/slave", Propagation::HostToContainer),
        bind(&shared.0, "/both", Propagation::Bidirectional),
    ];
    node.start("a", &spec).await.unwrap();
    eventually(|| log(&spec.log_path) == "up").await;
    assert!(shared.0.join("back/from-container").exists());
    tmpfs(&shared.0.join("later"));
    fs::write(shared.0.join("later/from-host"), "").unwrap();
    assert_eq!(node.exit().await.1.code, 0);
    assert_eq!(log(&spec.log_path), "up\n/both/later:\nfrom-host\n\n/private/later:\n\n/slave/later:\nfrom-host");
    node.own.remove_pod("a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_mount_is_so_with_all_below_it() {
    let Some(mut node) = Node::new().await else { return };
    let shared = Shared::new(node.path("shared"));
    fs::create_dir(shared.0.join("below")).unwrap();
    tmpfs(&shared.0.join("below"));
    let mut spec = node.spec("touch /x/a 2>/dev/null && echo a; touch /x/below/b 2>/dev/null && echo b; echo end");
    spec.mounts = vec![Mount { readonly: true, ..bind(&shared.0, "/x", Propagation::HostToContainer) }];
    assert_eq!(node.output(&spec).await, "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privileged_container_may_do_everything() {
    let Some(mut node) = Node::new().await else { return };
    link(&node, &["grep", "stat", "mount", "wc"]);
    fs::create_dir(node.path("root/mnt")).unwrap();
    let script = "grep -E '^(CapEff|Seccomp):' /proc/self/status; mount -t tmpfs x /mnt && echo mounted; \
        stat -c %t:%T /dev/kmsg; head -c 1 /dev/kmsg > /dev/null && echo read; grep -c ' /proc/.* ro' /proc/mounts";
    let mut spec = node.spec(script);
    spec.security.privileged = true;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let own = status.lines().find(|line| line.starts_with("CapEff")).unwrap();
    assert_eq!(output_of(&mut node, &spec).await, format!("{own}\nSeccomp:\t0\nmounted\n1:b\nread\n0"));
}

/// The last command's code does not matter.
async fn output_of(node: &mut Node, spec: &ContainerSpec) -> String {
    let mut spec = spec.clone();
    spec.args[2].push_str("; true");
    node.output(&spec).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_layers_are_one_tree_and_whiteouts_hide() {
    let Some(mut node) = Node::new().await else { return };
    let layer = |name: &str, files: &[(&str, &str)]| {
        for (file, text) in files {
            let path = node.path(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        node.path(name)
    };
    let middle = layer(
        "middle",
        &[("etc/passwd", "web:x:33:33::/srv:/bin/sh\n"), ("etc/group", "logs:x:44:web\n"), ("hidden", "x")],
    );
    let top = layer("top", &[("etc/motd", "top")]);
    let whiteout = rustix::fs::makedev(0, 0);
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
    rustix::fs::mknodat(rustix::fs::CWD, top.join("hidden"), kind, mode, whiteout).unwrap();
    let mut spec = node.spec("id; cat /etc/motd; echo; ls /hidden 2>/dev/null; echo end");
    spec.layers = vec![top, middle, node.path("root")];
    spec.user.image_user = "web".to_owned();
    let expected = "uid=33(web) gid=33 groups=33,44(logs)\ntop\nend";
    assert_eq!(node.output(&spec).await, expected);
}
