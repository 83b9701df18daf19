//! Profile files: the JSON of the OCI runtime specification, with the conditions that engines have added to it.

use serde::Deserialize;

use super::table::Arch;
use super::{Action, Compare, NOT_PERMITTED, Profile, Rule, Test};
use crate::plan::capability;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<Architecture>,
    #[serde(default)]
    syscalls: Vec<Calls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    name: String,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Condition,
    #[serde(default)]
    excludes: Condition,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Every kernel that we run on is newer than any `minKernel` in use, so that one is not read.
#[derive(Deserialize, Default)]
struct Condition {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

impl Condition {
    /// Whether all of it holds.
    fn holds(&self, arch: Arch, capabilities: u64) -> Result<bool, String> {
        let mut caps = true;
        for name in &self.caps {
            caps &= capability(name).map_err(|error| error.to_string())? & capabilities != 0;
        }
        Ok(caps && (self.arches.is_empty() || self.names(arch)))
    }

    /// Whether any of it holds.
    fn strikes(&self, arch: Arch, capabilities: u64) -> Result<bool, String> {
        let mut strikes = self.names(arch);
        for name in &self.caps {
            strikes |= capability(name).map_err(|error| error.to_string())? & capabilities != 0;
        }
        Ok(strikes)
    }

    fn names(&self, arch: Arch) -> bool {
        self.arches.iter().any(|name| name == arch.condition())
    }
}

pub(super) fn parse(bytes: &[u8], capabilities: u64) -> Result<Profile, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let native = Arch::native_and_compatible()[0];
    let mut rules = Vec::new();
    for mut calls in file.syscalls {
        if !calls.includes.holds(native, capabilities)? || calls.excludes.strikes(native, capabilities)? {
            continue;
        }
        if !calls.name.is_empty() {
            calls.names.push(calls.name);
        }
        let action = action(&calls.action, calls.errno_ret)?;
        let tests = calls.args.unwrap_or_default().iter().map(test).collect::<Result<Vec<_>, _>>()?;
        rules.extend(split(calls.names, tests, action));
    }
    let mut arches: Vec<Arch> = file.architectures.iter().filter_map(|name| Arch::named(name)).collect();
    let mapped = file.arch_map.iter().filter(|row| Arch::named(&row.architecture) == Some(native));
    let mapped = mapped.flat_map(|row| row.sub_architectures.iter().flatten());
    arches.extend(mapped.filter_map(|name| Arch::named(name)));
    // The machine's own is always meant.
    arches.insert(0, native);
    arches.retain(|arch| Arch::native_and_compatible().contains(arch));
    let mut seen = Vec::new();
    arches.retain(|arch| {
        let new = !seen.contains(arch);
        seen.push(*arch);
        new
    });
    Ok(Profile { rules, otherwise: action(&file.default_action, file.default_errno_ret)?, arches })
}

/// Several tests of one argument are alternatives, as they always were in these files.
fn split(names: Vec<String>, tests: Vec<Test>, action: Action) -> Vec<Rule> {
    let mut places: Vec<u32> = tests.iter().map(|test| test.argument).collect();
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return tests.into_iter().map(|test| Rule { names: names.clone(), tests: vec![test], action }).collect();
    }
    vec![Rule { names, tests, action }]
}

fn action(name: &str, errno: Option<u32>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::ALLOW,
        "SCMP_ACT_ERRNO" => Action::errno(errno.unwrap_or(NOT_PERMITTED)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => Action::KILL_PROCESS,
        "SCMP_ACT_LOG" => Action::LOG,
        "SCMP_ACT_TRAP" => Action::TRAP,
        other => return Err(format!("action {other:?} is not supported")),
    })
}

fn test(argument: &Argument) -> Result<Test, String> {
    let Argument { index, value, value_two, op } = argument;
    if *index > 5 {
        return Err(format!("argument {index} does not exist"));
    }
    let (compare, value) = match op.as_str() {
        "SCMP_CMP_EQ" => (Compare::Equal, *value),
        "SCMP_CMP_NE" => (Compare::NotEqual, *value),
        "SCMP_CMP_LT" => (Compare::Less, *value),
        "SCMP_CMP_LE" => (Compare::LessOrEqual, *value),
        "SCMP_CMP_GT" => (Compare::Greater, *value),
        "SCMP_CMP_GE" => (Compare::GreaterOrEqual, *value),
        "SCMP_CMP_MASKED_EQ" => (Compare::Masked(*value), *value_two),
        other => return Err(format!("operator {other:?} is not known")),
    };
    Ok(Test { argument: *index, compare, value })
}

#[cfg(test)]
mod tests {
    use super::super::program::{compile, run};
    use super::super::table::numbers;
    use super::*;

    const FILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
                    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["umount2"], "action": "SCMP_ACT_LOG", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"name": "prctl", "action": "SCMP_ACT_KILL_PROCESS", "args": [
                {"index": 0, "value": 4, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 255, "valueTwo": 7, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3, "args": [
                {"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 15, "op": "SCMP_CMP_EQ"}]}
        ]}"#;

    #[test]
    fn a_file_says_what_happens() {
        let arch = Arch::native_and_compatible()[0];
        let outcome = |capabilities: u64, name: &str, arguments: [u64; 2]| {
            let program = compile(&parse(FILE.as_bytes(), capabilities).unwrap()).unwrap();
            run(&program, arch, numbers(arch)[name], [arguments[0], arguments[1], 0, 0, 0, 0])
        };
        let refused = Action::errno(38);
        assert_eq!(outcome(0, "read", [0, 0]), Action::ALLOW);
        assert_eq!(outcome(0, "execve", [0, 0]), refused);
        assert_eq!((outcome(0, "mount", [0, 0]), outcome(1 << 21, "mount", [0, 0])), (refused, Action::ALLOW));
        assert_eq!((outcome(0, "umount2", [0, 0]), outcome(1 << 21, "umount2", [0, 0])), (Action::LOG, refused));
        assert_eq!(outcome(0, "prctl", [4, 0xf07]), Action::KILL_PROCESS);
        assert_eq!((outcome(0, "prctl", [3, 7]), outcome(0, "prctl", [5, 8])), (refused, refused));
        assert_eq!(
            [9, 15, 1].map(|signal| outcome(0, "kill", [1, signal])),
            [Action::errno(3), Action::errno(3), refused]
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let wrong = |text: &str| parse(text.as_bytes(), 0).unwrap_err();
        assert!(wrong("{").contains("EOF"));
        assert_eq!(wrong(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#), "action \"SCMP_ACT_NOTIFY\" is not supported");
        let calls = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG",
            "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}"#;
        assert_eq!(wrong(calls), "argument 6 does not exist");
    }
}
