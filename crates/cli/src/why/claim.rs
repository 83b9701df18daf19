//! Why a claim has no volume.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, event, held, list, some};

const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";

/// What blocks a claim, by the classes there are, the pods of its namespace and its events.
pub(crate) fn explain(claim: &Value, classes: &[Value], pods: &[Value], events: &[Value]) -> Vec<Finding> {
    let (name, namespace) = (Meta::of(claim).name(), Meta::of(claim).namespace());
    let users: Vec<String> =
        pods.iter().filter(|pod| uses(pod, name)).map(|pod| Meta::of(pod).name().to_owned()).collect();
    if let Some(held) = held(claim) {
        let finding = match users.is_empty() {
            true => held,
            false => Finding { fact: format!("{}\npods use it: {}", held.fact, some(&users)), ..held },
        };
        return vec![finding.then(format!("kubectl describe pvc {name} -n {namespace}"))];
    }
    match claim.str_at(&["status", "phase"]) {
        "Bound" => return Vec::new(),
        "Lost" => {
            let volume = claim.str_at(&["spec", "volumeName"]);
            return vec![Finding::new(format!("its volume {volume} is gone")).then(format!("kubectl get pv {volume}"))];
        }
        _ => {}
    }
    let next = "kubectl get storageclasses";
    let describe = format!("kubectl describe pvc {name} -n {namespace}");
    let known: Vec<String> = classes.iter().map(|class| Meta::of(class).name().to_owned()).collect();
    let there = if known.is_empty() { "there is none".to_owned() } else { format!("there are: {}", some(&known)) };
    let class = match claim.at(&["spec", "storageClassName"]).and_then(Value::as_str) {
        Some("") => {
            let fact = "it asks for no class, and no volume that is free fits it";
            return vec![Finding::new(fact).then("kubectl get pv")];
        }
        Some(class) => class,
        None if classes.iter().any(|class| Meta::of(class).annotation(DEFAULT) == Some("true")) => {
            return vec![Finding::new("it names no class and has not been given the default one yet").then(describe)];
        }
        None => {
            return vec![Finding::new(format!("it names no class, and none is the default; {there}")).then(next)];
        }
    };
    let Some(found) = classes.iter().find(|found| Meta::of(found).name() == class) else {
        return vec![Finding::new(format!("its class {class} is not there; {there}")).then(next)];
    };
    if let Some(message) = event(events, &["ProvisioningFailed", "FailedBinding", "VolumeMismatch"]) {
        return vec![Finding::new(format!("no volume could be made for it: {message}")).then(describe)];
    }
    if found.str_at(&["volumeBindingMode"]) == "WaitForFirstConsumer" {
        let Some(user) = users.first() else {
            let fact = "it gets its volume when the first pod uses it, and none does (WaitForFirstConsumer)";
            return vec![Finding::new(fact).then(describe)];
        };
        let fact = format!("it gets its volume when a server is chosen for {user}, which uses it");
        return vec![Finding::new(fact).then(format!("corten why pod/{user} -n {namespace}"))];
    }
    let provisioner = found.str_at(&["provisioner"]);
    vec![Finding::new(format!("{provisioner} has made no volume for it yet")).then(describe)]
}

/// Whether a pod that has not ended uses a claim.
fn uses(pod: &Value, claim: &str) -> bool {
    let over = matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed");
    let volumes = list(pod, &["spec", "volumes"]);
    !over && volumes.iter().any(|volume| volume.str_at(&["persistentVolumeClaim", "claimName"]) == claim)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[track_caller]
    fn check(class: Option<&str>, phase: &str, classes: &[&str], events: &[Value], users: bool, expect: &str) {
        let mut claim = value!({"metadata": {"name": "data", "namespace": "shop"},
            "spec": {"volumeName": "v"}, "status": {"phase": phase}});
        if let Some(class) = class {
            claim.object_entry("spec").insert("storageClassName", class);
        }
        let class = |name: &&str| {
            value!({"metadata": {"name": (*name)}, "provisioner": "corten.dev/local",
                "volumeBindingMode": (if *name == "late" { "WaitForFirstConsumer" } else { "Immediate" })})
        };
        let classes: Vec<Value> = classes.iter().map(class).collect();
        let volumes = value!([{"persistentVolumeClaim": {"claimName": "data"}}]);
        let pod = value!({"metadata": {"name": "db-0"}, "spec": {"volumes": volumes}});
        let pods = if users { vec![pod] } else { Vec::new() };
        let found = explain(&claim, &classes, &pods, events);
        assert_eq!(found.first().map(|finding| finding.fact.as_str()).unwrap_or_default(), expect);
    }

    #[test]
    fn what_blocks_a_claim_is_named() {
        check(Some("local"), "Bound", &["local"], &[], true, "");
        check(Some("local"), "Lost", &["local"], &[], true, "its volume v is gone");
        check(Some("fast"), "Pending", &["local"], &[], true, "its class fast is not there; there are: local");
        check(None, "Pending", &[], &[], true, "it names no class, and none is the default; there is none");
        check(Some(""), "Pending", &[], &[], true, "it asks for no class, and no volume that is free fits it");
        let failed = value!({"reason": "ProvisioningFailed", "message": "the disk is full"});
        check(
            Some("local"),
            "Pending",
            &["local"],
            &[failed],
            true,
            "no volume could be made for it: the disk is full",
        );
        check(
            Some("late"),
            "Pending",
            &["late"],
            &[],
            false,
            "it gets its volume when the first pod uses it, and none does (WaitForFirstConsumer)",
        );
        check(
            Some("late"),
            "Pending",
            &["late"],
            &[],
            true,
            "it gets its volume when a server is chosen for db-0, which uses it",
        );
        check(Some("local"), "Pending", &["local"], &[], true, "corten.dev/local has made no volume for it yet");
    }

    #[test]
    fn a_claim_that_is_held_names_its_users() {
        let claim = value!({"metadata": {"name": "data", "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["kubernetes.io/pvc-protection"]}});
        let volumes = value!([{"persistentVolumeClaim": {"claimName": "data"}}]);
        let pod = value!({"metadata": {"name": "db-0"}, "spec": {"volumes": volumes}});
        let found = explain(&claim, &[], &[pod], &[]);
        assert!(found[0].fact.ends_with("kubernetes.io/pvc-protection\npods use it: db-0"), "{}", found[0].fact);
    }
}
