//! The binder's decisions, a line each.

use super::*;

fn volume_of(name: &str, size: &str, claim: Option<(&str, &str)>, phase: &str) -> Value {
    let mut volume = value!({
        "metadata": {"name": name, "annotations": {}},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": phase}
    });
    if let Some((name, uid)) = claim {
        let mut reference = value!({"namespace": "ns", "name": name});
        if !uid.is_empty() {
            reference.as_object_mut().expect("an object").insert("uid", uid);
        }
        volume.object_entry("spec").insert("claimRef", reference);
    }
    volume
}

fn claim_of(volume: &str, notes: &[(&str, &str)]) -> Value {
    let mut claim = value!({
        "metadata": {"name": "a", "namespace": "ns", "uid": "u", "annotations": {}},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOnce"]}
    });
    if !volume.is_empty() {
        claim.object_entry("spec").insert("volumeName", volume);
    }
    for (key, text) in notes {
        metadata_mut(&mut claim).object_entry("annotations").insert(*key, *text);
    }
    claim
}

const BOUND: &[(&str, &str)] = &[(BIND_COMPLETED, "yes")];

fn with_class(mut claim: Value, class: &str) -> Value {
    claim.object_entry("spec").insert("storageClassName", class);
    claim
}

fn class(mode: &str, provisioner: &str) -> Value {
    value!({"metadata": {"name": "c"}, "provisioner": provisioner, "volumeBindingMode": mode})
}

#[track_caller]
fn check(of: &Value, volumes: &[Value], class: Option<&Value>, expect: &str) {
    let held = |volume: &Value| Arc::new(Held::from_object(volume).expect("held"));
    let volumes: Vec<_> = volumes.iter().map(held).collect();
    let seen = match claim(of, &volumes, class) {
        ClaimStep::Nothing => "nothing".to_owned(),
        ClaimStep::Bind(name) => format!("bind {name}"),
        ClaimStep::Wait(told) => format!("wait {}", told.map(|told| told.reason).unwrap_or_default()),
        ClaimStep::Mismatch { reason, note } => format!("{reason}: {note}"),
        ClaimStep::Provision(by) => format!("provision {by}"),
        ClaimStep::Lost { reason, .. } => reason.to_owned(),
    };
    assert_eq!(seen, expect);
}

#[test]
fn claims_without_a_volume() {
    let free = volume_of("v", "1Gi", None, "Available");
    check(&claim_of("", &[]), &[], None, "wait FailedBinding");
    check(&claim_of("", &[]), std::slice::from_ref(&free), None, "bind v");
    check(&claim_of("", &[]), &[volume_of("v", "1Gi", Some(("a", "")), "Available")], None, "bind v");
    check(&claim_of("", &[]), &[volume_of("v", "1Gi", Some(("b", "x")), "Bound")], None, "wait FailedBinding");
    let of_class = |notes: &[(&str, &str)]| with_class(claim_of("", notes), "c");
    let immediate = class("Immediate", "local.corten.dev");
    let waiting = class("WaitForFirstConsumer", "local.corten.dev");
    let by_hand = class("Immediate", "kubernetes.io/no-provisioner");
    check(&of_class(&[]), &[], Some(&immediate), "provision local.corten.dev");
    check(&of_class(&[]), &[free], Some(&immediate), "provision local.corten.dev");
    check(&of_class(&[]), &[], Some(&waiting), "wait WaitForFirstConsumer");
    let chosen = [("volume.kubernetes.io/selected-node", "n")];
    check(&of_class(&chosen), &[], Some(&waiting), "provision local.corten.dev");
    check(&of_class(&[]), &[], Some(&by_hand), "wait ");
    check(&of_class(&[]), &[], None, "ProvisioningFailed: storageclass.storage.k8s.io \"c\" not found");
}

#[test]
fn a_claim_that_waits_is_not_bound_to_what_it_could_have_elsewhere() {
    let mut of_class = volume_of("v", "1Gi", None, "Available");
    of_class.object_entry("spec").insert("storageClassName", "c");
    let claim = with_class(claim_of("", &[]), "c");
    let (immediate, waiting) = (class("Immediate", "x"), class("WaitForFirstConsumer", "x"));
    check(&claim, &[of_class.clone()], Some(&immediate), "bind v");
    check(&claim, &[of_class.clone()], Some(&waiting), "wait WaitForFirstConsumer");
    bind_volume(&mut of_class, &claim);
    check(&claim, &[of_class], Some(&waiting), "bind v");
}

#[test]
fn claims_with_a_volume() {
    let named = |volume: Value| (claim_of("v", &[]), vec![volume]);
    let go = |(claim, volumes): (Value, Vec<Value>), expect| check(&claim, &volumes, None, expect);
    check(&claim_of("v", &[]), &[], None, "wait ");
    go(named(volume_of("v", "1Gi", None, "Available")), "bind v");
    go(named(volume_of("v", "1Gi", Some(("a", "u")), "Available")), "bind v");
    let small = "VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small";
    go(named(volume_of("v", "1Mi", None, "Available")), small);
    let taken = "FailedBinding: volume \"v\" already bound to a different claim.";
    go(named(volume_of("v", "1Gi", Some(("b", "x")), "Bound")), taken);
}

#[test]
fn claims_that_were_bound() {
    let of = claim_of("v", BOUND);
    check(&of, &[], None, "ClaimLost");
    check(&claim_of("", BOUND), &[], None, "ClaimLost");
    check(&of, &[volume_of("v", "1Gi", Some(("a", "u")), "Bound")], None, "bind v");
    check(&of, &[volume_of("v", "1Gi", None, "Available")], None, "bind v");
    check(&of, &[volume_of("v", "1Gi", Some(("a", "other")), "Bound")], None, "ClaimMisbound");
}

#[track_caller]
fn volume_is(of: &Value, found: Option<&Value>, expect: &str) {
    let seen = match volume(of, found) {
        VolumeStep::Nothing => "nothing",
        VolumeStep::Phase(phase) => phase,
        VolumeStep::Unbind => "unbind",
        VolumeStep::Fail { reason, .. } => reason,
    };
    assert_eq!(seen, expect);
}

#[test]
fn volumes_follow_their_claims() {
    volume_is(&volume_of("v", "1Gi", None, ""), None, "Available");
    volume_is(&volume_of("v", "1Gi", Some(("a", "")), ""), None, "Available");
    let bound = volume_of("v", "1Gi", Some(("a", "u")), "Bound");
    volume_is(&bound, Some(&claim_of("v", BOUND)), "nothing");
    volume_is(&volume_of("v", "1Gi", Some(("a", "u")), "Available"), Some(&claim_of("v", BOUND)), "Bound");
    volume_is(&bound, Some(&claim_of("", &[])), "nothing");
    volume_is(&bound, Some(&claim_of("w", BOUND)), "unbind");
    volume_is(&bound, None, "Released");
    let mut earlier = claim_of("v", BOUND);
    metadata_mut(&mut earlier).insert("uid", "another of the name");
    volume_is(&bound, Some(&earlier), "Released");
}

#[test]
fn what_is_released_goes_as_its_policy_says() {
    let mut of = volume_of("v", "1Gi", Some(("a", "u")), "Released");
    volume_is(&of, None, "nothing");
    of.object_entry("spec").insert("persistentVolumeReclaimPolicy", "Delete");
    volume_is(&of, None, "VolumeFailedDelete");
    metadata_mut(&mut of).object_entry("annotations").insert(PROVISIONED_BY, "x");
    volume_is(&of, None, "nothing");
    of.object_entry("spec").insert("persistentVolumeReclaimPolicy", "Recycle");
    volume_is(&of, None, "VolumeFailedRecycle");
    of.object_entry("status").insert("phase", "Failed");
    volume_is(&of, None, "nothing");
}

#[test]
fn a_binding_is_made_once_and_undone() {
    let (mut of, mut volume) = (claim_of("", &[]), volume_of("v", "2Gi", None, "Available"));
    assert!(bind_volume(&mut volume, &of) && !bind_volume(&mut volume, &of));
    assert!(bind_claim(&mut of, &volume) && !bind_claim(&mut of, &volume));
    let status = claim_status(&of, "Bound", Some(&volume)).expect("new");
    assert_eq!((status.str_at(&["phase"]), status.str_at(&["capacity", "storage"])), ("Bound", "2Gi"));
    of.as_object_mut().expect("an object").insert("status", status);
    volume.object_entry("spec").insert("capacity", value!({"storage": "3Gi"}));
    assert_eq!(claim_status(&of, "Bound", Some(&volume)), None, "that it has grown is the node's to tell");
    unbind(&mut volume);
    assert!(volume.at(&["spec", "claimRef"]).is_none() && !is_noted(&volume, BOUND_BY_CONTROLLER));
    let mut kept = volume_of("v", "1Gi", Some(("a", "u")), "Bound");
    unbind(&mut kept);
    assert_eq!((kept.str_at(&["spec", "claimRef", "name"]), kept.str_at(&["spec", "claimRef", "uid"])), ("a", ""));
}
