//! What the server accepts and advises against: texts for `Warning:` headers, as upstream words them.

mod address;
mod container;
mod template;

use corten_apimachinery::field::FieldPath;
use corten_apimachinery::name;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;

use super::change::differs;
use super::column::{list, plain};

type Warnings = Vec<String>;

/// Node labels that were renamed, and what to say of each.
const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#),
    ("beta.kubernetes.io/os", r#"deprecated since v1.14; use "kubernetes.io/os" instead"#),
    (
        "failure-domain.beta.kubernetes.io/region",
        r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#,
    ),
    ("failure-domain.beta.kubernetes.io/zone", r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#),
    ("beta.kubernetes.io/instance-type", r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", r#"use "node-role.kubernetes.io/control-plane" instead"#),
];

/// Volume plugins that are gone, and what to say of each.
const VOLUMES: [(&str, &str); 8] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
];
const RBD: &str = "deprecated in v1.28, non-functional in v1.31+";

pub(super) fn pod(pod: &Value, stored: Option<&Value>) -> Warnings {
    if stored.is_some() {
        return Warnings::new();
    }
    let mut warnings = label_advised(pod, "this is used in the Pod's hostname");
    template::check(pod, &FieldPath::root(), &mut warnings);
    warnings
}

/// A workload whose name becomes part of its pods' names.
pub(super) fn named_workload(object: &Value, stored: Option<&Value>, path: &[&str]) -> Warnings {
    let mut warnings = match stored {
        None => label_advised(object, "this is used in Pod names and hostnames"),
        Some(_) => Warnings::new(),
    };
    warnings.extend(template(object, stored, path));
    warnings
}

/// The template at a path, where it is new or has changed.
pub(super) fn template(object: &Value, stored: Option<&Value>, path: &[&str]) -> Warnings {
    let mut warnings = Warnings::new();
    let changed = stored.is_none_or(|stored| differs(object, stored, &path[..1]));
    if let Some(template) = object.at(path).filter(|_| changed) {
        template::check(template, &FieldPath::root().children(path), &mut warnings);
    }
    warnings
}

fn label_advised(object: &Value, use_of_name: &str) -> Warnings {
    let reasons = name::dns1123_label(object.str_at(&["metadata", "name"]));
    if reasons.is_empty() {
        return Warnings::new();
    }
    vec![format!(
        "metadata.name: {use_of_name}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        reasons.join(" ")
    )]
}

pub(super) fn stateful_set(set: &Value, stored: Option<&Value>) -> Warnings {
    let mut warnings = template(set, stored, &["spec", "template"]);
    for (index, claim) in list(set, &["spec", "volumeClaimTemplates"]).iter().enumerate() {
        let path = FieldPath::new("spec").child("volumeClaimTemplates").index(index);
        let path = if stored.is_some() { path.child("Spec") } else { path };
        claim_spec(claim.get("spec"), &path, &mut warnings);
    }
    if set.i64_at(&["spec", "revisionHistoryLimit"]).is_some_and(|limit| limit < 0) {
        warnings.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .into(),
        );
    }
    warnings
}

pub(super) fn cron_job(job: &Value, stored: Option<&Value>) -> Warnings {
    let mut warnings = named_workload(job, stored, &["spec", "jobTemplate", "spec", "template"]);
    if stored.is_some() && job.str_at(&["spec", "schedule"]).contains("TZ") {
        warnings.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .into(),
        );
    }
    warnings
}

pub(super) fn service(service: &Value, _: Option<&Value>) -> Warnings {
    let mut warnings = Warnings::new();
    let text = |field| service.str_at(&["spec", field]);
    if service.at(&["metadata", "annotations", "service.kubernetes.io/topology-aware-hints"]).is_some() {
        warnings.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use \
             service.kubernetes.io/topology-mode instead"
                .into(),
        );
    }
    let spec = FieldPath::new("spec");
    let headless = text("clusterIP") == "None";
    if !headless {
        address::ips(list(service, &["spec", "clusterIPs"]), &spec.child("clusterIPs"), &mut warnings);
    }
    let external = list(service, &["spec", "externalIPs"]);
    if headless {
        let ignored = [
            ("loadBalancerIP", !text("loadBalancerIP").is_empty()),
            ("externalIPs", !external.is_empty()),
            ("SessionAffinity", text("sessionAffinity") != "None"),
        ];
        for (field, _) in ignored.iter().filter(|(_, given)| *given) {
            warnings.push(format!("spec.{field} is ignored for headless services"));
        }
    }
    address::ips(external, &spec.child("externalIPs"), &mut warnings);
    let named = text("type") == "ExternalName";
    if !external.is_empty() && !headless && !named {
        warnings.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    address::ip(text("loadBalancerIP"), &spec.child("loadBalancerIP"), &mut warnings);
    let ranges = list(service, &["spec", "loadBalancerSourceRanges"]);
    address::cidrs(ranges, &spec.child("loadBalancerSourceRanges"), &mut warnings);
    if named && !external.is_empty() {
        warnings.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.into());
    }
    if !named && !text("externalName").is_empty() {
        warnings.push(r#"spec.externalName is ignored when spec.type is not "ExternalName""#.into());
    }
    if text("trafficDistribution") == "PreferClose" {
        warnings.push(r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#.into());
    }
    warnings
}

pub(super) fn endpoints(endpoints: &Value, _: Option<&Value>) -> Warnings {
    let mut warnings = vec!["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned()];
    if endpoints.str_at(&["metadata", "labels", "endpoints.kubernetes.io/managed-by"]) == "endpoint-controller" {
        return warnings;
    }
    for (index, subset) in list(endpoints, &["subsets"]).iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            let path = FieldPath::new("subsets").index(index).child(field);
            for (index, address) in list(subset, &[field]).iter().enumerate() {
                address::ip(address.str_at(&["ip"]), &path.index(index).child("ip"), &mut warnings);
            }
        }
    }
    warnings
}

pub(super) fn endpoint_slice(slice: &Value, stored: Option<&Value>) -> Warnings {
    let mut warnings = Warnings::new();
    if stored.is_none() && slice.str_at(&["addressType"]) == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let manager = slice.str_at(&["metadata", "labels", "endpointslice.kubernetes.io/managed-by"]);
    if !manager.ends_with("-controller.k8s.io") && slice.str_at(&["addressType"]) != "FQDN" {
        for (index, endpoint) in list(slice, &["endpoints"]).iter().enumerate() {
            let path = FieldPath::new("endpoints").index(index).child("addresses");
            address::ips(list(endpoint, &["addresses"]), &path, &mut warnings);
        }
    }
    warnings
}

pub(super) fn ingress(ingress: &Value, stored: Option<&Value>) -> Warnings {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let old = ingress.at(&["metadata", "annotations", CLASS]).is_some();
    match stored.is_none() && old && ingress.at(&["spec", "ingressClassName"]).is_none() {
        true => vec![format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead")],
        false => Warnings::new(),
    }
}

pub(super) fn network_policy(policy: &Value, _: Option<&Value>) -> Warnings {
    let mut warnings = Warnings::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (rule_index, rule) in list(policy, &["spec", direction]).iter().enumerate() {
            for (index, peer) in list(rule, &[peers]).iter().enumerate() {
                let Some(block) = peer.get("ipBlock").filter(|block| !block.is_null()) else { continue };
                let path = FieldPath::new("spec").child(direction).index(rule_index);
                let path = path.child(peers).index(index).child("ipBlock");
                address::cidr(block.str_at(&["cidr"]), &path.child("cidr"), &mut warnings);
                address::cidrs(list(block, &["except"]), &path.child("except"), &mut warnings);
            }
        }
    }
    warnings
}

pub(super) fn node(node: &Value, _: Option<&Value>) -> Warnings {
    let mut warnings = Warnings::new();
    if node.at(&["spec", "configSource"]).is_some_and(|source| !source.is_null()) {
        warnings.push("spec.configSource: the feature is removed".into());
    }
    if !node.str_at(&["spec", "externalID"]).is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    let path = FieldPath::new("spec").child("podCIDRs");
    address::cidrs(list(node, &["spec", "podCIDRs"]), &path, &mut warnings);
    warnings
}

pub(super) fn service_account(account: &Value, stored: Option<&Value>) -> Warnings {
    const KEY: &str = "kubernetes.io/enforce-mountable-secrets";
    let has = |account: &Value| account.at(&["metadata", "annotations", KEY]).is_some();
    match has(account) && !stored.is_some_and(has) {
        true => vec![format!(
            "metadata.annotations[{KEY}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )],
        false => Warnings::new(),
    }
}

pub(super) fn quota(quota: &Value, stored: Option<&Value>) -> Warnings {
    let mut warnings = Warnings::new();
    if stored.is_some() {
        return warnings;
    }
    let hard = |resource: &str| {
        let amount = quota.at(&["spec", "hard", resource])?;
        // What is no quantity has been refused by now.
        let Ok(quantity) = Quantity::from_value(amount) else { return None };
        Some((resource.to_owned(), plain(amount), quantity))
    };
    for resource in ["cpu", "memory", "ephemeral-storage"] {
        let request = hard(&format!("requests.{resource}"))
            .or_else(|| hard(resource).filter(|_| resource != "ephemeral-storage"));
        let limit = hard(&format!("limits.{resource}"));
        if let (Some((request, asked, low)), Some((limit, most, high))) = (request, limit)
            && low > high
        {
            warnings.push(format!("ResourceQuota {request} ({asked}) should be less than {limit} ({most})"));
        }
    }
    warnings
}

pub(super) fn runtime_class(class: &Value, _: Option<&Value>) -> Warnings {
    let labels = class.at(&["scheduling", "nodeSelector"]).and_then(Value::as_object);
    let keys = labels.into_iter().flat_map(|labels| labels.keys());
    keys.filter_map(|key| node_label(key)).map(|advice| format!("scheduling.nodeSelector: {advice}")).collect()
}

pub(super) fn volume(volume: &Value, _: Option<&Value>) -> Warnings {
    let mut warnings = Warnings::new();
    for (key, advice) in [
        (
            "volume.beta.kubernetes.io/storage-class",
            r#"deprecated since v1.8; use "storageClassName" attribute instead"#,
        ),
        ("volume.beta.kubernetes.io/mount-options", r#"deprecated since v1.31; use "mountOptions" attribute instead"#),
    ] {
        if volume.at(&["metadata", "annotations", key]).is_some() {
            warnings.push(format!("metadata.annotations[{key}]: {advice}"));
        }
    }
    if volume.str_at(&["spec", "persistentVolumeReclaimPolicy"]) == "Recycle" {
        warnings.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach \
             is to use dynamic provisioning."
                .into(),
        );
    }
    let terms = list(volume, &["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
    let path = FieldPath::root().children(&["spec", "nodeAffinity", "required", "nodeSelectorTerms"]);
    for (index, term) in terms.iter().enumerate() {
        template::node_term(term, &path.index(index), &mut warnings);
    }
    for plugin in ["cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd"] {
        if volume.at(&["spec", plugin]).is_some_and(|source| !source.is_null()) {
            let advice = VOLUMES.iter().find(|(name, _)| *name == plugin).map_or(RBD, |(_, advice)| advice);
            let shown = if plugin == "storageos" { "storageOS" } else { plugin };
            warnings.push(format!("spec.{shown}: {advice}"));
        }
    }
    warnings
}

pub(super) fn claim(claim: &Value, _: Option<&Value>) -> Warnings {
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let mut warnings = Warnings::new();
    if claim.at(&["metadata", "annotations", CLASS]).is_some() {
        warnings.push(format!(
            r#"metadata.annotations[{CLASS}]: deprecated since v1.8; use "storageClassName" attribute instead"#
        ));
    }
    claim_spec(claim.get("spec"), &FieldPath::new("spec"), &mut warnings);
    warnings
}

fn claim_spec(spec: Option<&Value>, path: &FieldPath, warnings: &mut Warnings) {
    for field in ["requests", "limits"] {
        let amount = spec.and_then(|spec| spec.at(&["resources", field, "storage"]));
        fractional(amount, || path.child("resources").child(field).key("storage"), warnings);
    }
}

/// Bytes come in whole numbers.
fn fractional(amount: Option<&Value>, path: impl FnOnce() -> FieldPath, warnings: &mut Warnings) {
    // What is no quantity has been refused by now.
    let Some(Ok(quantity)) = amount.map(Quantity::from_value) else { return };
    if quantity.milli_value() % 1000 != 0 {
        warnings.push(format!("{}: fractional byte value \"{quantity}\" is invalid, must be an integer", path()));
    }
}

fn node_label(key: &str) -> Option<&'static str> {
    NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn services() {
        let check = |spec: Value, expect: &[&str]| assert_eq!(service(&value!({"spec": spec}), None), expect);
        check(value!({"type": "ClusterIP", "sessionAffinity": "None"}), &[]);
        check(
            value!({"clusterIP": "None", "sessionAffinity": "ClientIP", "externalName": "a"}),
            &[
                "spec.SessionAffinity is ignored for headless services",
                r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
            ],
        );
        check(
            value!({"externalIPs": ["010.0.0.1"], "trafficDistribution": "PreferClose"}),
            &[
                r#"spec.externalIPs[0]: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#,
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#,
            ],
        );
    }

    #[test]
    fn names_become_hostnames() {
        let named = value!({"metadata": {"name": "a.b"}, "spec": {}});
        let warnings = pod(&named, None);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("metadata.name: this is used in the Pod's hostname, which"), "{warnings:?}");
        assert!(pod(&named, Some(&named)).is_empty());
    }

    #[test]
    fn quotas() {
        let object = value!({"spec": {"hard": {"requests.cpu": "3", "limits.cpu": "2", "memory": "1Gi"}}});
        assert_eq!(quota(&object, None), ["ResourceQuota requests.cpu (3) should be less than limits.cpu (2)"]);
    }

    #[test]
    fn unchanged_templates_are_not_told_of_again() {
        let set = value!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}}});
        let path = &["spec", "template"];
        let expect = [
            r#"spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
        ];
        assert_eq!(template(&set, None, path), expect);
        assert!(template(&set, Some(&set), path).is_empty());
    }

    #[test]
    fn volumes() {
        let object = value!({"spec": {"rbd": {}, "persistentVolumeReclaimPolicy": "Retain"}});
        assert_eq!(volume(&object, None), ["spec.rbd: deprecated in v1.28, non-functional in v1.31+"]);
        let object = value!({"spec": {"resources": {"requests": {"storage": "500m"}}}});
        assert_eq!(
            claim(&object, None),
            [r#"spec.resources.requests[storage]: fractional byte value "500m" is invalid, must be an integer"#]
        );
    }
}
