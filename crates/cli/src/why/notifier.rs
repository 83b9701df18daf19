//! Why nobody is told: a Notifier's target that takes no messages, and silence.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;

use super::finding::{Finding, condition};

/// What keeps a notifier from telling, at a time in Unix seconds.
pub(crate) fn explain(notifier: &Value, now_s: i64) -> Vec<Finding> {
    let (name, namespace) = (Meta::of(notifier).name(), Meta::of(notifier).namespace());
    let mut findings = Vec::new();
    if let Some(failing) = condition(notifier, "Delivering").filter(|one| one.str_at(&["status"]) == "False") {
        let waiting = notifier.i64_at(&["status", "waiting"]).unwrap_or_default();
        let fact = format!("its messages are not delivered ({waiting} news wait): {}", failing.str_at(&["message"]));
        findings.push(Finding::new(fact).then(format!("kubectl describe notifier {name} -n {namespace}")));
    }
    let until = notifier.str_at(&["spec", "silenceUntil"]);
    if Time::parse(until).is_ok_and(|until| until.seconds > now_s) {
        let next = format!(
            "kubectl patch notifier {name} -n {namespace} --type merge -p '{{\"spec\":{{\"silenceUntil\":null}}}}'"
        );
        findings.push(Finding::new(format!("it is silent until {until}")).then(next));
    }
    findings
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn a_notifier_that_tells_nobody_says_why() {
        let facts = |status: &str, silence: Value| -> Vec<String> {
            let condition = value!({"type": "Delivering", "status": status, "message": "the webhook answers 500"});
            let notifier = value!({"metadata": {"name": "ops", "namespace": "kube-system"},
                "spec": {"silenceUntil": silence}, "status": {"waiting": 2, "conditions": [condition]}});
            explain(&notifier, 100).into_iter().map(|finding| finding.fact).collect()
        };
        assert!(facts("True", Value::Null).is_empty());
        assert_eq!(
            facts("False", Value::Null),
            ["its messages are not delivered (2 news wait): the webhook answers 500"]
        );
        assert_eq!(facts("True", "1970-01-01T00:02:00Z".into()), ["it is silent until 1970-01-01T00:02:00Z"]);
        assert!(facts("True", "1970-01-01T00:01:00Z".into()).is_empty());
    }
}
