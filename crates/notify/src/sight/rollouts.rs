//! Rollouts of Deployments that fail or are undone.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, View};

use super::{condition, silent_until_s};
use crate::fact::{Health, Kind, Sight, Subject};

const REVISION: &str = "deployment.kubernetes.io/revision";
/// On a ReplicaSet: the revisions that it has had before, so it is there once more.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rollout {
    revision: Str,
    /// What is told of one that does not come forward.
    late: Option<String>,
    /// Every pod has the newest form and takes requests.
    complete: bool,
    silent_until_s: i64,
}

/// A form of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    revision: Str,
    /// The last revision that it had before this one.
    before: Option<Str>,
}

impl View for Rollout {
    fn from_object(deployment: &Value) -> Option<Self> {
        let meta = Meta::of(deployment);
        let status = |field| deployment.i64_at(&["status", field]).unwrap_or_default();
        let wanted = deployment.i64_at(&["spec", "replicas"]).unwrap_or(1);
        let seen = status("observedGeneration") >= meta.generation();
        let all = ["replicas", "updatedReplicas", "availableReplicas"].map(status) == [wanted; 3];
        Some(Self {
            revision: meta.annotation(REVISION).unwrap_or_default().into(),
            late: late(deployment),
            complete: seen && all,
            silent_until_s: silent_until_s(deployment),
        })
    }
}

impl View for Form {
    fn from_object(set: &Value) -> Option<Self> {
        let meta = Meta::of(set);
        let history = meta.annotation(HISTORY).and_then(|history| history.rsplit(',').next());
        let before = history.filter(|before| !before.is_empty()).map(Str::from);
        Some(Self { revision: meta.annotation(REVISION).unwrap_or_default().into(), before })
    }
}

impl Rollout {
    pub(crate) fn silent_until_s(&self) -> i64 {
        self.silent_until_s
    }
}

fn late(deployment: &Value) -> Option<String> {
    let progressing = condition(deployment, "Progressing")?;
    let is_late = progressing.str_at(&["reason"]) == "ProgressDeadlineExceeded";
    is_late.then(|| format!("its rollout fails: {}", progressing.str_at(&["message"])))
}

/// What is seen of one Deployment; `forms` are its ReplicaSets.
pub(crate) fn sights<'a>(deployment: &Held<Rollout>, forms: impl Iterator<Item = &'a Held<Form>>) -> Vec<Sight> {
    let subject = || Subject::new("deployment", deployment.head.namespace.clone(), deployment.head.name.clone());
    let mut found = Vec::new();
    match &deployment.late {
        Some(text) => found.push(Sight::new(Kind::RolloutFailed, subject(), Health::Ill, text.clone())),
        None if !deployment.complete => {
            found.push(Sight::new(Kind::RolloutFailed, subject(), Health::Unsure, ""));
        }
        None => {}
    }
    let mut newest = forms.filter(|form| !form.revision.is_empty() && form.revision == deployment.revision);
    if let Some((form, before)) = newest.find_map(|form| Some((form, form.before.as_ref()?))) {
        let health = if deployment.complete { Health::Well } else { Health::Ill };
        let text = format!("its rollout is undone: revision {} is what revision {before} was", form.revision);
        let mark = form.revision.clone();
        found.push(Sight { mark, ..Sight::new(Kind::RolloutUndone, subject(), health, text) });
    }
    for sight in &mut found {
        sight.silent_until_s = deployment.silent_until_s;
    }
    found
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[track_caller]
    fn check(reason: &str, available: i64, revision: &str, expect: &[&str]) {
        let deployment = value!({
            "metadata": {"name": "web", "namespace": "shop", "generation": 2,
                "annotations": {"deployment.kubernetes.io/revision": revision}},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": available,
                "conditions": [{"type": "Progressing", "reason": reason, "message": "m"}]}
        });
        let form = |revision: &str, history: &str| {
            let annotations = value!({
                "deployment.kubernetes.io/revision": revision, "deployment.kubernetes.io/revision-history": history
            });
            Held::<Form>::from_object(&value!({"metadata": {"annotations": annotations}})).expect("a view")
        };
        let forms = [form("2", ""), form("3", "1")];
        let sights = sights(&Held::from_object(&deployment).expect("a view"), forms.iter());
        let one = |sight: &Sight| format!("{:?} {:?} {} {}", sight.key.kind, sight.health, sight.mark, sight.text);
        assert_eq!(sights.iter().map(one).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn rollouts_that_fail_or_are_undone() {
        check("NewReplicaSetAvailable", 2, "2", &[]);
        check("ReplicaSetUpdated", 1, "2", &["RolloutFailed Unsure  "]);
        check("ProgressDeadlineExceeded", 1, "2", &["RolloutFailed Ill  its rollout fails: m"]);
        let undone = "its rollout is undone: revision 3 is what revision 1 was";
        check("ReplicaSetUpdated", 1, "3", &["RolloutFailed Unsure  ", &format!("RolloutUndone Ill 3 {undone}")]);
        check("NewReplicaSetAvailable", 2, "3", &[&format!("RolloutUndone Well 3 {undone}")]);
    }
}
