//! Jobs and cron jobs.

use super::{kind, validate, with};

const JOB: &str = r#"{"metadata":{"name":"j","uid":"u"},"spec":{"manualSelector":true,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#;
const CRON: &str = r#"{"metadata":{"name":"j"},"spec":{"schedule":"* * * * *","jobTemplate":{"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}}}"#;

fn job(fields: &str) -> String {
    with(JOB, r#""spec":{"#, &format!(r#""spec":{{{fields},"#))
}

#[track_caller]
fn more(fields: &str, expect: &[&str]) {
    validate(kind("batch/v1", "Job"), &job(fields), None, "", expect);
}

#[test]
fn jobs() {
    more(r#""completions":1"#, &[]);
    more(r#""backoffLimit":-1"#, &["spec.backoffLimit: Invalid value: -1: must be greater than or equal to 0"]);
    more(
        r#""completionMode":"Indexed","parallelism":2"#,
        &["spec.completions: Required value: when completion mode is Indexed"],
    );
    more(
        r#""completionMode":"X""#,
        &[r#"spec.completionMode: Unsupported value: "X": supported values: "NonIndexed", "Indexed""#],
    );
    more(
        r#""maxFailedIndexes":1"#,
        &[
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
        ],
    );
    more(
        r#""successPolicy":{"rules":[{"succeededCount":1}]}"#,
        &[
            r#"spec.successPolicy: Invalid value: {"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}: requires indexed completion mode"#,
        ],
    );
    more(
        r#""podFailurePolicy":{"rules":[{"action":"X","onExitCodes":{"operator":"In","values":[2,0,2],"containerName":"d"}},{"action":""}]}"#,
        &[
            r#"spec.podFailurePolicy.rules[0].action: Unsupported value: "X": supported values: "Count", "FailIndex", "FailJob", "Ignore""#,
            r#"spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "d": must be one of the container or initContainer names in the pod template"#,
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[2]: Duplicate value: 2",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0,2]: must be ordered",
            r#"spec.podFailurePolicy.rules[1].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#,
            "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
    let always = with(JOB, r#""restartPolicy":"Never","#, "");
    validate(
        kind("batch/v1", "Job"),
        &always,
        None,
        "",
        &[r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#],
    );
}

#[test]
fn a_job_selects_its_own_pods() {
    let own = with(JOB, r#""manualSelector":true,"#, "");
    validate(
        kind("batch/v1", "Job"),
        &own,
        None,
        "",
        &[
            "spec.template.metadata.labels[controller-uid]: Required value: must be 'u'",
            "spec.template.metadata.labels[job-name]: Required value: must be 'j'",
            "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]: Required value: must be 'u'",
            "spec.template.metadata.labels[batch.kubernetes.io/job-name]: Required value: must be 'j'",
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated",
        ],
    );
}

#[test]
fn what_stays_of_a_job() {
    validate(
        kind("batch/v1", "Job"),
        &job(r#""completions":2"#),
        Some(&job(r#""completions":1"#)),
        "",
        &["spec.completions: Invalid value: 2: field is immutable"],
    );
    let suspended = job(r#""suspend":true"#);
    let gated = with(&suspended, r#""restartPolicy""#, r#""nodeSelector":{"a":"b"},"restartPolicy""#);
    validate(kind("batch/v1", "Job"), &gated, Some(&suspended), "", &[]);
}

#[test]
fn states_of_jobs() {
    let status = |status: &str| with(JOB, r#""spec":"#, &format!(r#""status":{status},"spec":"#));
    let check = |new: &str, old: &str, expect: &[&str]| {
        validate(kind("batch/v1", "Job"), &status(new), Some(&status(old)), "status", expect);
    };
    check("{}", r#"{"failed":2}"#, &["status.failed: Invalid value: 0: cannot decrease the failed counter"]);
    check(
        r#"{"conditions":[{"type":"Complete","status":"True"}]}"#,
        "{}",
        &[
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.startTime: Required value: startTime is required for finished job",
        ],
    );
    check(
        r#"{"completedIndexes":"0"}"#,
        "{}",
        &[
            r#"status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode"#,
        ],
    );
}

#[test]
fn cron_jobs() {
    let check = |part: &str, instead: &str, expect: &[&str]| {
        validate(kind("batch/v1", "CronJob"), &with(CRON, part, instead), None, "", expect);
    };
    check("* * * * *", "*/5 * * * 1-5", &[]);
    check("* * * * *", "", &["spec.schedule: Required value"]);
    check("* * * * *", "x", &[r#"spec.schedule: Invalid value: "x": expected exactly 5 fields, found 1: [x]"#]);
    check(
        "* * * * *",
        "TZ=UTC * * * * *",
        &[
            r#"spec.schedule: Invalid value: "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#,
        ],
    );
    check(
        r#""schedule""#,
        r#""timeZone":"","schedule""#,
        &[r#"spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string"#],
    );
    check(
        r#""schedule""#,
        r#""timeZone":"../etc","schedule""#,
        &[r#"spec.timeZone: Invalid value: "../etc": unknown time zone ../etc"#],
    );
    check(
        r#""schedule""#,
        r#""concurrencyPolicy":"X","schedule""#,
        &[r#"spec.concurrencyPolicy: Unsupported value: "X": supported values: "Allow", "Forbid", "Replace""#],
    );
    let long = "n".repeat(53);
    check(
        r#""name":"j""#,
        &format!(r#""name":"{long}""#),
        &[&format!("metadata.name: Invalid value: \"{long}\": must be no more than 52 characters")],
    );
}
