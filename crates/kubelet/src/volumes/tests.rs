//! Volumes on a real file system, in a folder of their own.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Barrier;

use corten_apimachinery::value;

use super::*;
use crate::pod::Pod;
use crate::sources::Kind;
use crate::testing::settings;

fn sources(text: &str) -> Sources {
    let map = value!({"metadata": {"name": "m"}, "data": {"a": text, "b": "2"}});
    let objects = [((Kind::ConfigMap, "m".to_owned()), Some(map))].into_iter().collect();
    Sources { namespace: "shop".to_owned(), objects }
}

fn pod(volume: Value) -> Value {
    value!({"metadata": {"name": "p", "uid": "1", "labels": {"x": "y"}}, "spec": {"volumes": [volume]}})
}

fn files(pod: &Value, sources: &Sources) -> Result<String, SourceError> {
    let subject = Subject { pod: Pod(pod), addresses: &[], host_addresses: &[], allocatable: &Value::Null };
    let tokens = [(TokenKey { audience: "api".to_owned(), expiration_s: 600 }, "jwt".to_owned())].into_iter().collect();
    let payload = payload::payload(subject, sources, &tokens, &Pod(pod).spec_list("volumes")[0])?;
    let file = |(path, file): (&String, &atomic::File)| {
        format!("{path}={}:{:o}", String::from_utf8_lossy(&file.bytes), file.mode)
    };
    Ok(payload.iter().map(file).collect::<Vec<_>>().join(" "))
}

#[test]
fn files_come_from_objects() {
    let check = |volume: Value, expect: &str| assert_eq!(files(&pod(volume), &sources("1")), Ok(expect.to_owned()));
    check(value!({"configMap": {"name": "m"}}), "a=1:644 b=2:644");
    let items = value!([{"key": "a", "path": "x/y", "mode": 256}]);
    check(value!({"configMap": {"name": "m", "items": (items.clone()), "defaultMode": 420}}), "x/y=1:400");
    check(value!({"configMap": {"name": "no", "optional": true}}), "");
    let field = value!({"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}});
    check(value!({"downwardAPI": {"items": [(field.clone())]}}), "labels=x=\"y\":644");
    let token = value!({"serviceAccountToken": {"audience": "api", "expirationSeconds": 600, "path": "token"}});
    let projected = value!([{"configMap": {"name": "m", "items": items}}, {"downwardAPI": {"items": [field]}}, token]);
    check(
        value!({"projected": {"sources": projected, "defaultMode": 288}}),
        "labels=x=\"y\":440 token=jwt:440 x/y=1:400",
    );
    let missing =
        files(&pod(value!({"configMap": {"name": "m", "items": [{"key": "z", "path": "z"}]}})), &sources("1"));
    assert_eq!(missing.expect_err("missing").to_string(), "references non-existent config key: z");
    let outside =
        files(&pod(value!({"configMap": {"name": "m", "items": [{"key": "a", "path": "../z"}]}})), &sources(""));
    assert_eq!(outside.expect_err("outside").to_string(), "the path \"../z\" leaves the volume");
}

#[test]
fn a_change_swaps_all_files_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |stamp: &str, files: &[(&str, &str)]| {
        let file = |text: &str| atomic::File { bytes: text.into(), mode: 0o640, uid: None };
        let payload = files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect();
        atomic::write(dir.path(), &payload, stamp, Some(4242)).expect("written");
        fs::read_link(dir.path().join("..data")).expect("a link")
    };
    let first = write("1", &[("a", "1"), ("deep/b", "2")]);
    assert_eq!(write("2", &[("a", "1"), ("deep/b", "2")]), first, "nothing has changed");
    let before = fs::File::open(dir.path().join("a")).expect("a file");
    assert_ne!(write("3", &[("a", "2"), ("c", "3")]), first);
    assert_eq!(io::read_to_string(before).expect("text"), "1", "whoever has it open reads on");
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).expect("a directory").map(|name| name.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["..3", "..data", "a", "c"]);
    let meta = fs::metadata(dir.path().join("a")).expect("a file");
    assert_eq!((meta.gid(), meta.mode() & 0o777), (4242, 0o640));
}

#[test]
fn host_paths_are_what_they_must_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |kind: &str, name: &str| {
        let path = dir.path().join(name);
        host_path(&value!({"hostPath": {"type": kind}}), &path).map_err(|error| error.to_string())
    };
    assert_eq!(check("", "no"), Ok(()));
    let refused = format!("hostPath type check failed: {} is not a directory", dir.path().join("no").display());
    assert_eq!(check("Directory", "no"), Err(refused));
    assert_eq!(check("DirectoryOrCreate", "d"), Ok(()));
    assert_eq!(check("Directory", "d"), Ok(()));
    assert_eq!(check("FileOrCreate", "f"), Ok(()));
    assert_eq!(check("File", "f"), Ok(()));
    assert!(check("Socket", "f").is_err() && check("File", "d").is_err());
}

/// Mounts need root, which tests of the node have.
#[test]
fn a_sub_path_never_leaves_its_volume() {
    let dir = tempfile::tempdir().expect("a directory");
    let volume = dir.path().join("volume");
    fs::create_dir(&volume).expect("a directory");
    fs::write(dir.path().join("secret"), "hush").expect("a file");
    std::os::unix::fs::symlink("../secret", volume.join("out")).expect("a link");
    fs::write(volume.join("in"), "mine").expect("a file");
    std::os::unix::fs::symlink("in", volume.join("link")).expect("a link");
    let at = dir.path().join("at/0");
    let bind = |sub: &str| sub_path::bind(&volume, sub, &at);
    assert!(bind("out").is_err() && bind("../secret").is_err() && bind("/etc").is_err());
    bind("link").expect("it stays inside");
    assert_eq!(fs::read_to_string(&at).expect("mounted"), "mine");
    bind("new/folder").expect("it is made");
    assert!(at.is_dir() && volume.join("new/folder").is_dir());
    unmount(&at, UnmountFlags::DETACH).expect("it is mounted");
}

#[test]
fn a_pods_volumes_go_with_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = settings(dir.path());
    let volumes = [
        value!({"name": "disk", "emptyDir": {}}),
        value!({"name": "ram", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
        value!({"name": "map", "configMap": {"name": "m"}}),
    ];
    let pod = pod(Value::Null);
    let subject = Subject { pod: Pod(&pod), addresses: &[], host_addresses: &[], allocatable: &Value::Null };
    let (sources, tokens) = (sources("1"), Tokens::new());
    for stamp in ["1", "2"] {
        let making =
            Making { settings: &settings, subject, sources: &sources, tokens: &tokens, claims: &Claims::new(), stamp };
        for volume in &volumes {
            prepare(making, volume).expect("it is made");
        }
    }
    let paths = volumes.each_ref().map(|volume| settings.volume_path("1", volume));
    assert_eq!(fs::metadata(&paths[0]).expect("a folder").mode() & 0o777, 0o777);
    assert!(is_mount(&paths[1]) && !is_mount(&paths[0]));
    assert_eq!(fs::read_to_string(paths[2].join("a")).expect("a file"), "1");
    remove(&settings, "1").expect("it goes");
    assert!(paths.iter().all(|path| !path.exists()));
    unmount(settings.memory(), UnmountFlags::DETACH).expect("it is mounted");
}

/// A second memory file system over the first hides what pods have in that.
#[test]
fn pods_that_start_side_by_side_share_one_memory() {
    const PODS: usize = 8;
    for _ in 0..20 {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = settings(dir.path());
        let (sources, tokens, ready) = (sources("1"), Tokens::new(), Barrier::new(PODS));
        let make = |uid: usize| {
            let volume = value!({"name": "map", "configMap": {"name": "m"}});
            let pod = value!({"metadata": {"name": "p", "uid": (uid.to_string())}, "spec": {"volumes": [volume]}});
            let subject = Subject { pod: Pod(&pod), addresses: &[], host_addresses: &[], allocatable: &Value::Null };
            let making = Making {
                settings: &settings,
                subject,
                sources: &sources,
                tokens: &tokens,
                claims: &Claims::new(),
                stamp: "1",
            };
            ready.wait();
            prepare(making, &Pod(&pod).spec_list("volumes")[0]).expect("it is made");
        };
        std::thread::scope(|scope| (0..PODS).for_each(|uid| drop(scope.spawn(move || make(uid)))));
        let hidden: Vec<usize> =
            (0..PODS).filter(|uid| !settings.memory().join(format!("{uid}/map/a")).exists()).collect();
        let mounted = mounts_below(&settings.memory()).expect("a table");
        for point in &mounted {
            unmount(&**point, UnmountFlags::DETACH).expect("it is mounted");
        }
        assert_eq!((hidden, mounted.len()), (Vec::new(), 1));
    }
}

#[test]
fn a_volume_that_is_gone_is_noticed_by_who_mounts_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = settings(dir.path());
    let mount = |name: &str| value!({"name": name, "mountPath": "/v"});
    let volumes = value!([{"name": "disk", "emptyDir": {}}, {"name": "host", "hostPath": {"path": "/no/where"}}]);
    let of = |names: &[&str]| names.iter().map(|name| mount(name)).collect::<Vec<_>>();
    let containers = value!([
        {"name": "with", "volumeMounts": (of(&["host", "disk"]))},
        {"name": "without", "volumeMounts": (of(&["host"]))},
    ]);
    let pod = value!({"metadata": {"name": "p", "uid": "1"}, "spec": {"volumes": volumes, "containers": containers}});
    let pod = Pod(&pod);
    let lost = |name: &str| are_lost(&settings, pod, pod.container(name).expect("it is there"));
    assert_eq!((lost("with"), lost("without")), (true, false));
    make_dir(&settings.pod_dir("1").join("volumes/disk"), 0o777).expect("it is made");
    assert_eq!((lost("with"), lost("without")), (false, false));
}

/// A container changes its volume as it likes; a part of it is never something outside.
#[test]
fn a_hostile_link_in_a_volume_leads_nowhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let (volume, outside, at) = (dir.path().join("v"), dir.path().join("secret"), dir.path().join("at"));
    fs::create_dir_all(volume.join("inner")).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("key"), "secret").expect("written");
    let link = |name: &str, target: &Path| std::os::unix::fs::symlink(target, volume.join(name)).expect("linked");
    link("up", Path::new("../secret"));
    link("absolute", &outside);
    link("proc", Path::new("/proc/self/root"));
    link("good", Path::new("inner"));
    for part in ["up", "absolute", "proc", "up/key", "absolute/key", "proc/etc", "../secret", "/etc"] {
        sub_path::bind(&volume, part, &at).expect_err(part);
        assert!(mounts_below(&at).expect("a table").is_empty() && !at.exists(), "{part}");
    }
    // A part that is not there is made below the volume, not where a link leads.
    sub_path::bind(&volume, "absolute/new/folder", &at).expect_err("the link leads out");
    assert!(!outside.join("new").exists());
    sub_path::bind(&volume, "good", &at).expect("it stays inside");
    fs::write(at.join("x"), "").expect("written");
    assert!(volume.join("inner/x").exists());
    unmount(&at, UnmountFlags::DETACH).expect("it is mounted");
}

/// Another pod of the volume may put a link where a folder was, while the volume is given to a group.
#[test]
fn giving_a_volume_away_follows_no_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let (volume, outside) = (dir.path().join("v"), dir.path().join("outside"));
    fs::create_dir_all(volume.join("a/b")).expect("folders");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("f"), "").expect("written");
    fs::write(volume.join("a/b/f"), "").expect("written");
    std::os::unix::fs::symlink(&outside, volume.join("a/link")).expect("linked");
    let before = [outside.clone(), outside.join("f")].map(|path| fs::metadata(path).expect("it is there"));
    assert!(!ownership::is_given(&volume, 4321, false).expect("asked"));
    ownership::give(&volume, 4321, false).expect("given");
    assert!(ownership::is_given(&volume, 4321, false).expect("asked"));
    for (path, mode) in [("a", 0o2770), ("a/b", 0o2770), ("a/b/f", 0o660)] {
        let meta = fs::metadata(volume.join(path)).expect("it is there");
        assert_eq!((meta.gid(), meta.mode() & mode), (4321, mode), "{path}");
    }
    let after = [outside.clone(), outside.join("f")].map(|path| fs::metadata(path).expect("it is there"));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.gid(), before.mode()), (after.gid(), after.mode()));
    }
}

/// Claims: a disk of this node, read-only where the pod says so, one of another node, and a folder of the host.
#[test]
fn claimed_volumes_are_mounted_and_go_with_their_pod() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = settings(dir.path());
    let disk = |node: &str| {
        let csi = value!({"driver": DRIVER, "volumeAttributes": {"corten.dev/node": node}});
        value!({"metadata": {"name": "pvc-1"}, "spec": {"capacity": {"storage": "8Mi"}, "csi": csi}})
    };
    let host = dir.path().join("host");
    fs::create_dir(&host).expect("a folder");
    let local = value!({"metadata": {"name": "l"}, "spec": {"local": {"path": (host.to_str().expect("a text"))}}});
    let nfs = value!({"metadata": {"name": "f"}, "spec": {"capacity": {}, "nfs": {"server": "x"}}});
    let claims: Claims =
        [("disk", disk("n")), ("same", disk("n")), ("other", disk("m")), ("host", local), ("nfs", nfs)]
            .into_iter()
            .map(|(name, volume)| (name.into(), Claimed { claim: Value::Null, volume }))
            .collect();
    let asked = |name: &str, readonly: bool| value!({"name": name, "persistentVolumeClaim": {"claimName": name, "readOnly": readonly}});
    let pod = value!({"metadata": {"name": "p", "uid": "1"}, "spec": {"securityContext": {"fsGroup": 7}}});
    let subject = Subject { pod: Pod(&pod), addresses: &[], host_addresses: &[], allocatable: &Value::Null };
    let (sources, tokens) = (sources("1"), Tokens::new());
    let make = |volume: &Value| {
        let (settings, sources, tokens, claims) = (&settings, &sources, &tokens, &claims);
        prepare(Making { settings, subject, sources, tokens, claims, stamp: "1" }, volume)
    };
    let path = |name: &str| settings.volume_path("1", &asked(name, false));
    make(&asked("disk", false)).expect("mounted");
    make(&asked("disk", false)).expect("once more");
    fs::write(path("disk").join("row"), "1").expect("written");
    assert_eq!(fs::metadata(path("disk")).expect("a folder").gid(), 7);
    make(&asked("same", true)).expect("mounted");
    assert_eq!(fs::read(path("same").join("row")).expect("read"), b"1");
    let refused = fs::write(path("same").join("row"), "2").expect_err("it is read-only");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    make(&asked("host", false)).expect("mounted");
    fs::write(path("host").join("f"), "").expect("written");
    assert!(host.join("f").exists());
    let error = make(&asked("other", false)).expect_err("it is elsewhere").to_string();
    assert_eq!(error, "the volume pvc-1 is a disk of node m, this is n");
    let error = make(&asked("nfs", false)).expect_err("nobody can").to_string();
    assert_eq!(error, "persistent volumes of type nfs are not supported by this node");
    remove(&settings, "1").expect("it goes");
    assert!(!settings.pod_dir("1").exists() && host.join("f").exists());
    assert!(settings.dir.join("volumes/pvc-1/image").exists(), "the disk stays");
    make(&asked("disk", false)).expect("mounted");
    assert_eq!(fs::read(path("disk").join("row")).expect("read"), b"1");
    remove(&settings, "1").expect("it goes");
}
