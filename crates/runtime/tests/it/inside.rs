//! What a container sees of the machine.

use std::ffi::CString;
use std::fs;

use corten_podspec::{Device, Mount, MountKind, Rlimit, Symlink};

use crate::container::{Pod, c_path, mount};

/// Rows of /proc/self/status that matter, by name.
fn status(text: &str, name: &str) -> String {
    let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    row.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
}

#[test]
fn identity_and_capabilities_are_those_of_the_plan() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "");
    // Each command is the program itself: a shell would fork.
    plan.credentials.args = vec![c"cat".to_owned(), c"/proc/self/status".to_owned()];
    plan.credentials.uid = 1000;
    plan.credentials.gid = 1001;
    plan.credentials.groups = vec![5, 7];
    let caps = 1 << 10 | 1 << 5;
    plan.credentials.bounding = caps | 1;
    plan.credentials.permitted = caps;
    plan.credentials.inheritable = caps;
    plan.credentials.effective = caps;
    plan.credentials.ambient = 1 << 10;
    let text = pod.output(plan);
    assert_eq!(status(&text, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(status(&text, "Gid"), "1001\t1001\t1001\t1001");
    assert_eq!(status(&text, "Groups"), "5 7");
    assert_eq!(status(&text, "NoNewPrivs"), "1");
    assert_eq!(status(&text, "CapBnd"), "0000000000000421");
    assert_eq!(status(&text, "CapEff"), "0000000000000400");
    assert_eq!(status(&text, "CapAmb"), "0000000000000400");
    assert_eq!(status(&text, "Pid"), "1");
    for row in ["SigBlk", "SigIgn"] {
        assert_eq!(status(&text, row), "0000000000000000", "{row}");
    }
    assert_eq!(status(&text, "Umask"), "0022");
}

#[test]
fn a_filter_is_in_force() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "hostname other; hostname");
    plan.credentials.bounding = 1 << 21;
    plan.credentials.permitted = 1 << 21;
    plan.credentials.effective = 1 << 21;
    plan.credentials.inheritable = 1 << 21;
    assert_eq!(pod.output(plan.clone()), "other");
    fs::remove_file(pod.path("log")).unwrap();
    // Load the call's number; sethostname (170): EPERM; else: allow.
    let filter: [(u16, u8, u8, u32); 4] =
        [(0x20, 0, 0, 0), (0x15, 0, 1, 170), (0x06, 0, 0, 0x0005_0001), (0x06, 0, 0, 0x7fff_0000)];
    let encode = |(code, yes, no, value): (u16, u8, u8, u32)| {
        let [low, high] = code.to_le_bytes();
        let [a, b, c, d] = value.to_le_bytes();
        [low, high, yes, no, a, b, c, d]
    };
    plan.key = 2;
    plan.credentials.args[2] = c"hostname third 2>/dev/shm/error; hostname".to_owned();
    plan.credentials.seccomp = filter.map(encode).concat().into();
    assert_eq!(pod.output(plan), "other");
}

#[test]
fn files_and_devices_are_those_of_the_plan() {
    let Some(mut pod) = Pod::new() else { return };
    fs::write(pod.path("secret"), "s3").unwrap();
    fs::write(pod.path("root/etc/shadowed"), "visible").unwrap();
    let script = "cat /etc/given; cat /etc/shadowed; cat /dev/null; ls /proc/acpi | head -n 1; \
        touch /etc/given 2>/dev/null && echo written; touch /proc/sys/x 2>/dev/null && echo written; \
        touch /made && echo made; ls -l /dev/fd | head -n 0; ls /dev; cat /proc/mounts";
    let mut plan = pod.plan(1, script);
    plan.mounts.push(Mount {
        source: c_path(&pod.path("secret")),
        readonly: true,
        ..mount(MountKind::Bind, c"/etc/given")
    });
    plan.mounts.push(Mount {
        data: c"newinstance,ptmxmode=0666,mode=620".to_owned(),
        ..mount(MountKind::Devpts, c"/dev/pts")
    });
    plan.devices = vec![Device { path: c"/dev/null".to_owned(), mode: 0o20666, major: 1, minor: 3 }];
    plan.symlinks = vec![Symlink { path: c"/dev/fd".to_owned(), target: c"/proc/self/fd".to_owned() }];
    plan.masked = vec![c"/etc/shadowed".to_owned(), c"/proc/acpi".to_owned(), c"/none".to_owned()];
    plan.readonly = vec![c"/proc/sys".to_owned(), c"/none".to_owned()];
    let text = pod.output(plan);
    assert!(text.starts_with("s3made\nfd\nnull\npts\nshm\n"), "{text}");
    for row in ["overlay / overlay rw", "proc /proc proc rw", "tmpfs /dev/shm tmpfs rw,nosuid,nodev,noexec"] {
        assert!(text.contains(&format!("\n{row}")), "no {row} in {text}");
    }
    assert!(pod.path("upper/made").exists());
}

#[test]
fn a_read_only_root_has_its_mount_points() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "touch /x 2>&1; touch /new/y && ls /new");
    plan.root.readonly = true;
    plan.mounts.push(mount(MountKind::Tmpfs, c"/new"));
    let text = pod.output(plan);
    assert_eq!(text, "touch: /x: Read-only file system\ny");
}

/// A link of the image that points outside stays inside.
#[test]
fn links_lead_no_mount_outside_the_root() {
    let Some(mut pod) = Pod::new() else { return };
    let outside = pod.path("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, pod.path("root/link")).unwrap();
    let mut plan = pod.plan(1, "ls /link/; echo done");
    plan.mounts.push(mount(MountKind::Tmpfs, c"/link/below"));
    match pod.connection.call(plan) {
        Ok(_) => assert_eq!(pod.exit().code, 0),
        Err(corten_runtime::Error::Failed(failed)) => assert_eq!(failed.step, corten_podspec::Step::Mount),
        Err(other) => panic!("{other}"),
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn containers_of_a_pod_share_memory_and_host_name_and_have_their_own_processes() {
    let Some(mut pod) = Pod::new() else { return };
    let plan = pod.plan(1, "echo shared > /dev/shm/x; hostname; ls /proc | head -n 1");
    assert_eq!(pod.output(plan), "pod-test\n1");
    fs::remove_file(pod.path("log")).unwrap();
    let plan = pod.plan(2, "cat /dev/shm/x");
    assert_eq!(pod.output(plan), "shared");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(pod.folder.path().to_str().unwrap()));
}

#[test]
fn limits_hold() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "ulimit -n; ulimit -Hn");
    plan.credentials.rlimits = vec![Rlimit { resource: 7, soft: 100, hard: 200 }];
    plan.credentials.cwd = c"/made/here".to_owned();
    plan.credentials.env.push(CString::new("X=1").unwrap());
    assert_eq!(pod.output(plan), "100\n200");
    assert!(pod.path("upper/made/here").is_dir());
}

/// As kernels before 6.7 need it; newer ones take it too.
#[test]
fn layers_are_given_as_a_list() {
    let Some(mut pod) = Pod::new() else { return };
    let mut plan = pod.plan(1, "cat /etc/one /etc/two; touch /made && pwd");
    plan.root.as_list = true;
    for layer in 0..40 {
        fs::create_dir_all(pod.path(&format!("layer{layer}/etc"))).unwrap();
        plan.root.lowers.insert(0, c_path(&pod.path(&format!("layer{layer}"))));
    }
    fs::write(pod.path("layer0/etc/one"), "hidden\n").unwrap();
    fs::write(pod.path("layer39/etc/one"), "top\n").unwrap();
    fs::write(pod.path("layer1/etc/two"), "deep\n").unwrap();
    assert_eq!(pod.output(plan), "top\ndeep\n/");
    assert!(pod.path("upper/made").exists());
}

/// Some images have /etc/resolv.conf as a link into a folder that only a running system fills.
#[test]
fn a_file_is_mounted_through_a_link_that_leads_to_nothing() {
    let Some(mut pod) = Pod::new() else { return };
    fs::write(pod.path("given"), "nameserver 10.96.0.10\n").unwrap();
    fs::create_dir(pod.path("root/run")).unwrap();
    std::os::unix::fs::symlink("/run/resolv.conf", pod.path("root/etc/resolv.conf")).unwrap();
    let mut plan = pod.plan(1, "cat /etc/resolv.conf /run/resolv.conf");
    plan.mounts.push(Mount { source: c_path(&pod.path("given")), ..mount(MountKind::Bind, c"/etc/resolv.conf") });
    assert_eq!(pod.output(plan), "nameserver 10.96.0.10\nnameserver 10.96.0.10");
    assert!(!std::path::Path::new("/run/resolv.conf").exists());
}
