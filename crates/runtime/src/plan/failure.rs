//! What the pod process could not do, in the words that `kubectl describe` shows.

use std::io;

use corten_podspec::{Failed, Step};

use crate::Error;
use crate::engine::EngineError;

const NOT_FOUND: i32 = 2;
const NO_PERMISSION: i32 = 13;

/// A start that failed: in the program itself, which a shell would give a code, or before it.
pub(crate) fn not_run(error: Error, args: &[String]) -> EngineError {
    match error {
        Error::Failed(failed) if failed.step == Step::Exec => program(&failed, args),
        Error::Failed(failed) if is_the_containers_own(failed.step) => {
            EngineError::NotRun { code: 128, text: format!("error during container init: {}", what(&failed)) }
        }
        other => refused(other),
    }
}

/// Any other request that failed.
pub(crate) fn refused(error: Error) -> EngineError {
    match error {
        Error::Failed(failed) => EngineError::Failed(what(&failed)),
        Error::Message(cause) => EngineError::Invalid(format!("the request cannot be sent: {cause}")),
        other => EngineError::Failed(corten_stdx::error::Chain(&other).to_string()),
    }
}

/// Steps that fail by what the container is, however often they are tried.
const fn is_the_containers_own(step: Step) -> bool {
    matches!(step, Step::Mount | Step::WorkingDirectory | Step::User | Step::Groups | Step::Device)
}

fn program(failed: &Failed, args: &[String]) -> EngineError {
    let name = args.first().map_or("", String::as_str);
    let has_slash = name.contains('/');
    let (code, cause) = match failed.errno {
        NOT_FOUND if has_slash => (127, format!("stat {name}: no such file or directory")),
        NOT_FOUND => (127, "executable file not found in $PATH".to_owned()),
        NO_PERMISSION => (126, "permission denied".to_owned()),
        errno => (126, text(errno)),
    };
    EngineError::NotRun { code, text: format!("error during container init: exec: {name:?}: {cause}") }
}

fn what(failed: &Failed) -> String {
    let step = match failed.step {
        Step::Mount => "mounting",
        Step::Root => "preparing the root file system from",
        Step::WorkingDirectory => "changing to working directory",
        Step::Cgroup => "joining control group",
        Step::Log => "opening log",
        Step::Sysctl => "setting sysctl",
        Step::Seccomp => "loading the seccomp filter",
        other => return format!("{other:?} {}: {}", failed.about, text(failed.errno)),
    };
    format!("{step} {:?}: {}", failed.about, text(failed.errno))
}

/// As C programs print it, in lower case.
fn text(errno: i32) -> String {
    let full = io::Error::from_raw_os_error(errno).to_string();
    let short = full.split(" (os error").next().unwrap_or(&full);
    let mut letters = short.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(step: Step, errno: i32, about: &str, program: &str, expected: (i32, &str)) {
        let failed = Failed { step, errno, about: about.to_owned() };
        let error = not_run(Error::Failed(failed), &[program.to_owned()]);
        assert_eq!(error, EngineError::NotRun { code: expected.0, text: expected.1.to_owned() });
    }

    #[test]
    fn users_read_what_they_know_from_elsewhere() {
        let prefix = "error during container init: ";
        let text = |rest: &str| format!("{prefix}{rest}");
        check(Step::Exec, 2, "sh", "sh", (127, &text("exec: \"sh\": executable file not found in $PATH")));
        check(Step::Exec, 2, "/x", "/x", (127, &text("exec: \"/x\": stat /x: no such file or directory")));
        check(Step::Exec, 13, "/x", "/x", (126, &text("exec: \"/x\": permission denied")));
        check(Step::Exec, 8, "/x", "/x", (126, &text("exec: \"/x\": exec format error")));
        let cwd = text("changing to working directory \"/etc/passwd\": not a directory");
        check(Step::WorkingDirectory, 20, "/etc/passwd", "sh", (128, &cwd));
    }
}
