//! The guest's files: busybox, the programs of the test with their libraries, the kernel's modules; packed as the archive that
//! the kernel unpacks into memory.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::kernel::Kernel;

/// What the kernel runs first.
const INIT: &str = include_str!("init.sh");

/// Folders that programs expect.
const FOLDERS: [&str; 13] =
    ["bin", "corten", "dev", "etc", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin", "var/lib"];

/// Tools that busybox has too little of, or not at all.
const TOOLS: [&str; 4] = ["ip", "nft", "runc", "setpriv"];

/// Of the kernel's modules: what may be loaded, by the kernel itself when it is asked for, as on a server.
const MODULES: [&str; 9] = [
    "kernel/arch/x86/crypto",
    "kernel/crypto",
    "kernel/drivers/net/dummy.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/fs/erofs",
    "kernel/fs/overlayfs",
    "kernel/lib",
    "kernel/net",
    "modules.builtin",
];

pub(super) struct Files(TempDir);

impl Files {
    /// With busybox, tools, and the kernel's modules.
    pub(super) fn new(kernel: &Kernel) -> Result<Self> {
        let files = Self(tempfile::tempdir()?);
        for folder in FOLDERS {
            fs::create_dir_all(files.0.path().join(folder))?;
        }
        files.write("init", INIT)?;
        fs::set_permissions(files.place(Path::new("/init")), fs::Permissions::from_mode(0o755))?;
        files.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
        files.write("etc/group", "root:x:0:\nnogroup:x:65534:\n")?;
        for tool in TOOLS {
            files.copy(&found(tool)?)?;
        }
        files.busybox()?;
        files.modules(kernel)?;
        Ok(files)
    }

    /// A file at the same place as here.
    pub(super) fn copy(&self, program: &Path) -> Result<()> {
        self.copy_to(program, program)
    }

    /// A program of somebody else, as it is, with its libraries.
    pub(super) fn copy_to(&self, program: &Path, to: &Path) -> Result<()> {
        let to = self.made(to)?;
        fs::copy(program, &to).with_context(|| program.display().to_string())?;
        self.libraries(program)
    }

    /// A program of ours, without what debuggers read.
    pub(super) fn stripped(&self, program: &Path, to: &Path) -> Result<()> {
        let to = self.made(to)?;
        run(Command::new("strip").arg("-o").arg(to).arg(program))?;
        self.libraries(program)
    }

    /// The archive that the kernel unpacks.
    pub(super) fn pack(&self, archive: &Path) -> Result<()> {
        let script = "set -o pipefail; cd \"$1\"; busybox find . | busybox cpio -o -H newc > \"$2\"";
        run(Command::new("busybox").args(["sh", "-ec", script, "pack"]).arg(self.0.path()).arg(archive))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.0.path().join(name), text).with_context(|| name.to_owned())
    }

    /// Where a path of the guest is here.
    fn place(&self, path: &Path) -> PathBuf {
        self.0.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The same, with its folder made.
    fn made(&self, path: &Path) -> Result<PathBuf> {
        let place = self.place(path);
        fs::create_dir_all(place.parent().context("a file has a folder")?)?;
        Ok(place)
    }

    fn libraries(&self, program: &Path) -> Result<()> {
        let listed = Command::new("ldd").arg(program).output().context("ldd (libc-bin)")?;
        if !listed.status.success() {
            let said = String::from_utf8_lossy(&listed.stderr);
            ensure!(said.contains("not a dynamic executable"), "ldd {}: {}", program.display(), said.trim());
            return Ok(());
        }
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        for library in text.split_whitespace().filter(|word| word.starts_with('/')).map(Path::new) {
            if !self.place(library).exists() {
                fs::copy(library, self.made(library)?).with_context(|| library.display().to_string())?;
            }
        }
        Ok(())
    }

    /// All that it can do, under the names by which it is called. Real tools stay.
    fn busybox(&self) -> Result<()> {
        let busybox = Path::new("/bin/busybox");
        fs::copy(found("busybox")?, self.place(busybox))?;
        let listed = Command::new("busybox").arg("--list").output()?;
        for name in String::from_utf8(listed.stdout)?.lines().filter(|name| *name != "busybox") {
            let real = ["bin", "sbin", "usr/bin", "usr/sbin"].map(|folder| self.0.path().join(folder).join(name));
            if !real.iter().any(|place| place.exists()) {
                symlink(busybox, &real[0])?;
            }
        }
        // Where the kernel looks for it.
        symlink(busybox, self.0.path().join("sbin/modprobe"))?;
        Ok(())
    }

    fn modules(&self, kernel: &Kernel) -> Result<()> {
        let from = kernel.modules();
        let to = Path::new("/lib/modules").join(&kernel.version);
        for part in MODULES {
            copy_tree(&from.join(part), &self.made(&to.join(part))?)?;
        }
        run(Command::new("busybox").args(["depmod", "-b"]).arg(self.0.path()).arg(&kernel.version))
    }
}

/// Modules of a folder with all below it; a kernel may have built in what others load.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::copy(from, to).with_context(|| from.display().to_string())?;
    } else if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Where a tool is, as the shell finds it, and where root has more than others.
fn found(tool: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).chain(more).map(|folder| folder.join(OsStr::new(tool)));
    places.into_iter().find(|place| place.is_file()).with_context(|| format!("{tool} is not there"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}
