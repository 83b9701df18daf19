//! Starting the holder and, through it, the edge; or finding both as an earlier start has left them.

use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::Context as _;
use corten_podspec::{Credentials, Held, Run};
use corten_proxy::snapshot::{KEY_BYTES, Seal};
use corten_runtime::{Holder, Program};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_sys::cgroup::Hierarchies;

use super::doors::Doors;
use super::guard::Guard;
use super::{CONTROL, DOORS, FOLDER, KEY, LOGS, PROGRAM, USER};
use crate::datadir::DataDir;
use crate::files;

/// How long an edge that is replaced may take to end.
const DRAIN_MS: u64 = 30_000;

/// How long a new one may take until it serves, and how often it is looked at.
const READY_MAX: Duration = Duration::from_secs(10);
const READY_LOOK: Duration = Duration::from_millis(2);

/// What belongs to one node's edge, where control finds it.
pub struct Place {
    /// Of the snapshot.
    pub folder: PathBuf,
    /// Where the edge is asked.
    pub control: PathBuf,
    pub seal: Seal,
    key: Vec<u8>,
}

impl Place {
    /// Makes the folder and the key where they are missing.
    pub fn open(dir: &DataDir, run_dir: &Path, random: &Random) -> anyhow::Result<Self> {
        let folder = dir.join("edge");
        make_dir(&folder, 0o750)?;
        // The edge may go into it, and write nothing but logs: nothing that control opens.
        chown(&folder, None, Some(USER)).context("the edge's folder; run as root")?;
        let logs = folder.join(LOGS);
        make_dir(&logs, 0o700)?;
        chown(&logs, Some(USER), Some(USER)).context("the folder of the edge's logs")?;
        let key_file = dir.join("pki").join("edge.key");
        let key = match std::fs::read(&key_file) {
            Ok(key) if key.len() == KEY_BYTES => key,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("the edge's key"),
            // What was sealed with a lost key is made again.
            _ => {
                let mut key = vec![0; KEY_BYTES];
                random.fill(&mut key);
                files::write_private(&key_file, &key)?;
                key
            }
        };
        Ok(Self { folder, control: asked_at(run_dir), seal: Seal::new(&key)?, key })
    }
}

/// Where the edge of a node is asked.
pub fn asked_at(run_dir: &Path) -> PathBuf {
    run_dir.join("edge.sock")
}

/// Makes a folder where it is missing.
fn make_dir(path: &Path, mode: u32) -> anyhow::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("the folder {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Gives the holder what an edge needs, and has it run an edge of this program. Resolves when it serves, with what guards the holder.
pub async fn start(mut doors: Doors, place: &Place, instance: &str, clock: &Clock) -> anyhow::Result<Guard> {
    let (mut holder, held, child) = match doors.holder.take() {
        Some((holder, held)) => (holder, held, None),
        None => spawn(&doors.run_dir)?,
    };
    let keeps = |name: &str| held.names.iter().any(|held| held == name);
    holder.keep(KEY, &place.key, None)?;
    let folder = File::open(&place.folder)?;
    holder.keep(FOLDER, &[], Some(folder.as_fd()))?;
    let logs = File::open(place.folder.join(LOGS))?;
    holder.keep(LOGS, &[], Some(logs.as_fd()))?;
    if !keeps(CONTROL) {
        let socket = control_socket(&place.control)?;
        holder.keep(CONTROL, &[], Some(socket.as_fd()))?;
    }
    for (name, socket) in &doors.opened {
        holder.keep(name, &[], Some(socket.as_fd()))?;
    }
    let is_door = |name: &&String| DOORS.iter().any(|kind| name.starts_with(kind));
    for name in held.names.iter().filter(is_door).filter(|name| !doors.names.contains(name)) {
        holder.forget(name)?;
    }
    let guard = Guard::new(&mut holder, child, doors)?;
    let program = File::open("/proc/self/exe").context("this program's own file")?;
    let identity = identity(&program)?;
    if held.pid == 0 || !keeps(&identity) {
        for name in held.names.iter().filter(|name| name.starts_with(PROGRAM)) {
            holder.forget(name)?;
        }
        run(&mut holder, &program, place, instance)?;
        holder.keep(&identity, &[], None)?;
    }
    until_ready(&mut holder, clock).await?;
    Ok(guard)
}

fn spawn(run_dir: &Path) -> anyhow::Result<(Holder, Held, Option<Child>)> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(run_dir);
    made.with_context(|| format!("the folder {}; run as root", run_dir.display()))?;
    let program = Program::load().context("the holder's program")?;
    // It lives on when this process ends.
    let (child, mut holder) = Holder::spawn(&program, &run_dir.join("holder.sock")).context("the holder")?;
    let held = holder.hello()?;
    Ok((holder, held, Some(child)))
}

fn control_socket(path: &Path) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("an old socket is in the way"),
        _ => {}
    }
    UnixListener::bind(path).with_context(|| format!("the socket {}", path.display()))
}

/// Tells one build of the program from another.
fn identity(program: &File) -> anyhow::Result<String> {
    let file = program.metadata()?;
    let (seconds, nanoseconds) = (file.mtime(), file.mtime_nsec());
    Ok(format!("{PROGRAM}{}:{}:{}:{seconds}.{nanoseconds}", file.dev(), file.ino(), file.size()))
}

fn run(holder: &mut Holder, program: &File, place: &Place, instance: &str) -> anyhow::Result<()> {
    // What the edge says of itself; requests are written to files that it opens.
    let path = place.folder.join("edge.log");
    let errors = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
    let errors = errors.with_context(|| format!("the log {}", path.display()))?;
    let environment: Result<Vec<_>, _> = ["CORTEN_LOG", "CORTEN_CLOCK_OFFSET"]
        .iter()
        .filter_map(|name| Some(CString::new(format!("{name}={}", std::env::var(name).ok()?))))
        .collect();
    let credentials = Credentials {
        args: vec![c"corten".to_owned(), c"edge".to_owned()],
        env: environment?,
        uid: USER,
        gid: USER,
        no_new_privs: true,
        ..Credentials::default()
    };
    let plan = Run { credentials, cgroup_joins: groups(instance)?, drain_ms: DRAIN_MS };
    holder.run(plan, [program.as_fd(), errors.as_fd(), errors.as_fd()]).context("the holder")
}

/// The edge's own groups, so that nobody else's limits are its limits.
fn groups(instance: &str) -> anyhow::Result<Vec<CString>> {
    let hierarchies = Hierarchies::detect()?;
    let group = hierarchies.group(format!("corten-{instance}/edge"));
    group.create()?;
    let second = group.v2_folder().map(|folder| folder.join("cgroup.procs"));
    let joins = group.v1_joins().into_iter().chain(second);
    Ok(joins.map(|path| CString::new(path.as_os_str().as_bytes())).collect::<Result<_, _>>()?)
}

async fn until_ready(holder: &mut Holder, clock: &Clock) -> anyhow::Result<()> {
    let end_ms = clock.now_ms() + i64::try_from(READY_MAX.as_millis())?;
    loop {
        let held = holder.hello()?;
        if held.ready {
            return Ok(());
        }
        if let Some(failed) = held.failed {
            anyhow::bail!(
                "the edge cannot be started: {:?} failed with error {} ({})",
                failed.step,
                failed.errno,
                failed.about
            );
        }
        if clock.now_ms() > end_ms {
            anyhow::bail!(
                "the edge does not serve after {READY_MAX:?}; see edge.log in the data directory's edge folder"
            );
        }
        tokio::time::sleep(READY_LOOK).await;
    }
}

/// Lets the edge read a file, and nobody else but its owner.
pub(super) fn show_to_edge(file: &File) -> anyhow::Result<()> {
    std::os::unix::fs::fchown(file, None, Some(USER))?;
    Ok(file.set_permissions(std::fs::Permissions::from_mode(0o640))?)
}
