//! Probes, life cycle hooks and what they do.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;

use super::{At, reasons};

const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// What a container's probes and hooks need to know of the pod.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    pub(crate) grace_period_s: Option<i64>,
    pub(crate) os: Option<&'a str>,
}

pub(crate) fn lifecycle(container: &At<'_>, pod: Pod<'_>, errors: &mut FieldErrors) {
    let Some(at) = container.object("lifecycle") else { return };
    for field in ["postStart", "preStop"] {
        if let Some(hook) = at.object(field) {
            handler(&hook, pod, errors);
        }
    }
    let Some(signal) = at.get("stopSignal") else { return };
    let path = at.path("stopSignal");
    match pod.os {
        None => errors.forbidden(&path, "may not be set for containers with empty `spec.os.name`"),
        Some("windows") => at.one_of("stopSignal", &["SIGKILL", "SIGTERM"], errors),
        Some("linux") if !SIGNALS.contains(&signal.as_str().unwrap_or_default()) => {
            errors.not_supported(&path, signal.clone(), &SIGNALS);
        }
        Some(_) => {}
    }
}

/// All three probes of a container.
pub(crate) fn probes(container: &At<'_>, pod: Pod<'_>, errors: &mut FieldErrors) {
    if let Some(at) = container.object("livenessProbe") {
        probe(&at, pod, errors);
        succeeds_at_once(&at, errors);
    }
    if let Some(at) = container.object("readinessProbe") {
        probe(&at, pod, errors);
        if let Some(period) = at.get("terminationGracePeriodSeconds") {
            let path = at.path("terminationGracePeriodSeconds");
            errors.invalid(&path, period.clone(), "must not be set for readinessProbes");
        }
    }
    if let Some(at) = container.object("startupProbe") {
        probe(&at, pod, errors);
        succeeds_at_once(&at, errors);
    }
}

fn succeeds_at_once(at: &At<'_>, errors: &mut FieldErrors) {
    let threshold = at.int("successThreshold").unwrap_or_default();
    if threshold != 1 {
        errors.invalid(&at.path("successThreshold"), threshold, "must be 1");
    }
}

fn probe(at: &At<'_>, pod: Pod<'_>, errors: &mut FieldErrors) {
    handler(at, pod, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        at.nonnegative(field, errors);
    }
    if let Some(period @ ..=0) = at.int("terminationGracePeriodSeconds") {
        errors.invalid(&at.path("terminationGracePeriodSeconds"), period, "must be greater than 0");
    }
}

fn handler(at: &At<'_>, pod: Pod<'_>, errors: &mut FieldErrors) {
    let mut first = true;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let Some(action) = at.object(kind) else { continue };
        if !std::mem::take(&mut first) {
            errors.forbidden(&action.path, "may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" if action.items("command").is_empty() => errors.required(&action.path("command"), ""),
            "httpGet" => http_get(&action, errors),
            "tcpSocket" | "grpc" => action.port("port", errors),
            "sleep" => sleep(&action, pod, errors),
            _ => {}
        }
    }
    if first {
        errors.required(&at.path, "must specify a handler type");
    }
}

fn http_get(at: &At<'_>, errors: &mut FieldErrors) {
    at.require("path", errors);
    at.port("port", errors);
    let scheme = at.text("scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.not_supported(&at.path("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in at.each("httpHeaders") {
        let name = header.text("name");
        reasons(&at.path("httpHeaders"), name, name::http_header_name(name), errors);
    }
}

fn sleep(at: &At<'_>, pod: Pod<'_>, errors: &mut FieldErrors) {
    let seconds = at.int("seconds").unwrap_or_default();
    if let Some(period) = pod.grace_period_s.filter(|period| !(0..=*period).contains(&seconds)) {
        let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({period})");
        errors.invalid(&at.path, seconds, detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        let pod = Pod { grace_period_s: Some(30), os: None };
        let found = errors(input, |at, errors| {
            lifecycle(at, pod, errors);
            probes(at, pod, errors);
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn a_probe_does_one_thing() {
        let probe = |handler: &str, action: Value| {
            let mut probe = value!({"successThreshold": 1});
            probe.as_object_mut().unwrap().insert(handler, action);
            value!({"livenessProbe": probe})
        };
        check(&probe("exec", value!({"command": ["a"]})), &[]);
        check(&probe("exec", value!({})), &["at.livenessProbe.exec.command: Required value"]);
        check(
            &probe("tcpSocket", value!({"port": 70000})),
            &["at.livenessProbe.tcpSocket.port: Invalid value: 70000: must be between 1 and 65535, inclusive"],
        );
        check(
            &probe("httpGet", value!({"path": "/", "port": "http", "scheme": "FTP"})),
            &[r#"at.livenessProbe.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS""#],
        );
        check(
            &value!({"livenessProbe": {"successThreshold": 2}}),
            &[
                "at.livenessProbe: Required value: must specify a handler type",
                "at.livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        );
        check(
            &value!({"readinessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}, "periodSeconds": (-1)}}),
            &[
                "at.readinessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
                "at.readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        );
    }

    #[test]
    fn hooks() {
        check(&value!({"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}), &[]);
        check(
            &value!({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}, "stopSignal": "SIGTERM"}}),
            &[
                "at.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
                "at.lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`",
            ],
        );
    }

    #[test]
    fn signals_are_sorted_as_the_text_lists_them() {
        assert!(SIGNALS.is_sorted());
    }
}
