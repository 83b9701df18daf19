//! A whole node, kubelet, runtime and network on the real kernel, whose parts are killed at random moments: control, the
//! process of a pod, a container. What is killed is taken up again by the next one, and in the end nothing is left: no process,
//! no mount, no control group, no link, no file.
//!
//! Control is this same test program, run again: it does what [`Life::run`] says until it is killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Delete, Informers, Select};
use corten_image::{Config, Credentials, Image, ImageError, Images};
use corten_kubelet::eviction::pressure::Shared;
use corten_kubelet::eviction::threshold::Thresholds;
use corten_kubelet::{Parts, Settings, eviction, leave, start};
use corten_network::pods as network;
use corten_runtime::own::{self, Own};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::embedded::disk::Directory;
use corten_store::embedded::{EmbeddedStore, OpenError, Options};
use corten_sys::cgroup::Hierarchies;
use corten_sys::namespace::NetNs;
use corten_sys::route::{Change, Routing};
use futures_core::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};

use crate::fakes::FakeGauges;
use crate::node::{PODS, api_client, condition};

const KILLS: u32 = 200;
/// Control is killed within this time of its start; pods and containers follow each other within the other.
const LIFE_MS: u64 = 300;
const PAUSE_MS: u64 = 40;
/// What nothing takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Set in control: its folder and its seed, and whether it is to bring everything to an end.
const FOLDER: &str = "CORTEN_KILL_FOLDER";
const SEED: &str = "CORTEN_KILL_SEED";
const LAST: &str = "CORTEN_KILL_LAST";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Control,
    Pod,
    Container,
}

#[test]
fn nothing_is_left_of_a_node_whoever_is_killed() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return Life::read(PathBuf::from(folder)).run();
    }
    let seed = std::env::var(SEED).map_or_else(|_| Random::system().next_u64(), |text| text.parse().expect("a number"));
    println!("{SEED}={seed}");
    let random = Random::seeded(seed);
    let mut rig = Rig::new();
    let mut killed: BTreeMap<Victim, u32> = BTreeMap::new();
    for kill in 0..KILLS {
        let victim = [Victim::Control, Victim::Pod, Victim::Container][kill as usize % 3];
        rig.control(random.next_u64());
        let range_ms = if victim == Victim::Control { LIFE_MS } else { PAUSE_MS };
        std::thread::sleep(Duration::from_millis(random.next_u64() % range_ms));
        rig.strike(victim, &random);
        *killed.entry(victim).or_default() += 1;
    }
    assert_eq!(killed.values().sum::<u32>(), KILLS, "{killed:?}");
    rig.end(random.next_u64());
    rig.leaves_nothing();
}

/// The machine's side: folder, network namespace, control.
struct Rig {
    folder: tempfile::TempDir,
    host: NetNs,
    instance: String,
    control: Option<Child>,
}

impl Rig {
    fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "pods on the real kernel need root");
        let folder = tempfile::tempdir().expect("a directory");
        root_file_system(&folder.path().join("root"));
        let host = NetNs::create().expect("a namespace");
        let mut routing = Routing::open(&host).expect("netlink");
        let loopback = routing.link("lo").expect("netlink").expect("it is there").index;
        routing.apply("set up", &[Change::SetUp(loopback)]).expect("loopback");
        let instance = format!("{:06x}", std::process::id() & 0xff_ffff);
        Self { folder, host, instance, control: None }
    }

    /// Starts control, unless it runs.
    fn control(&mut self, seed: u64) {
        if self.control.is_none() {
            self.control = Some(self.spawn(seed, false));
        }
    }

    fn spawn(&self, seed: u64, last: bool) -> Child {
        let mut command = Command::new(std::env::current_exe().expect("it is known"));
        command.args(["--exact", "kills::nothing_is_left_of_a_node_whoever_is_killed", "--nocapture"]);
        command.env(FOLDER, self.folder.path()).env(SEED, seed.to_string()).env("INSTANCE", &self.instance);
        if last {
            command.env(LAST, "1");
        }
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        self.host.run(move || command.spawn()).expect("entered").expect("it runs")
    }

    fn strike(&mut self, victim: Victim, random: &Random) {
        if victim == Victim::Control {
            let mut control = self.control.take().expect("it was started");
            control.kill().expect("it is there");
            control.wait().expect("it ends");
            return;
        }
        let found = wait_until(|| {
            let candidates = self.members(victim);
            let count = u64::try_from(candidates.len()).expect("few");
            candidates.get(usize::try_from(random.next_u64() % count.max(1)).expect("few")).copied()
        });
        match kill_process(Pid::from_raw(found).expect("a process"), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => panic!("cannot kill {found}: {error}"),
        }
    }

    /// Processes in the instance's groups: those of the pods themselves, or those of their containers.
    fn members(&self, victim: Victim) -> Vec<i32> {
        let mut found = Vec::new();
        for group in groups(&hierarchy().join(format!("corten-{}", self.instance))) {
            let of_pod = group.file_name().is_some_and(|name| name == "pod");
            if of_pod == (victim == Victim::Pod) {
                let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            }
        }
        found
    }

    /// A last control, which nobody kills, brings everything to an end.
    fn end(&mut self, seed: u64) {
        if let Some(mut control) = self.control.take() {
            control.kill().expect("it is there");
            control.wait().expect("it ends");
        }
        let mut last = self.spawn(seed, true);
        let lines = BufReader::new(last.stdout.take().expect("piped")).lines();
        let said: Vec<String> = lines.map(|line| line.expect("text")).collect();
        let status = last.wait().expect("it ends");
        assert!(status.success() && said.iter().any(|line| line.contains(ENDED)), "{status}: {said:#?}");
    }

    fn leaves_nothing(&self) {
        let path = |name: &str| self.folder.path().join(name);
        let text = self.folder.path().to_str().expect("UTF-8").to_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        assert!(!mounts.contains(&text), "a mount is left: {mounts}");
        let links = Routing::open(&self.host).expect("netlink").links().expect("netlink");
        let names: Vec<String> = links.into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["lo"]);
        assert_eq!(list(&path("data/pods")), [""; 0], "folders of pods");
        assert_eq!(list(&path("data/logs/pods")), [""; 0], "logs of pods");
        assert!(!path("run").exists(), "{:?} {:?}", list(&path("run/pods")), list(&path("run/volumes")));
        let root = format!("corten-{}", self.instance);
        let hierarchies = Hierarchies::detect().expect("readable");
        assert_eq!(hierarchies.group(&root).members().expect("readable"), Vec::<i32>::new());
        let left: Vec<PathBuf> = groups(&hierarchy().join(&root)).into_iter().filter(|group| is_pods(group)).collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "groups of pods");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut control) = self.control.take() {
            // Both fail for a control that has ended.
            drop(control.kill());
            drop(control.wait());
        }
        let hierarchies = Hierarchies::detect().expect("readable");
        let group = hierarchies.group(format!("corten-{}", self.instance));
        wait_until(|| (!group.kill().expect("its processes are killed") && group.remove_all().is_ok()).then_some(()));
        let volumes = self.folder.path().join("run/volumes");
        match rustix::mount::unmount(&volumes, rustix::mount::UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => eprintln!("{} stays mounted: {error}", volumes.display()),
        }
    }
}

const ENDED: &str = "everything has ended";

/// Control's side.
struct Life {
    folder: PathBuf,
    instance: String,
    random: Random,
    last: bool,
}

impl Life {
    fn read(folder: PathBuf) -> Self {
        let variable = |name| std::env::var(name).expect("the test sets it");
        let random = Random::seeded(variable(SEED).parse().expect("a number"));
        Self { folder, instance: variable("INSTANCE"), random, last: std::env::var_os(LAST).is_some() }
    }

    fn run(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(self.live());
    }

    async fn live(&self) {
        let (clock, tasks) = (Clock::system(), Tasks::new());
        let store = self.store(&clock);
        let client = api_client(Arc::new(store), &clock, &tasks);
        let settings = self.settings();
        let reading = start(self.parts(&client, &clock, &tasks, settings.clone()).await).await;
        let reading = reading.expect("it takes over whatever there is");
        if !self.last {
            self.work(&client).await;
        }
        for name in self.names(&client).await {
            self.delete(&client, &name, Some(0)).await;
        }
        self.until(&client, "every pod goes", |pods| pods.is_empty()).await;
        client.create(&PODS, "shop", &pod("fresh", 0)).await.expect("it is made");
        let ready = |pods: &[Value]| pods.iter().all(|pod| condition(pod, "Ready") == "True");
        self.until(&client, "a new pod becomes ready", ready).await;
        self.delete(&client, "fresh", Some(0)).await;
        self.until(&client, "it goes, too", |pods| pods.is_empty() && reading.all().is_empty()).await;
        assert_eq!(tasks.stop(LIMIT).await, 0, "everything ends");
        leave(&settings.run_dir).expect("what is empty goes");
        println!("{ENDED}");
    }

    /// What control was about to start when it was killed may hold the lock until it is another program.
    fn store(&self, clock: &Clock) -> EmbeddedStore {
        wait_until(|| {
            let disk = Directory::open(self.folder.join("store")).expect("a directory");
            match EmbeddedStore::open(disk, Options::new(clock.clone(), &self.random)) {
                Err(OpenError::Locked) => None,
                other => Some(other.expect("it opens after every kill")),
            }
        })
    }

    /// Makes and deletes pods until somebody ends it.
    async fn work(&self, client: &Client) {
        for number in self.random.next_u64().. {
            let names = self.names(client).await;
            if names.len() < 4 {
                let name = format!("p{number}");
                client.create(&PODS, "shop", &pod(&name, number)).await.expect("it is made");
            } else {
                let oldest = &names[usize::try_from(self.random.next_u64() % 4).expect("few")];
                self.delete(client, oldest, Some(i64::from(self.random.next_u64().is_multiple_of(2)))).await;
            }
            tokio::time::sleep(Duration::from_millis(self.random.next_u64() % 20)).await;
        }
    }

    async fn names(&self, client: &Client) -> Vec<String> {
        let pods = client.list(&PODS, "", &Select::default()).await.expect("listed").items;
        pods.iter().map(|pod| pod.str_at(&["metadata", "name"]).to_owned()).collect()
    }

    async fn delete(&self, client: &Client, name: &str, grace_period_s: Option<i64>) {
        let asked = Delete { grace_period_s, ..Delete::default() };
        if let Err(error) = client.delete(&PODS, "shop", name, &asked).await {
            assert!(error.to_string().contains("not found"), "{error}");
        }
    }

    async fn until(&self, client: &Client, what: &str, holds: impl Fn(&[Value]) -> bool) {
        let mut last = Vec::new();
        let looked = async {
            loop {
                last = client.list(&PODS, "", &Select::default()).await.expect("listed").items;
                if holds(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, looked).await.is_ok();
        assert!(in_time, "{what}: {last:#?}");
    }

    fn settings(&self) -> Settings {
        Settings {
            name: "n".to_owned(),
            dir: self.folder.join("data"),
            run_dir: self.folder.join("run"),
            addresses: vec![[192, 0, 2, 1].into()],
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            port: 10250,
            version: "v1.36.3".to_owned(),
            pods_max: 110,
            pids_of_pod_max: 100,
            // Whatever else this machine does.
            eviction: eviction::Settings { hard: Thresholds::none(), ..eviction::Settings::default() },
        }
    }

    async fn parts(&self, client: &Client, clock: &Clock, tasks: &Tasks, settings: Settings) -> Parts {
        let runtime = own::Settings {
            instance: self.instance.clone(),
            pods: settings.pods(),
            sockets: settings.run_dir.join("pods"),
            hierarchies: Hierarchies::detect().expect("readable"),
            tasks: tasks.clone(),
            clock: clock.clone(),
        };
        let range: corten_network::Range = "10.244.0.0/24".parse().expect("a range");
        let links = network::Settings {
            instance: self.instance.clone(),
            node_range: range,
            cluster_range: range,
            mtu: None,
            host: NetNs::current().expect("readable"),
            records: self.folder.join("records"),
        };
        let form = Form::Counted { component: "kubelet".into(), host: "n".into() };
        Parts {
            settings,
            engine: Arc::new(Own::open(runtime).await.expect("it takes over whatever there is")),
            images: Arc::new(OneImage(self.folder.join("root"))),
            network: Arc::new(network::Pods::open(links).expect("it takes over whatever there is")),
            traffic: None,
            gauges: Arc::new(FakeGauges::default()),
            pressure: Shared::default(),
            client: client.clone(),
            informers: Informers::new(client.clone(), clock.clone(), self.random.clone(), tasks.clone()),
            recorder: Recorder::new(form, client.clone(), clock, &self.random, tasks),
            clock: clock.clone(),
            random: self.random.clone(),
            tasks: tasks.clone(),
        }
    }
}

/// Pods of three kinds: one that runs, one with something before it and a volume, one that ends and begins again.
fn pod(name: &str, kind: u64) -> Value {
    let runs = value!({"name": "c", "image": "app:1", "args": ["sleep 1000 & sleep 1000"]});
    let mut spec = value!({"nodeName": "n", "terminationGracePeriodSeconds": 1_i64, "containers": [runs]});
    let fields = spec.as_object_mut().expect("it is one");
    if kind % 3 == 1 {
        let mount = value!({"name": "v", "mountPath": "/tmp"});
        let before = value!({"name": "i", "image": "app:1", "args": ["touch /tmp/x"], "volumeMounts": [mount]});
        fields.insert("initContainers", value!([before]));
        fields.insert("volumes", value!([{"name": "v", "emptyDir": {"medium": "Memory"}}]));
    } else if kind % 3 == 2 {
        fields.insert("containers", value!([{"name": "c", "image": "app:1", "args": ["exit 1"]}]));
    }
    value!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

/// The image of every name: a shell.
struct OneImage(PathBuf);

impl Images for OneImage {
    fn find(&self, _: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let entrypoint = ["/bin/sh", "-c"].map(str::to_owned).to_vec();
        let config = Config { entrypoint, env: vec!["PATH=/bin".to_owned()], ..Config::default() };
        let layers = vec![self.0.clone()];
        Ok(Some(Arc::new(Image { id: "sha256:1".to_owned(), layers, config, ..Image::default() })))
    }

    fn pull<'a>(&'a self, name: &'a str, _: &'a [Credentials]) -> BoxFuture<'a, Result<Arc<Image>, ImageError>> {
        let found = self.find(name).map(|found| found.expect("there is one"));
        Box::pin(std::future::ready(found))
    }

    fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }

    fn set_in_use(&self, _: Vec<String>) {}

    fn remove_unused(&self) -> Result<u64, ImageError> {
        Ok(0)
    }
}

fn root_file_system(root: &Path) {
    for below in ["bin", "proc", "dev", "tmp", "etc"] {
        fs::create_dir_all(root.join(below)).expect("made");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("apt-get install -y busybox-static");
    for applet in ["sh", "sleep", "touch"] {
        symlink("busybox", root.join("bin").join(applet)).expect("made");
    }
}

/// Where the hierarchy is mounted that counts processes: v1's `pids`, or the v2 tree.
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let find = |wanted: &dyn Fn(&str, &str) -> bool| {
        mounts.lines().find_map(|line| {
            let (place, file_system) = line.split_once(" - ")?;
            let (kind, options) = file_system.split_once(' ')?;
            wanted(kind, options).then(|| PathBuf::from(place.split(' ').nth(4).expect("a mount point")))
        })
    };
    let v1 = find(&|kind, options| kind == "cgroup" && options.split([' ', ',']).any(|option| option == "pids"));
    v1.or_else(|| find(&|kind, _| kind == "cgroup2")).expect("a hierarchy of control groups is mounted")
}

/// The group and all below it, as far as they are there.
fn groups(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    let below = entries.flatten().filter(|entry| entry.path().is_dir()).flat_map(|entry| groups(&entry.path()));
    std::iter::once(group.to_owned()).chain(below).collect()
}

fn is_pods(group: &Path) -> bool {
    group.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("pod"))
}

fn list(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn wait_until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(5);
    for _ in 0..LIMIT.as_millis() / pause.as_millis() {
        match look() {
            Some(found) => return found,
            None => std::thread::sleep(pause),
        }
    }
    panic!("it does not happen");
}
