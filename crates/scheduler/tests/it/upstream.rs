//! Decisions against what kube-scheduler's own plugins say of the same random clusters. `tests/upstream` has a sample of
//! clusters and the answers of Kubernetes 1.36.3, one a line; another folder can be named by `SCHEDULER_CASES`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_apimachinery::value::Value as Object;
use corten_scheduler::{Budget, NodeChange, Pod, Snapshot, Unschedulable, decode, explain, preempt, schedule};
use serde_json::Value;

use crate::cluster::{read, snapshot, value};

type Scores = BTreeMap<String, BTreeMap<String, i64>>;

fn lines(file: &str) -> Vec<Value> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upstream");
    let folder = std::env::var_os("SCHEDULER_CASES").map_or(sample, PathBuf::from);
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn list<'a>(case: &'a Value, field: &str) -> &'a [Value] {
    case[field].as_array().map_or(&[], Vec::as_slice)
}

fn cluster(case: &Value) -> Snapshot {
    let mut cluster = snapshot(list(case, "nodes"), list(case, "pods"));
    for namespace in list(case, "namespaces") {
        let object = value(namespace);
        let labels = decode::labels(object.at(&["metadata", "labels"]));
        cluster.apply(NodeChange::Namespace(object.str_at(&["metadata", "name"]).into(), labels));
    }
    cluster
}

/// The pod, with the selector of the services that select it.
fn incoming(case: &Value) -> Pod {
    let pod = read(&case["pod"]);
    let services: Vec<Object> = list(case, "services").iter().map(value).collect();
    let selecting = services.iter().filter(|service| service.str_at(&["metadata", "namespace"]) == pod.peer.namespace);
    let selectors: Vec<_> = selecting.map(|service| decode::labels(service.at(&["spec", "selector"]))).collect();
    let matching = selectors.iter().filter(|selector| selector.iter().all(|pair| pod.peer.labels.contains(pair)));
    Pod { siblings: decode::siblings(matching, None), ..(*pod).clone() }
}

/// Scores other than zero, by node and plugin: a plugin that has nothing to say is absent on one side and zero on the other.
fn scores(cluster: &Snapshot, pod: &Pod) -> Scores {
    let verdicts = explain(cluster, pod).unwrap();
    let feasible = verdicts.into_iter().filter_map(|verdict| Some((verdict.node.to_string(), verdict.outcome.ok()?)));
    let named = |(plugin, score)| (format!("{plugin:?}"), score);
    let others = |(_, score): &(String, i64)| *score != 0;
    feasible.map(|(node, scores)| (node, scores.into_iter().map(named).filter(others).collect())).collect()
}

fn expected_scores(answer: &Value) -> Scores {
    let mut scores: Scores = serde_json::from_value(answer["scores"].clone()).unwrap();
    scores.values_mut().for_each(|plugins| plugins.retain(|_, score| *score != 0));
    scores
}

fn budgets(case: &Value) -> Vec<Budget> {
    list(case, "budgets").iter().map(|budget| decode::budget(&value(budget)).unwrap()).collect()
}

/// Each node alone tells its victims.
fn check_victims(case: &Value, answer: &Value, pod: &Pod, failure: &Unschedulable) {
    let cluster = cluster(case);
    let expected: BTreeMap<String, Vec<String>> = serde_json::from_value(answer["victims"].clone()).unwrap();
    let budgets = budgets(case);
    let preemption = preempt(&cluster, pod, failure, &budgets, 3);
    let eligible = !matches!(preemption, Err(corten_scheduler::NoPreemption::Policy));
    match preemption {
        Ok(preemption) => {
            let victims: BTreeSet<&str> = preemption.victims.iter().map(|victim| victim.name.as_str()).collect();
            let theirs = &expected[preemption.node.as_str()];
            assert_eq!(victims, theirs.iter().map(String::as_str).collect::<BTreeSet<_>>(), "{}", case["pod"]);
            assert_eq!(answer["chosen"], *preemption.node, "{victims:?} of {expected:?}");
        }
        Err(none) if expected.is_empty() => assert_eq!(failure.text_with(&none), answer["text"], "{}", case["pod"]),
        Err(none) => assert!(!eligible, "{none} but {expected:?} for {}", case["pod"]),
    }
}

#[test]
fn decisions_are_those_of_upstream() {
    let (cases, answers) = (lines("cases.jsonl"), lines("answers.jsonl"));
    assert_eq!(cases.len(), answers.len());
    for (at, (case, answer)) in cases.iter().zip(&answers).enumerate() {
        let (cluster, pod) = (cluster(case), Arc::new(incoming(case)));
        match schedule(&cluster, &pod, 3) {
            Ok(placement) => {
                assert_eq!(scores(&cluster, &pod), expected_scores(answer), "case {at}: {}", case["pod"]);
                let totals = answer["totals"].as_object().unwrap();
                let best = totals.values().map(|total| total.as_i64().unwrap()).max();
                assert_eq!(totals[placement.node.as_str()].as_i64(), best, "case {at}: not one of the best");
            }
            Err(failure) => {
                assert!(
                    answer["scores"].as_object().unwrap().is_empty(),
                    "case {at}: {} {answer} {}",
                    failure.text(),
                    case["pod"]
                );
                check_victims(case, answer, &pod, &failure);
                let text = answer["text"].as_str().unwrap();
                assert!(text.starts_with(&failure.text()), "case {at}: {text} is not {}", failure.text());
            }
        }
    }
}
