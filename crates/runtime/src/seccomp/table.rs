//! System calls by number, for each architecture that a filter can stand for.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Calls above it are newer than the profiles: they are answered as an older kernel would.
const NEWEST: u32 = 469;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arch {
    X86_64,
    I386,
    Aarch64,
}

impl Arch {
    /// As the kernel tells a filter, `AUDIT_ARCH_*`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// The largest number that is not answered as unknown. x86_64's second set of numbers (x32) begins far above.
    pub(super) const fn newest(self) -> u32 {
        NEWEST
    }

    /// Those whose programs this machine can run.
    pub(super) const fn native_and_compatible() -> &'static [Self] {
        if cfg!(target_arch = "x86_64") { &[Self::X86_64, Self::I386] } else { &[Self::Aarch64] }
    }

    /// By the name of profile files; none for one that no machine of ours has.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" => Some(Self::I386),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// By the name of profile files' conditions.
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::I386 => "x86",
            Self::Aarch64 => "arm64",
        }
    }
}

type Numbers = HashMap<&'static str, u32>;

static TABLES: LazyLock<[Numbers; 3]> = LazyLock::new(|| {
    let mut tables = [Numbers::new(), Numbers::new(), Numbers::new()];
    for row in include_str!("syscalls.tsv").lines().filter(|row| !row.starts_with('#')) {
        let mut fields = row.split('\t');
        let name = fields.next().unwrap_or("");
        for (table, field) in tables.iter_mut().zip(fields) {
            if let Ok(number) = field.parse() {
                table.insert(name, number);
            }
        }
    }
    tables
});

pub(super) fn numbers(arch: Arch) -> &'static Numbers {
    match arch {
        Arch::X86_64 => &TABLES[0],
        Arch::I386 => &TABLES[1],
        Arch::Aarch64 => &TABLES[2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        let check = |arch, name: &str, number: u32| assert_eq!(numbers(arch)[name], number, "{arch:?} {name}");
        check(Arch::X86_64, "execve", 59);
        check(Arch::I386, "execve", 11);
        check(Arch::Aarch64, "execve", 221);
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
            check(arch, "clone3", 435);
            assert!(numbers(arch).values().all(|number| *number <= arch.newest()));
        }
        assert!(!numbers(Arch::Aarch64).contains_key("open"));
    }
}
