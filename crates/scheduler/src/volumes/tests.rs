//! Claims and volumes as one line each: `name size modes key=value…`.

use corten_apimachinery::value;

use super::*;

fn fields<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

fn modes_of(text: &str) -> Vec<&str> {
    let long = |mode: &str| match mode {
        "rwo" => "ReadWriteOnce",
        "rox" => "ReadOnlyMany",
        _ => "ReadWriteMany",
    };
    text.split(' ').nth(2).unwrap_or("rwo").split(',').map(long).collect()
}

/// `class= node= for= phase= label=`
fn volume(text: &str) -> Volume {
    let words: Vec<&str> = text.split(' ').collect();
    let mut volume = value!({
        "metadata": {"name": (words[0]), "labels": {"kind": (fields(text, "label").unwrap_or_default())}},
        "spec": {
            "capacity": {"storage": (words[1])}, "accessModes": (modes_of(text)),
            "storageClassName": (fields(text, "class").unwrap_or_default())
        },
        "status": {"phase": (fields(text, "phase").unwrap_or("Available"))}
    });
    if let Some(node) = fields(text, "node") {
        let on = value!({"key": "host", "operator": "In", "values": [node]});
        let terms = value!({"nodeSelectorTerms": [{"matchExpressions": [on]}]});
        volume.object_entry("spec").insert("nodeAffinity", value!({"required": terms}));
    }
    if let Some(claim) = fields(text, "for") {
        volume.object_entry("spec").insert("claimRef", value!({"namespace": "ns", "name": claim, "uid": "u"}));
    }
    Volume::read(&volume).expect("a volume")
}

/// `class= volume= bound= selected= label=`
fn claim(text: &str) -> Claim {
    let words: Vec<&str> = text.split(' ').collect();
    let mut claim = value!({
        "metadata": {"name": (words[0]), "namespace": "ns", "uid": "u", "annotations": {}},
        "spec": {
            "resources": {"requests": {"storage": (words[1])}}, "accessModes": (modes_of(text)),
            "storageClassName": (fields(text, "class").unwrap_or_default()),
            "volumeName": (fields(text, "volume").unwrap_or_default())
        }
    });
    if let Some(kind) = fields(text, "label") {
        claim.object_entry("spec").insert("selector", value!({"matchLabels": {"kind": kind}}));
    }
    let notes = [("bound", BIND_COMPLETED), ("selected", SELECTED_NODE)];
    for (field, annotation) in notes {
        if let Some(value) = fields(text, field) {
            let metadata = claim.get_mut("metadata").expect("it is there");
            metadata.object_entry("annotations").insert(annotation, value);
        }
    }
    Claim::read(&claim).expect("a claim")
}

fn labels(node: &str) -> Labels {
    vec![("host".into(), node.into())]
}

#[track_caller]
fn check(of: &str, volumes: &[&str], node: Option<&str>, waits: bool, expect: &str) {
    let volumes: Vec<Volume> = volumes.iter().map(|text| volume(text)).collect();
    let labels = node.map(labels).unwrap_or_default();
    let found = find(&claim(of), &volumes, node.map(|node| (node, &labels)), waits);
    assert_eq!(found.map(|volume| volume.name.as_str()).unwrap_or_default(), expect);
}

#[test]
fn a_claim_gets_the_smallest_that_will_do() {
    let volumes = ["small 1Gi rwo", "big 5Gi rwo", "right 2Gi rwo", "more 2Gi rwo,rox,rwx"];
    check("a 2Gi rwo", &volumes, None, false, "right");
    check("a 2048Mi rwo", &volumes, None, false, "right");
    check("a 3Gi rwo", &volumes, None, false, "big");
    check("a 1Gi rwx", &volumes, None, false, "more");
    check("a 6Gi rwo", &volumes, None, false, "");
    check("a 1Gi rwo class=fast", &volumes, None, false, "");
    check("a 1Gi rwo class=fast", &["v 1Gi rwo class=fast"], None, false, "v");
    check("a 1Gi rwo label=ssd", &["v 1Gi rwo label=disk", "w 9Gi rwo label=ssd"], None, false, "w");
    check("a 1Gi rwo", &["v 1Gi rwo phase=Released"], None, false, "");
}

#[test]
fn what_is_kept_for_a_claim_comes_first() {
    check("a 1Gi rwo", &["v 1Gi rwo", "w 9Gi rwx for=a phase=Bound"], None, true, "w");
    check("a 1Gi rwo", &["v 1Gi rwo for=b"], None, false, "");
    check("a 2Gi rwo", &["v 1Gi rwo for=a"], None, false, "");
    check("a 1Gi rwo", &["v 1Gi rwo for=a node=n1"], Some("n2"), true, "");
}

#[test]
fn claims_that_wait_are_bound_with_a_node() {
    let volumes = ["v 1Gi rwo node=n1", "w 2Gi rwo node=n2"];
    check("a 1Gi rwo", &volumes, None, true, "");
    check("a 1Gi rwo", &volumes, None, false, "v");
    check("a 1Gi rwo", &volumes, Some("n2"), true, "w");
    check("a 1Gi rwo", &volumes, Some("n3"), true, "");
}

#[test]
fn a_volume_that_is_named_must_do() {
    let check = |of: &str, text: &str, expect: &str| {
        assert_eq!(volume(text).mismatch(&claim(of)).unwrap_or_default(), expect);
    };
    check("a 1Gi rwo", "v 1Gi rwo", "");
    check("a 2Gi rwo", "v 1Gi rwo", "requested PV is too small");
    check("a 1Gi rwo class=x", "v 1Gi rwo", "storageClassName does not match");
    check("a 1Gi rwx", "v 1Gi rwo", "incompatible accessMode");
}

/// Two classes: `wait` is bound with the first pod and makes volumes, `by-hand` waits and makes none.
struct Known(Vec<Claim>, Vec<Volume>);

impl Storage for Known {
    fn claim(&self, _: &str, name: &str) -> Option<Claim> {
        self.0.iter().find(|claim| claim.name == name).cloned()
    }

    fn volume(&self, name: &str) -> Option<Volume> {
        self.1.iter().find(|volume| volume.name == name).cloned()
    }

    fn class(&self, name: &str) -> Option<Class> {
        let read = |provisioner: &str| {
            let on = value!({"key": "host", "values": ["n1", "n2"]});
            Class::read(&value!({
                "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer",
                "allowedTopologies": [{"matchLabelExpressions": [on]}]
            }))
        };
        match name {
            "wait" => Some(read("local.corten.dev")),
            "by-hand" => Some(read(NO_PROVISIONER)),
            _ => None,
        }
    }

    fn free(&self, class: &str) -> Vec<Volume> {
        self.1.iter().filter(|volume| volume.class == class).cloned().collect()
    }
}

#[track_caller]
fn asks(claims: &[&str], volumes: &[&str], node: &str, expect: &str) {
    let known =
        Known(claims.iter().map(|text| claim(text)).collect(), volumes.iter().map(|text| volume(text)).collect());
    let named: Vec<PodClaim> = claims
        .iter()
        .map(|text| PodClaim { name: text.split(' ').next().unwrap_or_default().into(), own: false })
        .collect();
    let gathered = gather(&known, "ns", "p", &named);
    let seen = match &gathered.refused {
        Some(text) => text.clone(),
        None => match gathered.choose(node, &labels(node)) {
            Ok(choices) => {
                let volume = |choice: &Choice| choice.volume.as_deref().unwrap_or("new").to_owned();
                choices
                    .iter()
                    .map(|choice| format!("{}:{}", choice.claim, volume(choice)))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            Err(reason) => format!("{reason:?}"),
        },
    };
    assert_eq!(seen, expect);
}

#[test]
fn what_claims_ask_of_a_node() {
    asks(&["a 1Gi rwo bound=yes volume=v"], &["v 1Gi rwo node=n1"], "n1", "");
    asks(&["a 1Gi rwo bound=yes volume=v"], &["v 1Gi rwo node=n1"], "n2", "VolumeElsewhere");
    asks(&["a 1Gi rwo bound=yes volume=v"], &[], "n2", "VolumeMissing");
    asks(&["a 1Gi rwo"], &[], "n1", "pod has unbound immediate PersistentVolumeClaims");
    asks(&["a 1Gi rwo class=wait volume=v"], &[], "n1", "pod has unbound immediate PersistentVolumeClaims");
    asks(&["a 1Gi rwo class=wait"], &[], "n1", "a:new");
    asks(&["a 1Gi rwo class=wait"], &[], "n9", "NoVolume");
    asks(&["a 1Gi rwo class=wait selected=n1"], &[], "n1", "a:new");
    asks(&["a 1Gi rwo class=wait selected=n1"], &[], "n2", "VolumeElsewhere");
    let by_hand = ["v 1Gi rwo class=by-hand node=n1", "w 9Gi rwo class=by-hand node=n1"];
    asks(&["a 2Gi rwo class=by-hand"], &by_hand, "n1", "a:w");
    asks(&["a 1Gi rwo class=by-hand", "b 1Gi rwo class=by-hand"], &by_hand, "n1", "a:v b:w");
    asks(&["a 2Gi rwo class=by-hand", "b 2Gi rwo class=by-hand"], &by_hand, "n1", "NoVolume");
    asks(&["a 1Gi rwo class=by-hand"], &by_hand, "n2", "NoVolume");
}

#[test]
fn claims_that_will_not_do_are_named() {
    let refused = |known: &[&str], own: bool| {
        let known = Known(known.iter().map(|text| claim(text)).collect(), Vec::new());
        gather(&known, "ns", "p", &[PodClaim { name: "a".into(), own }]).refused.unwrap_or_default()
    };
    assert_eq!(refused(&[], false), "persistentvolumeclaim \"a\" not found");
    let waiting = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"a\"";
    assert_eq!(refused(&[], true), waiting);
    assert_eq!(refused(&["a 1Gi rwo"], true), "PVC ns/a was not created for pod (pod is not owner)");
}

#[test]
fn pods_name_claims_and_have_their_own() {
    let pod = value!({"metadata": {"name": "p"}, "spec": {"volumes": [
        {"name": "x", "persistentVolumeClaim": {"claimName": "db"}}, {"name": "y", "emptyDir": {}},
        {"name": "z", "ephemeral": {"volumeClaimTemplate": {}}}]}});
    let claim = |name: &str, own| PodClaim { name: name.into(), own };
    assert_eq!(pod_claims(&pod), [claim("db", false), claim("p-z", true)]);
}
