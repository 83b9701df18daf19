//! The last steps of every child: limits, identity, capabilities, filter, program.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use corten_podspec::{Credentials, Failed, Step};

use crate::child::{Failing, live_with_parent};
use crate::sys;

/// Where a program without a slash is looked for when the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program. Returns only with what failed.
pub(crate) fn become_program(plan: &Credentials, report: &OwnedFd) -> Failed {
    match prepare(plan, report) {
        Ok(()) => execute(plan),
        Err(failed) => failed,
    }
}

/// Takes the identity and the limits of a plan. The program is what is left.
pub(crate) fn prepare(plan: &Credentials, report: &OwnedFd) -> Result<(), Failed> {
    for limit in &plan.rlimits {
        let about = || limit.resource.to_string();
        sys::set_limit(limit.resource, limit.soft, limit.hard).failing(Step::Limits, about)?;
    }
    sys::bound_capabilities(plan.bounding).failing(Step::Capabilities, || "bounding".to_owned())?;
    if !plan.no_new_privs {
        // Without no_new_privs a filter needs CAP_SYS_ADMIN, which is about to go.
        filter(plan)?;
    }
    sys::set_groups(&plan.groups).failing(Step::Groups, String::new)?;
    sys::set_ids(plan.uid, plan.gid).failing(Step::User, || plan.uid.to_string())?;
    // The kernel forgets the parent-death signal when the identity changes.
    live_with_parent(report)?;
    sys::set_capabilities(plan.effective, plan.permitted, plan.inheritable).failing(Step::Capabilities, String::new)?;
    sys::raise_ambient(plan.ambient).failing(Step::Capabilities, || "ambient".to_owned())?;
    live_with_parent(report)?;
    let cwd = if plan.cwd.is_empty() { c"/" } else { plan.cwd.as_c_str() };
    sys::change_directory(cwd).failing(Step::WorkingDirectory, || text(cwd))?;
    sys::set_umask(if plan.umask == 0 { 0o22 } else { plan.umask });
    sys::reset_signals().failing(Step::Signal, String::new)?;
    if plan.no_new_privs {
        sys::no_new_privileges().failing(Step::NoNewPrivileges, String::new)?;
        filter(plan)?;
    }
    Ok(())
}

fn filter(plan: &Credentials) -> Result<(), Failed> {
    if plan.seccomp.is_empty() {
        return Ok(());
    }
    sys::load_filter(&plan.seccomp).failing(Step::Seccomp, String::new)
}

fn execute(plan: &Credentials) -> Failed {
    let Some(program) = plan.args.first() else {
        return Failed { step: Step::Exec, errno: libc::EINVAL, about: "no program".to_owned() };
    };
    let mut errno = libc::ENOENT;
    for candidate in candidates(program, &plan.env) {
        let error = sys::errno(&sys::execute(&candidate, &plan.args, &plan.env));
        if error != libc::ENOENT && error != libc::ENOTDIR {
            errno = error;
        }
    }
    Failed { step: Step::Exec, errno, about: text(program) }
}

/// The program itself if it has a slash, else one place for each folder of PATH.
fn candidates(program: &CStr, env: &[CString]) -> Vec<CString> {
    if program.to_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = env.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
    let folders = path.split(|byte| *byte == b':').filter(|folder| !folder.is_empty());
    folders.filter_map(|folder| CString::new([folder, b"/", program.to_bytes()].concat()).ok()).collect()
}

pub(crate) fn text(path: &CStr) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_path() {
        let env = [c"A=b".to_owned(), c"PATH=/x::/y".to_owned()];
        assert_eq!(candidates(c"sh", &env), [c"/x/sh".to_owned(), c"/y/sh".to_owned()]);
        assert_eq!(candidates(c"./sh", &env), [c"./sh".to_owned()]);
        assert_eq!(candidates(c"sh", &[]).len(), 6);
    }
}
