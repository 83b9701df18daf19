//! What a kind counts: which names of amounts are its, and how much of each an object uses.

use corten_apimachinery::quantity::{Format, Quantity};
use corten_apimachinery::value::{Str, Value};

use crate::amounts::{Amounts, add, read};
use crate::pod;

/// Kinds whose number may also be limited by their bare name.
const COUNTED_BY_NAME: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

const SERVICE_NAMES: [&str; 4] = ["count/services", "services", "services.nodeports", "services.loadbalancers"];
const CLAIM_NAMES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const CLASS: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";
/// The most devices that one request can have.
const DEVICES_MAX: i64 = 32;

/// What nothing is counted of: what is not stored, and events.
const IGNORED: [(&str, &str); 10] = [
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("", "events"),
    ("events.k8s.io", "events"),
];

/// One kind, as quotas see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    Pods,
    Services,
    Claims,
    DeviceClaims,
    /// Any other, by group and plural name.
    Count(Str, Str),
}

/// A write.
pub enum Change<'a> {
    Create(&'a Value),
    Update(&'a Value, &'a Value),
}

impl Change<'_> {
    /// The object as it will be.
    pub fn object(&self) -> &Value {
        match self {
            Self::Create(new) | Self::Update(new, _) => new,
        }
    }
}

impl Measure {
    /// `None` where nothing is counted.
    pub fn of(group: &str, plural: &str) -> Option<Self> {
        match (group, plural) {
            ("", "pods") => Some(Self::Pods),
            ("", "services") => Some(Self::Services),
            ("", "persistentvolumeclaims") => Some(Self::Claims),
            ("resource.k8s.io", "resourceclaims") => Some(Self::DeviceClaims),
            other if IGNORED.contains(&other) => None,
            _ => Some(Self::Count(group.into(), plural.into())),
        }
    }

    /// Group and plural name of the kind.
    pub fn kind(&self) -> (&str, &str) {
        match self {
            Self::Pods => ("", "pods"),
            Self::Services => ("", "services"),
            Self::Claims => ("", "persistentvolumeclaims"),
            Self::DeviceClaims => ("resource.k8s.io", "resourceclaims"),
            Self::Count(group, plural) => (group, plural),
        }
    }

    /// The kind that is measured by a name; `None` for a name that no kind has.
    pub fn by_name(name: &str) -> Option<Self> {
        let own = [Self::Pods, Self::Services, Self::Claims, Self::DeviceClaims];
        if let Some(own) = own.into_iter().find(|measure| measure.has(name)) {
            return Some(own);
        }
        if COUNTED_BY_NAME.contains(&name) {
            return Some(Self::Count("".into(), name.into()));
        }
        let (plural, group) = match name.strip_prefix("count/")?.split_once('.') {
            Some((plural, group)) => (plural, group),
            None => (name.strip_prefix("count/")?, ""),
        };
        Self::of(group, plural)
    }

    /// Whether a name of an amount is this kind's.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Pods => pod::has(name),
            Self::Services => SERVICE_NAMES.contains(&name),
            Self::Claims => {
                let of_class = |own: &str| name.strip_suffix(own).is_some_and(|class| class.ends_with(CLASS));
                name == "count/persistentvolumeclaims"
                    || CLAIM_NAMES.contains(&name)
                    || CLAIM_NAMES.iter().any(|own| of_class(own))
            }
            Self::DeviceClaims => name == "count/resourceclaims.resource.k8s.io" || name.ends_with(DEVICES),
            Self::Count(group, plural) => {
                name == counted(group, plural) || group.is_empty() && name == plural && COUNTED_BY_NAME.contains(&name)
            }
        }
    }

    /// Whether a write may change what is used.
    pub fn concerns(&self, subresource: &str, change: &Change<'_>) -> bool {
        match (self, subresource, change) {
            (_, "", Change::Create(_)) => true,
            (Self::Pods, "", Change::Update(new, old)) => pod::is_terminating(new) != pod::is_terminating(old),
            (Self::Pods, "resize", Change::Update(..)) => true,
            (Self::Services | Self::Claims | Self::DeviceClaims, "", Change::Update(..)) => true,
            (Self::Claims, "status", Change::Update(new, old)) => {
                let allocated = |claim: &&Value| claim.at(&["status", "allocatedResources", "storage"]).cloned();
                allocated(new) != allocated(old)
            }
            _ => false,
        }
    }

    /// How much an object uses; `now_s` decides of pods whether they should be gone already.
    pub fn usage(&self, object: &Value, now_s: i64) -> Amounts {
        match self {
            Self::Pods => pod::usage(object, now_s),
            Self::Services => service(object),
            Self::Claims => claim(object),
            Self::DeviceClaims => device_claim(object),
            Self::Count(group, plural) => {
                let mut used = Amounts::from([(counted(group, plural).into(), number(1))]);
                if group.is_empty() && COUNTED_BY_NAME.contains(&plural.as_str()) {
                    used.insert(plural.clone(), number(1));
                }
                used
            }
        }
    }
}

/// `count/deployments.apps`.
fn counted(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

pub(crate) fn number(count: i64) -> Quantity {
    Quantity::new(count, Format::DecimalSi)
}

fn length(list: &[Value]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

fn service(service: &Value) -> Amounts {
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default();
    let named = ports.iter().filter(|port| port.i64_at(&["nodePort"]).is_some_and(|port| port != 0)).count();
    let allocates = service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(true);
    let (node_ports, balancers) = match service.str_at(&["spec", "type"]) {
        "NodePort" => (length(ports), 0),
        "LoadBalancer" if allocates => (length(ports), 1),
        "LoadBalancer" => (i64::try_from(named).unwrap_or(i64::MAX), 1),
        _ => (0, 0),
    };
    Amounts::from(SERVICE_NAMES.map(|name| {
        let used = match name {
            "services.nodeports" => node_ports,
            "services.loadbalancers" => balancers,
            _ => 1,
        };
        (Str::from(name), number(used))
    }))
}

fn claim(claim: &Value) -> Amounts {
    let mut used =
        Amounts::from(["persistentvolumeclaims", "count/persistentvolumeclaims"].map(|name| (name.into(), number(1))));
    let class = match claim.at(&["metadata", "annotations", CLASS_ANNOTATION]).and_then(Value::as_str) {
        Some(class) => class,
        None => claim.str_at(&["spec", "storageClassName"]),
    };
    let storage = storage(claim);
    if !class.is_empty() {
        used.insert(format!("{class}{CLASS}persistentvolumeclaims").into(), number(1));
        used.extend(storage.clone().map(|storage| (format!("{class}{CLASS}requests.storage").into(), storage)));
    }
    used.extend(storage.map(|storage| ("requests.storage".into(), storage)));
    used
}

/// What a claim asks for, or has been given where that is more; in whole bytes.
fn storage(claim: &Value) -> Option<Quantity> {
    let asked = read(claim.at(&["spec", "resources", "requests"])).remove("storage")?;
    let given = read(claim.at(&["status", "allocatedResources"])).remove("storage");
    let most = given.filter(|given| *given > asked).unwrap_or(asked);
    let whole = Quantity::new(most.value(), most.format());
    Some(if whole == most { most } else { whole })
}

fn device_claim(claim: &Value) -> Amounts {
    let mut used = Amounts::from([("count/resourceclaims.resource.k8s.io".into(), number(1))]);
    for request in claim.at(&["spec", "devices", "requests"]).and_then(Value::as_array).unwrap_or_default() {
        let mut most = Amounts::new();
        let first = request.get("firstAvailable").and_then(Value::as_array).unwrap_or_default();
        for one in first.iter().chain(request.get("exactly").filter(|_| first.is_empty())) {
            let name: Str = format!("{}{DEVICES}", one.str_at(&["deviceClassName"])).into();
            let devices = number(devices(one));
            if most.get(&name).is_none_or(|other| *other < devices) {
                most.insert(name, devices);
            }
        }
        add(&mut used, &most);
    }
    used
}

fn devices(request: &Value) -> i64 {
    match request.str_at(&["allocationMode"]) {
        "ExactCount" => request.i64_at(&["count"]).unwrap_or(0),
        "All" => DEVICES_MAX,
        _ => 0,
    }
}
