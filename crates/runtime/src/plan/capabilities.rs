//! Capabilities by name, capabilities(7): the default set, with some added and some dropped.

use crate::engine::EngineError;
use crate::spec::Security;

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container may do unless its pod says otherwise.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Every capability that this program knows.
pub(super) const ALL: u64 = (1 << NAMES.len()) - 1;

/// Of the mask with bit n for capability n. `ALL` comes first, on either side: what is named beside it has the last word.
pub(super) fn chosen(security: &Security) -> Result<u64, EngineError> {
    if security.privileged {
        return Ok(ALL);
    }
    let has_all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let mut set = match (has_all(&security.add_capabilities), has_all(&security.drop_capabilities)) {
        (true, _) => ALL,
        (false, true) => 0,
        (false, false) => DEFAULT.iter().try_fold(0, |set, name| Ok(set | bit(name)?))?,
    };
    for name in named(&security.add_capabilities) {
        set |= bit(name)?;
    }
    for name in named(&security.drop_capabilities) {
        set &= !bit(name)?;
    }
    Ok(set)
}

fn named(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().map(String::as_str).filter(|name| !name.eq_ignore_ascii_case("ALL"))
}

/// The bit of a name, with or without the prefix, in either case.
pub(crate) fn bit(name: &str) -> Result<u64, EngineError> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES.iter().position(|known| *known == bare);
    number.map(|number| 1 << number).ok_or_else(|| EngineError::Invalid(format!("unknown capability \"CAP_{bare}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(add: &[&str], drop: &[&str], expected: u64) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = Security { add_capabilities: owned(add), drop_capabilities: owned(drop), ..Security::default() };
        assert_eq!(chosen(&security), Ok(expected), "{:x}", chosen(&security).unwrap_or_default());
    }

    #[test]
    fn named_ones_have_the_last_word() {
        const DOCUMENTED: u64 = 0xa804_25fb;
        check(&[], &[], DOCUMENTED);
        check(&["NET_ADMIN"], &["CAP_CHOWN"], (DOCUMENTED | 1 << 12) & !1);
        check(&[], &["ALL"], 0);
        check(&["net_bind_service"], &["ALL"], 1 << 10);
        check(&["ALL"], &["SYS_ADMIN"], ALL & !(1 << 21));
        check(&["ALL"], &["ALL"], ALL);
        let privileged = Security { privileged: true, ..Security::default() };
        assert_eq!(chosen(&privileged), Ok(0x01ff_ffff_ffff));
        let wrong = Security { add_capabilities: vec!["FLY".to_owned()], ..Security::default() };
        assert_eq!(chosen(&wrong), Err(EngineError::Invalid("unknown capability \"CAP_FLY\"".to_owned())));
    }
}
