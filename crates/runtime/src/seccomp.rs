//! The filter of system calls: profiles, the default one and those of files, and the programs that the kernel runs for them.

mod file;
mod program;
mod table;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::EngineError;
use crate::plan::capability;
use crate::spec::Seccomp;

use program::compile;
use table::Arch;

/// A longer profile is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

const NOT_PERMITTED: u32 = 1;
const NOT_IMPLEMENTED: u32 = 38;

/// Namespaces, by the flags of clone(2): a container without SYS_ADMIN makes none.
const NAMESPACES: u64 = 0x7e02_0000;
const VSOCK: u64 = 40;
/// personality(2) that changes nothing of safety: Linux, Linux32, each with or without UNAME26, and the question.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// What happens to a call: the value that a filter returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action(u32);

impl Action {
    const ALLOW: Self = Self(0x7fff_0000);
    const LOG: Self = Self(0x7ffc_0000);
    const TRAP: Self = Self(0x0003_0000);
    const KILL_PROCESS: Self = Self(0x8000_0000);
    const KILL_THREAD: Self = Self(0);

    const fn errno(number: u32) -> Self {
        Self(0x0005_0000 | number & 0xffff)
    }
}

/// A comparison of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Equal after a mask.
    Masked(u64),
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Test {
    /// 0 to 5.
    argument: u32,
    compare: Compare,
    value: u64,
}

/// What happens to some calls if all tests hold.
#[derive(Clone, Debug)]
struct Rule {
    names: Vec<String>,
    tests: Vec<Test>,
    action: Action,
}

/// What happens to each call. Of the rules for a call one without tests decides, then the first whose tests hold.
#[derive(Clone, Debug)]
struct Profile {
    rules: Vec<Rule>,
    otherwise: Action,
    arches: Vec<Arch>,
}

/// Makes filters, and remembers those of the default profile.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<HashMap<u64, Arc<[u8]>>>);

impl Filters {
    /// The program for a container with these capabilities; empty for none. Eight bytes an instruction.
    pub(crate) fn program(&self, wanted: &Seccomp, capabilities: u64) -> Result<Box<[u8]>, EngineError> {
        match wanted {
            Seccomp::Unconfined => Ok(Box::default()),
            Seccomp::RuntimeDefault => self.default_program(capabilities).map(|program| Box::from(&*program)),
            Seccomp::File(path) => {
                let of = |error: String| EngineError::Invalid(format!("seccomp profile {}: {error}", path.display()));
                let profile = file::parse(&read(path).map_err(of)?, capabilities).map_err(of)?;
                Ok(compile(&profile).map_err(of)?.into())
            }
        }
    }

    fn default_program(&self, capabilities: u64) -> Result<Arc<[u8]>, EngineError> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = known.get(&capabilities) {
            return Ok(program.clone());
        }
        let program: Arc<[u8]> = compile(&default_profile(capabilities)?).map_err(EngineError::Failed)?.into();
        known.insert(capabilities, program.clone());
        Ok(program)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("has {length} bytes, at most {FILE_BYTES_MAX} are read"));
    }
    fs::read(path).map_err(|error| error.to_string())
}

/// The profile of every container that does not name another.
fn default_profile(capabilities: u64) -> Result<Profile, EngineError> {
    let mut rules = Vec::new();
    let allowed = |names: Vec<String>, tests| Rule { names, tests, action: Action::ALLOW };
    for row in include_str!("seccomp/default.txt").lines().filter(|row| !row.starts_with('#')) {
        let (needs, names) = row.split_once(' ').unwrap_or((row, ""));
        if needs == "-" || any_of(needs, capabilities)? {
            rules.push(allowed(names.split(' ').map(str::to_owned).collect(), Vec::new()));
        }
    }
    let test = |compare, value| vec![Test { argument: 0, compare, value }];
    let one = |name: &str| vec![name.to_owned()];
    rules.push(allowed(one("socket"), test(Compare::NotEqual, VSOCK)));
    rules.extend(PERSONALITIES.map(|value| allowed(one("personality"), test(Compare::Equal, value))));
    if capability("SYS_ADMIN")? & capabilities == 0 {
        rules.push(allowed(one("clone"), test(Compare::Masked(NAMESPACES), 0)));
        // Its arguments cannot be looked at; the C library falls back to clone.
        let action = Action::errno(NOT_IMPLEMENTED);
        rules.push(Rule { names: one("clone3"), tests: Vec::new(), action });
    }
    Ok(Profile { rules, otherwise: Action::errno(NOT_PERMITTED), arches: Arch::native_and_compatible().to_vec() })
}

fn any_of(names: &str, capabilities: u64) -> Result<bool, EngineError> {
    names.split('|').try_fold(false, |any, name| Ok(any || capability(name)? & capabilities != 0))
}

#[cfg(test)]
mod tests {
    use super::program::run;
    use super::table::numbers;
    use super::*;

    const DEFAULT_SET: u64 = 0xa804_25fb;
    const SYS_ADMIN: u64 = 1 << 21;

    fn outcome(filter: &[u8], arch: Arch, name: &str, arguments: [u64; 6]) -> Action {
        run(filter, arch, numbers(arch)[name], arguments)
    }

    /// What the profile says of a call, found without a program.
    fn meaning(profile: &Profile, name: &str, arguments: [u64; 6]) -> Action {
        let of_name = || profile.rules.iter().filter(|rule| rule.names.iter().any(|known| known == name));
        let holds = |rule: &&Rule| {
            rule.tests.iter().all(|test| {
                let value = arguments[test.argument as usize];
                match test.compare {
                    Compare::Equal => value == test.value,
                    Compare::NotEqual => value != test.value,
                    Compare::Less => value < test.value,
                    Compare::LessOrEqual => value <= test.value,
                    Compare::Greater => value > test.value,
                    Compare::GreaterOrEqual => value >= test.value,
                    Compare::Masked(mask) => value & mask == test.value,
                }
            })
        };
        let plain = of_name().find(|rule| rule.tests.is_empty());
        plain.or_else(|| of_name().find(holds)).map_or(profile.otherwise, |rule| rule.action)
    }

    /// Every name of every architecture, with arguments that matter and some that do not.
    #[test]
    fn the_default_program_means_the_default_profile() {
        for capabilities in [0, DEFAULT_SET, DEFAULT_SET | SYS_ADMIN, u64::MAX >> 23] {
            let profile = default_profile(capabilities).unwrap();
            let program = Filters::default().program(&Seccomp::RuntimeDefault, capabilities).unwrap();
            for arch in Arch::native_and_compatible() {
                for name in numbers(*arch).keys() {
                    for first in [0, 1, 2, 8, 40, 0x1000_0000, 0x2_0008, 0xffff_ffff, 1 << 40 | 40, u64::MAX] {
                        let arguments = [first, 3, 0, 0, 0, 0];
                        let expected = meaning(&profile, name, arguments);
                        assert_eq!(outcome(&program, *arch, name, arguments), expected, "{arch:?} {name} {first:x}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_profile_refuses_what_containers_have_no_business_with() {
        let program = Filters::default().program(&Seccomp::RuntimeDefault, DEFAULT_SET).unwrap();
        let arch = Arch::native_and_compatible()[0];
        let of = |name: &str, first: u64| outcome(&program, arch, name, [first, 0, 0, 0, 0, 0]);
        for name in
            ["mount", "bpf", "keyctl", "add_key", "kexec_load", "io_uring_setup", "userfaultfd", "setns", "unshare"]
        {
            assert_eq!(of(name, 0), Action::errno(NOT_PERMITTED), "{name}");
        }
        for name in ["read", "execve", "openat", "exit_group", "chroot", "ptrace"] {
            assert_eq!(of(name, 0), Action::ALLOW, "{name}");
        }
        assert_eq!(of("clone", 0x11), Action::ALLOW);
        assert_eq!(of("clone", 0x1000_0011), Action::errno(NOT_PERMITTED));
        assert_eq!(of("clone3", 0), Action::errno(NOT_IMPLEMENTED));
        assert_eq!((of("socket", 2), of("socket", 40)), (Action::ALLOW, Action::errno(NOT_PERMITTED)));
        // What is newer than the profile is not there, so that programs fall back.
        assert_eq!(run(&program, arch, 1000, [0; 6]), Action::errno(NOT_IMPLEMENTED));
        assert!(program.len() / 8 < 1200, "{} instructions", program.len() / 8);
    }

    #[test]
    fn every_name_of_the_default_profile_is_known() {
        let known = |name: &String| {
            [Arch::X86_64, Arch::I386, Arch::Aarch64].iter().any(|arch| numbers(*arch).contains_key(name.as_str()))
        };
        for rule in default_profile(u64::MAX).unwrap().rules {
            for name in rule.names {
                assert!(known(&name), "{name}");
            }
        }
    }

    #[test]
    fn the_other_architectures_default_profile_is_sound_too() {
        for arch in [Arch::X86_64, Arch::I386, Arch::Aarch64] {
            let profile = Profile { arches: vec![arch], ..default_profile(DEFAULT_SET).unwrap() };
            let program = compile(&profile).unwrap();
            for (name, number) in numbers(arch) {
                let arguments = [0x11, 0, 0, 0, 0, 0];
                assert_eq!(run(&program, arch, *number, arguments), meaning(&profile, name, arguments), "{name}");
            }
        }
    }
}
