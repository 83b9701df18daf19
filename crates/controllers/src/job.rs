//! Runs pods until enough of them have succeeded, or too many have failed (`pkg/controller/job`). Budgets per index and
//! success policies are not there yet.

mod indexes;
mod plan;
mod pods;

use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Patch};
use corten_stdx::clock::Clock;
use futures_util::future::join_all;

use self::plan::{Plan, Pod};
use self::pods::{FINALIZER, INDEX, JobPod};
use crate::Base;
use crate::pod::PODS;
use crate::ttl_after_finished::JOBS;

/// Who looks after a job, where it says: the name that means this controller.
const MANAGER: &str = "kubernetes.io/job-controller";

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    jobs: Informer<Value>,
    pods: Informer<JobPod>,
}

pub fn controller(base: &Base) -> Controller {
    let jobs = base.informers.of::<Value>(Scope::all(JOBS));
    let pods = base.informers.of::<JobPod>(Scope::all(PODS));
    let context = Context {
        client: (base.client_of)("job-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("job-controller", "job-controller"),
        jobs: jobs.clone(),
        pods: pods.clone(),
    };
    Controller::new("job", Arc::new(context), reconcile).watches(&jobs).watches_for(&pods, |pod| {
        let job = pod.job().and_then(|job| job.split_once('/'));
        job.map(|(namespace, name)| Key::new(namespace, name)).into_iter().collect()
    })
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let mut pods = ctx.pods.cache().by_key(&format!("{}/{}", key.namespace, key.name));
    let job = ctx.jobs.cache().get(&key.namespace, &key.name);
    // Pods of a job that is gone, or of an earlier one of the name, are nobody's to count.
    let uid = job.as_ref().map_or("", |job| job.head.uid.as_str());
    let (own, lost): (Vec<Pod>, Vec<Pod>) =
        pods.drain(..).partition(|pod| pod.head.controller().is_some_and(|owner| owner.uid == uid));
    for pod in lost.iter().filter(|pod| pod.tracked) {
        ctx.release(pod).await?;
    }
    let Some(job) = job else { return Ok(Next::Change) };
    if !matches!(job.view.str_at(&["spec", "managedBy"]), "" | MANAGER) {
        return Ok(Next::Change);
    }
    let plan = plan::plan(&job.view, &own, ctx.clock.now_s());
    ctx.carry_out(&job, &plan).await.map(|()| plan.next)
}

impl Context {
    async fn carry_out(&self, job: &Held<Value>, plan: &Plan) -> Result<(), Error> {
        let about = Reference::of("batch/v1", "Job", &job.view);
        let mut written = Vec::new();
        for pod in &plan.delete {
            written.extend(self.delete(&about, pod, plan.deletes_count).await?);
        }
        let made = self.create(&job.view, &about, plan, &mut written).await;
        if made.is_ok() {
            self.write_status(job, &plan.status).await?;
            for (warning, reason, note) in &plan.tell {
                match warning {
                    true => self.recorder.warning(&about, reason, note.as_str()),
                    false => self.recorder.normal(&about, reason, note.as_str()),
                }
            }
            for pod in &plan.release {
                written.extend(self.release(pod).await?);
            }
        }
        // The next look sees what this one did.
        let revisions = written.iter().filter_map(|pod| Meta::of(pod).resource_version().parse::<u64>().ok());
        if let Some(last) = revisions.max() {
            self.pods.caught_up(&last.to_string(), &self.clock).await?;
        }
        made
    }

    async fn write_status(&self, job: &Held<Value>, status: &Map) -> Result<(), Error> {
        if job.view.get("status").and_then(Value::as_object) == Some(status) {
            return Ok(());
        }
        let mut new = job.view.clone();
        if let Some(new) = new.as_object_mut() {
            new.insert("status", status.clone());
        }
        let Some(new) = unless_gone(self.client.update(&JOBS, "status", &new).await)? else { return Ok(()) };
        self.jobs.caught_up(Meta::of(&new).resource_version(), &self.clock).await
    }

    /// Takes the finalizer off a pod that is counted.
    async fn release(&self, pod: &Pod) -> Result<Option<Value>, Error> {
        let head = &pod.head;
        let patch = value!({"metadata": {
            "uid": (head.uid.clone()), "$deleteFromPrimitiveList/finalizers": [FINALIZER]
        }});
        unless_gone(self.client.patch(&PODS, &head.namespace, &head.name, "", &Patch::Strategic(patch)).await)
    }

    async fn delete(&self, about: &Reference, pod: &Pod, counts: bool) -> Result<Option<Value>, Error> {
        let head = &pod.head;
        if !counts && pod.tracked {
            self.release(pod).await?;
        }
        let deleted = self.client.delete(&PODS, &head.namespace, &head.name, &Delete::of(&head.uid)).await;
        let deleted = unless_gone(deleted);
        match &deleted {
            Ok(Some(_)) => self.recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {}", head.name)),
            Ok(None) => {}
            Err(error) => self.recorder.warning(about, "FailedDelete", format!("Error deleting: {error}")),
        }
        deleted
    }

    /// Makes pods in rounds that double, so that what cannot be made is tried once and not many times.
    async fn create(&self, job: &Value, about: &Reference, plan: &Plan, written: &mut Vec<Value>) -> Result<(), Error> {
        let (mut left, mut round) = (plan.create.as_slice(), 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(round.min(left.len()));
            let namespace = Meta::of(job).namespace();
            let new = now.iter().map(|index| async {
                let pod = new_pod(job, *index);
                self.client.create(&PODS, namespace, &pod).await
            });
            for made in join_all(new).await {
                match made {
                    Ok(pod) => {
                        let note = format!("Created pod: {}", Meta::of(&pod).name());
                        self.recorder.normal(about, "SuccessfulCreate", note);
                        written.push(pod);
                    }
                    // Everything in it is going; so is the job.
                    Err(error) if error.is_namespace_terminating() => return Ok(()),
                    Err(error) => {
                        self.recorder.warning(about, "FailedCreate", format!("Error creating: {error}"));
                        return Err(error);
                    }
                }
            }
            (left, round) = (later, round * 2);
        }
        Ok(())
    }
}

/// A pod of the job's template, without a name.
fn new_pod(job: &Value, index: Option<i64>) -> Value {
    let meta = Meta::of(job);
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = job.at(&["spec", "template", "metadata", field]) {
            metadata.insert(field, value.clone());
        }
    }
    let mut finalizers = metadata.get("finalizers").and_then(Value::as_array).unwrap_or_default().to_vec();
    if !finalizers.iter().any(|own| own.as_str() == Some(FINALIZER)) {
        finalizers.push(FINALIZER.into());
    }
    metadata.insert("finalizers", finalizers);
    let name = index.map_or_else(|| meta.name().to_owned(), |index| format!("{}-{index}", meta.name()));
    metadata.insert("generateName", format!("{name}-"));
    let owner = value!({
        "apiVersion": "batch/v1", "kind": "Job", "name": (meta.name()), "uid": (meta.uid()), "controller": true,
        "blockOwnerDeletion": true
    });
    metadata.insert("ownerReferences", vec![owner]);
    let mut spec = job.at(&["spec", "template", "spec"]).cloned().unwrap_or_default();
    if let Some(index) = index {
        for part in ["labels", "annotations"] {
            metadata.object_entry(part).insert(INDEX, index.to_string());
        }
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("hostname", name);
        }
        tell_index(&mut spec);
    }
    value!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec})
}

/// Gives every container the index as `JOB_COMPLETION_INDEX`, unless it sets that itself.
fn tell_index(spec: &mut Value) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mut env = container.get("env").and_then(Value::as_array).unwrap_or_default().to_vec();
            if env.iter().any(|own| own.str_at(&["name"]) == VARIABLE) {
                continue;
            }
            let path = format!("metadata.labels['{INDEX}']");
            env.push(value!({"name": VARIABLE, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}));
            if let Some(container) = container.as_object_mut() {
                container.insert("env", env);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(spec: &[(&str, Value)], status: Option<Map>) -> Value {
        let mut job = value!({
            "metadata": {"name": "sum", "namespace": "shop", "uid": "j"},
            "spec": {"parallelism": 2, "completions": 3, "backoffLimit": 1,
                "template": {"metadata": {"labels": {"app": "sum"}}, "spec": {"containers": [{"name": "c"}]}}}
        });
        for (field, value) in spec {
            job.object_entry("spec").insert(*field, value.clone());
        }
        if let (Some(status), Some(job)) = (status, job.as_object_mut()) {
            job.insert("status", status);
        }
        job
    }

    /// `name phase [index]`; `!` after the name: being deleted, `-`: without the finalizer.
    fn pod(text: &str) -> Pod {
        let words: Vec<&str> = text.split(' ').collect();
        let name = words[0].trim_end_matches(['!', '-']);
        let mut pod = value!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "creationTimestamp": "1970-01-01T00:00:00Z",
                "ownerReferences": [{"kind": "Job", "apiVersion": "batch/v1", "name": "sum", "uid": "j", "controller": true}]},
            "status": {"phase": (words[1])}
        });
        if !words[0].ends_with('-') {
            pod.object_entry("metadata").insert("finalizers", vec![Value::from(FINALIZER)]);
        }
        if words[0].ends_with('!') {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        if let Some(index) = words.get(2) {
            pod.object_entry("metadata").object_entry("annotations").insert(INDEX, *index);
        }
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    fn look(job: &Value, pods: &[&str], now_s: i64) -> Plan {
        plan::plan(job, &pods.iter().map(|text| pod(text)).collect::<Vec<_>>(), now_s)
    }

    fn seen(plan: &Plan) -> String {
        let names = |pods: &[Pod]| pods.iter().map(|pod| pod.head.name.to_string()).collect::<Vec<_>>().join(",");
        let status = Value::Object(plan.status.clone());
        let counts = ["active", "succeeded", "failed"].map(|field| status.i64_at(&[field]).unwrap_or_default());
        let conditions = status.get("conditions").and_then(Value::as_array).unwrap_or_default();
        let conditions: Vec<&str> = conditions.iter().map(|of| of.str_at(&["type"])).collect();
        let (create, delete, release) = (plan.create.len(), names(&plan.delete), names(&plan.release));
        format!("create {create} delete [{delete}] release [{release}] {counts:?} {}", conditions.join(","))
    }

    fn check(job: &Value, pods: &[&str], expect: &str) -> Plan {
        let plan = look(job, pods, 100);
        assert_eq!(seen(&plan), expect);
        plan
    }

    #[test]
    fn pods_are_made_counted_and_the_job_completes() {
        let new = job(&[], None);
        check(&new, &[], "create 2 delete [] release [] [2, 0, 0] ");
        let first = check(&new, &["a Succeeded", "b Running"], "create 1 delete [] release [a] [2, 0, 0] ");
        assert_eq!(first.status.get("uncountedTerminatedPods"), Some(&value!({"succeeded": ["a"]})));
        // The finalizer is off: the pod becomes a number, once.
        let noted = job(&[], Some(first.status));
        let second =
            check(&noted, &["a- Succeeded", "b Running", "c Running"], "create 0 delete [] release [] [2, 1, 0] ");
        let counted = job(&[], Some(second.status));
        let all = ["a- Succeeded", "b Succeeded", "c Succeeded"];
        let third = check(&counted, &all, "create 0 delete [] release [b,c] [0, 1, 0] SuccessCriteriaMet");
        let last = job(&[], Some(third.status));
        let done = ["a- Succeeded", "b- Succeeded", "c- Succeeded"];
        let last = check(&last, &done, "create 0 delete [] release [] [0, 3, 0] SuccessCriteriaMet,Complete");
        assert_eq!(last.tell, [(false, "Completed".to_owned(), "Job completed".to_owned())]);
        check(
            &job(&[], Some(last.status)),
            &["d Running"],
            "create 0 delete [] release [d] [0, 3, 0] SuccessCriteriaMet,Complete",
        );
    }

    #[test]
    fn too_many_failures_end_a_job() {
        let new = job(&[], None);
        let failed = look(&new, &["a Failed"], 1);
        assert_eq!(seen(&failed), "create 0 delete [] release [a] [0, 0, 0] ");
        assert_eq!(failed.next, Next::After(std::time::Duration::from_secs(9)), "a pause first");
        let all = ["a Failed", "b Failed", "c Running"];
        let failing = check(&new, &all, "create 0 delete [c] release [a,b] [0, 0, 0] FailureTarget");
        assert!(failing.deletes_count);
        let failing = job(&[], Some(failing.status));
        let left = check(
            &failing,
            &["a- Failed", "b- Failed", "c! Running"],
            "create 0 delete [] release [c] [0, 0, 2] FailureTarget",
        );
        let left = job(&[], Some(left.status));
        let last =
            check(&left, &["a- Failed", "b- Failed"], "create 0 delete [] release [] [0, 0, 3] FailureTarget,Failed");
        let (reason, text) = ("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        assert_eq!(last.tell, [(true, reason.to_owned(), text.to_owned())]);
    }

    #[test]
    fn deadlines_suspension_and_parallelism() {
        let started = || Some(Map::from_iter([("startTime".into(), Value::from("1970-01-01T00:00:10Z"))]));
        let late = job(&[("activeDeadlineSeconds", 90.into())], started());
        check(&late, &["a Running"], "create 0 delete [a] release [] [0, 0, 0] FailureTarget");
        let early = job(&[("activeDeadlineSeconds", 100.into()), ("parallelism", 1.into())], started());
        let plan = check(&early, &["a Running"], "create 0 delete [] release [] [1, 0, 0] ");
        assert_eq!(plan.next, Next::After(std::time::Duration::from_secs(10)));
        let paused = job(&[("suspend", true.into())], started());
        let plan = check(&paused, &["a Running"], "create 0 delete [a] release [] [0, 0, 0] Suspended");
        assert!(!plan.deletes_count && !plan.status.contains_key("startTime"));
        let resumed = job(&[], Some(plan.status));
        check(&resumed, &[], "create 2 delete [] release [] [2, 0, 0] Suspended");
        check(
            &job(&[("parallelism", 1.into())], None),
            &["a Running", "b Running"],
            "create 0 delete [a] release [] [1, 0, 0] ",
        );
    }

    #[test]
    fn indexes_are_filled_and_kept() {
        let indexed = job(&[("completionMode", "Indexed".into()), ("parallelism", 3.into())], None);
        let plan = check(&indexed, &["a Succeeded 0", "b Running 2"], "create 1 delete [] release [a] [2, 1, 0] ");
        assert_eq!((&plan.create, plan.status.get("completedIndexes")), (&vec![Some(1)], Some(&Value::from("0"))));
        let pod = new_pod(&indexed, Some(1));
        assert_eq!(pod.str_at(&["metadata", "generateName"]), "sum-1-");
        assert_eq!(pod.str_at(&["metadata", "labels", INDEX]), "1");
        let env = pod.at(&["spec", "containers"]).and_then(Value::as_array).and_then(|all| all[0].get("env").cloned());
        let env = env.expect("an environment");
        assert_eq!(env.as_array().expect("a list")[0].str_at(&["name"]), "JOB_COMPLETION_INDEX");
    }
}
