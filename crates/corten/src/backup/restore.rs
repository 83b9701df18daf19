//! `corten restore`: a data directory out of a backup. It is made beside its place and renamed when it is whole, so that nothing is
//! ever half restored.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context as _, ensure};
use clap::Args;
use corten_builtin::seal::Keyring;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_store::embedded::copy::Copy;

use super::passphrase::Passphrase;
use super::{ABOUT, About, FILES, OBJECTS, PKI, is_plain, sealed};
use crate::datadir::DataDir;
use crate::files::write_private;
use crate::ranges::Ranges;
use crate::store;

#[derive(Debug, Args)]
pub struct Restore {
    /// What `corten backup` has written.
    file: PathBuf,
    /// Where everything is to be kept; nothing may be there yet.
    #[arg(long, value_name = "D", default_value = "/var/lib/corten")]
    data_dir: PathBuf,
    #[command(flatten)]
    passphrase: Passphrase,
}

/// A backup that was opened, checked as far as that goes without a disk.
#[derive(Debug)]
struct Opened {
    about: About,
    files: Vec<(String, Vec<u8>)>,
    copy: Copy,
}

pub fn run(settings: &Restore) -> anyhow::Result<()> {
    let (clock, random) = (Clock::from_environment().map_err(anyhow::Error::msg)?, Random::system());
    let (file, dir) = (&settings.file, absolute(&settings.data_dir)?);
    let sealed = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    check_empty(&dir)?;
    let pieces = sealed::open(&sealed, &settings.passphrase.known()?);
    let opened = Opened::new(pieces.map_err(|why| anyhow::anyhow!("{} {why}", file.display()))?)?;
    drop(sealed);
    check_alone(&opened.about.instance, &dir)?;
    opened.write(&dir, &clock, &random)?;
    let About { instance, made, objects, node, volumes, .. } = &opened.about;
    println!("instance {instance} as it was at {made}: {objects} objects");
    println!("missing: images; import those that no registry has");
    if !volumes.is_empty() {
        println!("missing: what was on the persistent volumes {}; their disks begin empty", volumes.join(", "));
    }
    let name = node.as_ref().map_or_else(String::new, |name| format!(" --name {name}"));
    println!("start it with the options that it had: corten up --data-dir {}{name}", dir.display());
    Ok(())
}

/// Only an empty place is taken.
fn check_empty(dir: &Path) -> anyhow::Result<()> {
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("{} cannot be restored into", dir.display()))?,
    };
    ensure!(
        entries.next().is_none(),
        "{} is not empty; choose another place with --data-dir, or take away what is there with `corten purge`",
        dir.display()
    );
    Ok(())
}

/// Two of one instance on one server would be in each other's way.
fn check_alone(instance: &str, dir: &Path) -> anyhow::Result<()> {
    let place = Ranges::place_of(instance).context("the cortens on this server")?.filter(|place| place != dir);
    if let Some(place) = place {
        anyhow::bail!(
            "the instance {instance} is on this server already, in {0}; end it and run `corten purge --data-dir {0}` first",
            place.display()
        );
    }
    Ok(())
}

impl Opened {
    fn new(pieces: Vec<sealed::Piece>) -> anyhow::Result<Self> {
        let mut pieces = pieces.into_iter();
        let about = pieces.next().filter(|piece| piece.name == ABOUT).context("the backup says nothing of itself")?;
        let about: About = serde_json::from_slice(&about.bytes).context("what the backup says of itself")?;
        let mut copy = Copy { revision: about.revision, objects: Vec::new() };
        let mut files = Vec::new();
        for piece in pieces {
            if piece.name == OBJECTS {
                copy.add(&piece.bytes)?;
            } else {
                ensure!(is_ours(&piece.name), "the backup has a file {:?}, which corten does not know", piece.name);
                files.push((piece.name, piece.bytes));
            }
        }
        ensure!(
            copy.objects.len() == about.objects,
            "the backup has {} of {} objects",
            copy.objects.len(),
            about.objects
        );
        let opened = Self { about, files, copy };
        let keys = opened.text("keys")?;
        Keyring::parse(keys).context("the keys in the backup")?;
        ensure!(
            opened.text("instance")?.trim() == opened.about.instance,
            "the backup is of another instance than it says"
        );
        Ok(opened)
    }

    fn text(&self, name: &str) -> anyhow::Result<&str> {
        let file = self.files.iter().find(|(known, _)| known == name);
        let (_, bytes) = file.with_context(|| format!("the backup has no file `{name}`"))?;
        Ok(std::str::from_utf8(bytes)?)
    }

    /// Makes the directory beside its place, then puts it there.
    fn write(&self, dir: &Path, clock: &Clock, random: &Random) -> anyhow::Result<()> {
        let beside = dir.with_added_extension("restoring");
        let parent = dir.parent().with_context(|| format!("{} cannot be restored into", dir.display()))?;
        DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(|| cannot("make", parent))?;
        // A restore that was cut short has left it.
        match fs::remove_dir_all(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| cannot("remove", &beside))?
            }
            _ => {}
        }
        let written = self.fill(&beside, clock, random).and_then(|()| {
            fs::rename(&beside, dir).with_context(|| {
                format!("{}; if it is the root of a disk, restore into a folder on it", cannot("make", dir))
            })?;
            Ok(File::open(parent)?.sync_all()?)
        });
        if written.is_err() && beside.exists() {
            fs::remove_dir_all(&beside).with_context(|| cannot("remove", &beside))?;
        }
        written
    }

    fn fill(&self, dir: &Path, clock: &Clock, random: &Random) -> anyhow::Result<()> {
        DirBuilder::new().mode(0o700).create(dir).with_context(|| cannot("make", dir))?;
        write_private(&dir.join("instance"), self.text("instance")?.as_bytes())?;
        // Layout, lock, folders, and whether there is room.
        let opened = DataDir::open(dir, random)?;
        for (name, bytes) in &self.files {
            write_private(&opened.join(name), bytes)?;
        }
        let revision = store::make(&opened.join("store"), &self.copy, clock.clone(), random)?;
        tracing::debug!(revision, "made the store");
        Ok(())
    }
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

/// Whether a backup may have a file of this name.
fn is_ours(name: &str) -> bool {
    FILES.contains(&name) || name.strip_prefix(PKI).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_plain)
}
