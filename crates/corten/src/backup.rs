//! `corten backup`: everything that makes a cluster this cluster, in one sealed file (`sealed`): the objects as they are in the store at
//! one moment, the authorities and keys, and the identity of the instance. Nothing stops for it, and nothing is asked: the files
//! of a running store can be read (`corten_store::embedded::copy`). `restore` is the way back.
//!
//! Left out, and said so: images, which come again from their registries or archives, and what is on persistent volumes, which
//! only the programs that write there can have copied whole.

mod passphrase;
pub mod restore;
pub mod sealed;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use corten_stdx::clock::Clock;
use corten_stdx::file::replace_durably;
use corten_stdx::random::Random;
use serde::{Deserialize, Serialize};

use crate::datadir::DataDir;
use crate::files::read_if_there;
use crate::pki::node_of;
use crate::store;
use passphrase::Passphrase;
use sealed::Cost;

/// The piece that tells of the others.
const ABOUT: &str = "about";
/// Pieces of the store, in their order.
const OBJECTS: &str = "objects";
/// Files of the data directory beside those of `PKI`.
const FILES: [&str; 2] = ["instance", "keys"];
const PKI: &str = "pki";

#[derive(Debug, Args)]
pub struct Backup {
    /// The file to write; it is there when it is whole.
    file: PathBuf,
    /// Where everything is kept.
    #[arg(long, value_name = "D", default_value = "/var/lib/corten")]
    data_dir: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// What a backup says of itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct About {
    /// RFC 3339.
    made: String,
    version: String,
    instance: String,
    /// The name of the server that it was made on, as a node.
    node: Option<String>,
    revision: u64,
    objects: usize,
    /// Persistent volumes whose data is on that server, and not in the backup.
    volumes: Vec<String>,
}

/// What is in a backup.
struct Contents {
    about: About,
    /// By their place in the data directory.
    files: Vec<(String, Vec<u8>)>,
    blocks: Vec<Vec<u8>>,
}

pub fn run(settings: &Backup) -> anyhow::Result<()> {
    let (clock, random) = (Clock::from_environment().map_err(anyhow::Error::msg)?, Random::system());
    let file = absolute(&settings.file)?;
    let dir = absolute(&settings.data_dir)?;
    ensure!(
        !file.starts_with(&dir),
        "{} would be lost with what it is to replace; choose a place elsewhere",
        file.display()
    );
    // Before anybody is asked for anything.
    let instance = DataDir::look(&dir)?;
    let passphrase = settings.passphrase.new_one()?;
    let contents = Contents::read(&dir, instance, &clock, &random)?;
    let sealed = contents.seal(&passphrase, Cost::default(), &random)?;
    replace_durably(&file, &sealed).with_context(|| format!("cannot write {}", file.display()))?;
    let About { instance, revision, objects, volumes, .. } = &contents.about;
    println!(
        "instance {instance}: {objects} objects at revision {revision}, {} keys and certificates",
        contents.files.len()
    );
    println!("left out: images; import those again that no registry has");
    if !volumes.is_empty() {
        println!(
            "left out: what is on the persistent volumes {}; copy it by its programs' own means",
            volumes.join(", ")
        );
    }
    println!(
        "{} ({} KiB); bring it back with: corten restore {0} --data-dir D",
        file.display(),
        sealed.len().div_ceil(1024)
    );
    Ok(())
}

impl Contents {
    /// Reads an instance, which may be running. The store comes first: what is in it was made with keys that are there by then.
    fn read(dir: &Path, instance: String, clock: &Clock, random: &Random) -> anyhow::Result<Self> {
        ensure!(
            dir.join("store").join("format").exists(),
            "{} is a further server's, which keeps nothing that its cluster does not have; back up the first one, and join this one \
             again with `corten token create` should it be lost",
            dir.display()
        );
        let copy = store::copy(&dir.join("store"), clock.clone(), random)?;
        let files = files(dir)?;
        let kubelet = files.iter().find(|(name, _)| name == "pki/kubelet.pem");
        let about = About {
            made: clock.now().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance,
            node: kubelet.and_then(|(_, pem)| node_of(pem)),
            revision: copy.revision,
            objects: copy.objects.len(),
            volumes: volumes(dir)?,
        };
        Ok(Self { about, files, blocks: copy.blocks().collect() })
    }

    fn seal(&self, passphrase: &str, cost: Cost, random: &Random) -> anyhow::Result<Vec<u8>> {
        let about = serde_json::to_vec(&self.about)?;
        let files = self.files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        let blocks = self.blocks.iter().map(|block| (OBJECTS, block.as_slice()));
        let pieces = [(ABOUT, about.as_slice())].into_iter().chain(files).chain(blocks);
        sealed::seal(pieces, passphrase, cost, random).context("the backup")
    }
}

/// The identity of the instance and its keys.
fn files(dir: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for name in FILES {
        let Some(text) = read_if_there(&dir.join(name))? else {
            bail!("{} has no file `{name}`, without which its Secrets cannot be read; restore it first", dir.display())
        };
        files.push((name.to_owned(), text.into_bytes()));
    }
    for entry in fs::read_dir(dir.join(PKI)).context("the certificates")? {
        let entry = entry?;
        let name = entry.file_name().into_string().ok().filter(|name| is_plain(name) && !name.ends_with(".new"));
        if let (Some(name), true) = (name, entry.file_type()?.is_file()) {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {}", entry.path().display()))?;
            files.push((format!("{PKI}/{name}"), bytes));
        }
    }
    Ok(files)
}

/// The names of volumes whose disks are here.
fn volumes(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(dir.join("volumes")) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context("the volumes")?,
    };
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Whether it is the name of a file of ours, and leads nowhere else.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}
