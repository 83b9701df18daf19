//! Debian's own kernel for the guest, taken out of its package: nothing is installed. It is fetched once a machine; who
//! wants a newer one removes the folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The package that depends on the newest kernel for virtual machines.
const NEWEST: &str = "linux-image-cloud-amd64";

/// What a kernel's package is called.
const PREFIX: &str = "linux-image-";

/// A kernel, unpacked.
pub(super) struct Kernel {
    pub(super) version: String,
    folder: PathBuf,
}

impl Kernel {
    /// The one that is there, else the newest that apt offers.
    pub(super) fn get() -> Result<Self> {
        let cache = cache()?;
        fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
        if let Some(kernel) = Self::unpacked(&cache)? {
            return Ok(kernel);
        }
        println!("fetching Debian's kernel for the guest");
        let package = fetched(&cache)?;
        Self::unpacked(&cache)?.with_context(|| format!("{package} has no kernel in it"))
    }

    fn unpacked(cache: &Path) -> Result<Option<Self>> {
        for entry in fs::read_dir(cache)? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(version) = name.strip_prefix(PREFIX) else { continue };
            let kernel = Self { version: version.to_owned(), folder };
            if kernel.image().is_file() && kernel.modules().is_dir() {
                return Ok(Some(kernel));
            }
        }
        Ok(None)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.folder.join("boot").join(format!("vmlinuz-{}", self.version))
    }

    /// The folder that `/lib/modules/VERSION` is.
    pub(super) fn modules(&self) -> PathBuf {
        self.folder.join("lib/modules").join(&self.version)
    }
}

fn cache() -> Result<PathBuf> {
    let own = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let usual = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Ok(own.or_else(usual).context("neither XDG_CACHE_HOME nor HOME is set")?.join("corten-guest"))
}

/// Downloads and unpacks the newest kernel. Lists of packages that are too old are renewed.
fn fetched(cache: &Path) -> Result<String> {
    let work = tempfile::tempdir_in(cache)?;
    let package = match downloaded(work.path()) {
        Ok(package) => package,
        Err(_) => {
            output(Command::new("apt-get").args(["update", "-qq"]))?;
            downloaded(work.path()).context("the guest needs a kernel from Debian's archive")?
        }
    };
    let archives = fs::read_dir(work.path())?.collect::<Result<Vec<_>, _>>()?;
    let archive = archives.first().context("apt-get download leaves a file")?.path();
    let files = work.path().join("files");
    output(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&files))?;
    fs::rename(&files, cache.join(&package)).with_context(|| format!("{package} cannot be put into place"))?;
    Ok(package)
}

fn downloaded(into: &Path) -> Result<String> {
    let depends = output(Command::new("apt-cache").args(["depends", NEWEST]))?;
    let named = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = named.filter(|name| name.starts_with(PREFIX)).with_context(|| format!("apt knows no {NEWEST}"))?;
    // As root, without the user that apt otherwise takes, who may not write here.
    output(
        Command::new("apt-get").args(["download", "-qq", "-o", "APT::Sandbox::User=root", package]).current_dir(into),
    )?;
    Ok(package.to_owned())
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
