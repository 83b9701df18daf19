//! Requests and events that a decision means.

use std::sync::Arc;

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Held;
use corten_client::error::unless_gone;
use corten_client::events::{Occurrence, Reference, Severity};
use corten_client::{Delete, Error, Patch};

use super::state::{Decision, NAME, Rejection, What};
use super::views::PodSeen;
use super::{Binder, PODS};
use crate::view::Pod;

/// Bytes of the text of an event.
const NOTE_MAX: usize = 1024;

impl Binder {
    pub(super) async fn carry_out(&self, decision: &Decision) -> Result<(), Error> {
        match &decision.what {
            What::Bind(node, choices) => {
                match self.bind_claims(&decision.seen, choices, node).await {
                    Ok(()) => self.bind(&decision.seen, node).await,
                    Err(error) => {
                        self.not_bound(&decision.seen, format!("running PreBind plugin \"VolumeBinding\": {error}"));
                    }
                }
                self.state().take_back(choices);
                Ok(())
            }
            What::Reject(rejection) => self.reject(&decision.seen, rejection).await,
        }
    }

    async fn bind(&self, seen: &Arc<Held<PodSeen>>, node: &str) {
        let head = &seen.head;
        let binding = value!({
            "kind": "Binding", "apiVersion": "v1",
            "metadata": {"name": (head.name.clone()), "namespace": (head.namespace.clone()), "uid": (head.uid.clone())},
            "target": {"kind": "Node", "name": node}
        });
        match self.client.create_part(&PODS, &head.namespace, &head.name, "binding", &binding).await {
            Ok(_) => {
                let note = format!("Successfully assigned {}/{} to {node}", head.namespace, head.name);
                self.tell(seen, Severity::Normal, "Scheduled", "Binding", note);
            }
            Err(error) => {
                tracing::debug!(pod = %head.key(), node, %error, "a pod could not be bound");
                let text = format!("running Bind plugin \"DefaultBinder\": {error}");
                self.not_bound(seen, text);
            }
        }
    }

    fn not_bound(&self, seen: &Arc<Held<PodSeen>>, text: String) {
        let key = self.state().not_bound(seen, text, self.clock.now_ms());
        self.mark(super::pass());
        if let Some(key) = key {
            self.mark(key);
        }
    }

    async fn reject(&self, seen: &Arc<Held<PodSeen>>, rejection: &Rejection) -> Result<(), Error> {
        for victim in &rejection.victims {
            self.evict(victim, seen, rejection.nominate.as_deref().unwrap_or_default()).await?;
        }
        for outbid in &rejection.outbid {
            let patch = value!({"status": {"nominatedNodeName": null}});
            self.patch_status(&outbid.peer.namespace, &outbid.name, &outbid.uid, patch).await?;
        }
        if let Some(status) = status(seen, rejection, self.clock.now_s()) {
            let head = &seen.head;
            self.patch_status(&head.namespace, &head.name, &head.uid, value!({"status": status})).await?;
        }
        self.tell(seen, Severity::Warning, "FailedScheduling", "Scheduling", shortened(&rejection.text));
        Ok(())
    }

    /// Makes a victim leave, and says for whom.
    async fn evict(&self, victim: &Arc<Pod>, preemptor: &Held<PodSeen>, node: &str) -> Result<(), Error> {
        let namespace = &victim.peer.namespace;
        let known = self.pods.cache().get(namespace, &victim.name).filter(|known| known.head.uid == victim.uid);
        let Some(known) = known else { return Ok(()) };
        if !victim.preempted {
            let condition = value!({
                "type": "DisruptionTarget", "status": "True", "observedGeneration": (known.generation),
                "lastTransitionTime": (Time::from_seconds(self.clock.now_s()).to_rfc3339()),
                "reason": "PreemptionByScheduler",
                "message": (format!("{NAME}: preempting to accommodate a higher priority pod"))
            });
            let patch = value!({"status": {"conditions": [condition]}});
            self.patch_status(namespace, &victim.name, &victim.uid, patch).await?;
        }
        let deleted = self.client.delete(&PODS, namespace, &victim.name, &Delete::of(&victim.uid)).await;
        if unless_gone(deleted)?.is_some() {
            self.recorder.record(Occurrence {
                regarding: reference(&known),
                related: Some(reference(preemptor)),
                severity: Severity::Normal,
                reason: "Preempted".into(),
                action: "Preempting".into(),
                note: format!("Preempted by pod {} on node {node}", preemptor.head.uid),
            });
        }
        Ok(())
    }

    /// Changes the status of a pod, if it is still this one.
    async fn patch_status(&self, namespace: &str, name: &str, uid: &str, mut patch: Value) -> Result<(), Error> {
        patch.object_entry("metadata").insert("uid", uid);
        let patched = self.client.patch(&PODS, namespace, name, "status", &Patch::Strategic(patch)).await;
        match unless_gone(patched) {
            // Another pod of the name.
            Err(error) if error.is_conflict() => Ok(()),
            done => done.map(drop),
        }
    }

    fn tell(&self, seen: &Held<PodSeen>, severity: Severity, reason: &str, action: &str, note: String) {
        let (reason, action) = (reason.into(), action.into());
        self.recorder.record(Occurrence { regarding: reference(seen), related: None, severity, reason, action, note });
    }
}

fn reference(seen: &Held<PodSeen>) -> Reference {
    Reference::of_head("v1", "Pod", &seen.head)
}

/// What changes in a rejected pod's status; `None` where it says all that already.
fn status(seen: &PodSeen, rejection: &Rejection, now_s: i64) -> Option<Value> {
    let mut status = Value::object();
    let wanted = ["False", rejection.reason, rejection.text.as_str()];
    let said = seen.scheduled.as_ref();
    if said.is_none_or(|said| said.iter().map(Str::as_str).ne(wanted)) {
        let mut condition = value!({
            "type": "PodScheduled", "status": "False", "observedGeneration": (seen.generation),
            "reason": (rejection.reason), "message": (rejection.text.as_str())
        });
        if said.is_none_or(|said| said[0] != "False")
            && let Some(condition) = condition.as_object_mut()
        {
            condition.insert("lastProbeTime", Value::Null);
            condition.insert("lastTransitionTime", Time::from_seconds(now_s).to_rfc3339());
        }
        status.as_object_mut()?.insert("conditions", vec![condition]);
    }
    let nominated = seen.pod.as_ref().map_or("", |pod| pod.nominated.as_str());
    if let Some(node) = rejection.nominate.as_ref().filter(|node| *node != nominated) {
        let node = if node.is_empty() { Value::Null } else { node.clone().into() };
        status.as_object_mut()?.insert("nominatedNodeName", node);
    }
    (status != Value::object()).then_some(status)
}

fn shortened(text: &str) -> String {
    if text.len() <= NOTE_MAX {
        return text.to_owned();
    }
    const END: &str = " ...";
    format!("{}{END}", &text[..text.floor_char_boundary(NOTE_MAX - END.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(condition: Option<[&str; 3]>, nominated: &str) -> PodSeen {
        let pod = Pod { nominated: nominated.into(), ..Pod::default() };
        let scheduled = condition.map(|texts| texts.map(Str::from));
        PodSeen { pod: Ok(Arc::new(pod)), over: false, generation: 2, scheduled }
    }

    fn check(seen: &PodSeen, nominate: Option<&str>, expect: &str) {
        let (text, nominate) = ("0/1 nodes".to_owned(), nominate.map(Str::from));
        let rejection = Rejection { reason: "Unschedulable", text, nominate, victims: vec![], outbid: vec![] };
        let status = status(seen, &rejection, 0).map(|status| corten_apimachinery::json::to_string(&status));
        assert_eq!(status.unwrap_or_default(), expect);
    }

    #[test]
    fn a_status_is_written_where_it_says_something_else() {
        let said = "\"conditions\":[{\"type\":\"PodScheduled\",\"status\":\"False\",\"observedGeneration\":2,\
                    \"reason\":\"Unschedulable\",\"message\":\"0/1 nodes\"";
        let since = "\"lastProbeTime\":null,\"lastTransitionTime\":\"1970-01-01T00:00:00Z\"";
        check(&seen(None, ""), None, &format!("{{{said},{since}}}]}}"));
        check(&seen(Some(["False", "Unschedulable", "no nodes"]), ""), None, &format!("{{{said}}}]}}"));
        check(&seen(Some(["False", "Unschedulable", "0/1 nodes"]), ""), None, "");
        let same = seen(Some(["False", "Unschedulable", "0/1 nodes"]), "n1");
        check(&same, Some("n1"), "");
        check(&same, Some("n2"), "{\"nominatedNodeName\":\"n2\"}");
        check(&same, Some(""), "{\"nominatedNodeName\":null}");
    }

    #[test]
    fn a_long_text_is_shortened_between_letters() {
        let long = shortened(&"ä".repeat(600));
        assert!(long.len() <= NOTE_MAX && long.ends_with("ä ..."), "{}", long.len());
        assert_eq!(shortened("short"), "short");
    }
}
