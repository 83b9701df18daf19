//! Ingresses, network policies, endpoint slices, addresses.

use super::{kind, validate, with};

const VERSION: &str = "networking.k8s.io/v1";
const INGRESS: &str = r#"{"metadata":{"name":"i"},"spec":{"rules":[{"host":"a.b","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"s","port":{"number":80}}}}]}}]}}"#;
const SLICE: &str =
    r#"{"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"name":"http","port":80}]}"#;

#[track_caller]
fn ingress(part: &str, instead: &str, expect: &[&str]) {
    validate(kind(VERSION, "Ingress"), &with(INGRESS, part, instead), None, "", expect);
}

#[test]
fn ingresses() {
    let path = "spec.rules[0].http.paths[0]";
    ingress("a.b", "c.d", &[]);
    ingress(
        r#""path":"/""#,
        r#""path":"a""#,
        &[&format!(r#"{path}.path: Invalid value: "a": must be an absolute path"#)],
    );
    ingress(
        r#""path":"/""#,
        r#""path":"/a//b/..""#,
        &[
            &format!(r#"{path}.path: Invalid value: "/a//b/..": must not contain '//'"#),
            &format!(r#"{path}.path: Invalid value: "/a//b/..": cannot end with '/..'"#),
        ],
    );
    ingress(
        r#""pathType":"Prefix""#,
        r#""pathType":"X""#,
        &[&format!(
            r#"{path}.pathType: Unsupported value: "X": supported values: "Exact", "ImplementationSpecific", "Prefix""#
        )],
    );
    ingress(r#""pathType":"Prefix","#, "", &[&format!("{path}.pathType: Required value: pathType must be specified")]);
    ingress(r#"{"number":80}"#, "{}", &[&format!("{path}.backend: Required value: port name or number is required")]);
    ingress(
        r#"{"number":80}"#,
        r#"{"number":80,"name":"x"}"#,
        &[&format!(r#"{path}.backend: Invalid value: "": cannot set both port name & port number"#)],
    );
    ingress(
        "a.b",
        "10.0.0.1",
        &[r#"spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address"#],
    );
    validate(
        kind(VERSION, "Ingress"),
        r#"{"spec":{}}"#,
        None,
        "",
        &["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"],
    );
}

#[test]
fn ingress_classes() {
    let check = |text: &str, expect: &[&str]| validate(kind(VERSION, "IngressClass"), text, None, "", expect);
    check(r#"{"spec":{"controller":"a.b/c"}}"#, &[]);
    check(r#"{"spec":{}}"#, &["spec.controller: Required value"]);
    check(
        r#"{"spec":{"controller":"a.b/c","parameters":{"kind":"K","name":"n","scope":"Namespace"}}}"#,
        &["spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'"],
    );
}

#[test]
fn network_policies() {
    let check = |spec: &str, expect: &[&str]| {
        validate(kind(VERSION, "NetworkPolicy"), &format!(r#"{{"spec":{spec}}}"#), None, "", expect);
    };
    check("{}", &[]);
    check(r#"{"ingress":[{"from":[{}]}]}"#, &["spec.ingress[0].from[0]: Required value: must specify a peer"]);
    check(
        r#"{"egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16"]},"podSelector":{}}]}]}"#,
        &[
            r#"spec.egress[0].to[0].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`"#,
            "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
        ],
    );
    check(
        r#"{"ingress":[{"ports":[{"port":80,"endPort":79},{"endPort":5},{"port":"a","endPort":5}]}]}"#,
        &[
            "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            "spec.ingress[0].ports[1].endPort: Invalid value: 5: may not be specified when `port` is not specified",
            "spec.ingress[0].ports[2].endPort: Invalid value: 5: may not be specified when `port` is non-numeric",
        ],
    );
}

#[test]
fn addresses() {
    validate(
        kind(VERSION, "IPAddress"),
        r#"{"metadata":{"name":"10.0.0.01"},"spec":{"parentRef":{"resource":"services"}}}"#,
        None,
        "",
        &[
            r#"metadata.name: Invalid value: "10.0.0.01": must not have leading 0s"#,
            "spec.parentRef.name: Required value",
        ],
    );
    validate(
        kind(VERSION, "ServiceCIDR"),
        r#"{"spec":{"cidrs":["10.0.0.0/8","11.0.0.0/8"]}}"#,
        None,
        "",
        &[
            r#"spec.cidrs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"#,
        ],
    );
}

#[test]
fn endpoint_slices() {
    let check = |part: &str, instead: &str, expect: &[&str]| {
        validate(kind("discovery.k8s.io/v1", "EndpointSlice"), &with(SLICE, part, instead), None, "", expect);
    };
    check("http", "web", &[]);
    check(r#""10.0.0.1""#, "", &["endpoints[0].addresses: Required value: must contain at least 1 address"]);
    check(
        "10.0.0.1",
        "127.0.0.1",
        &[
            r#"endpoints[0].addresses[0]: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128)"#,
        ],
    );
    check("10.0.0.1", "fd00::1", &[r#"endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address"#]);
    check(r#""port":80}"#, r#""port":80},{"name":"http","port":81}"#, &[r#"ports[1].name: Duplicate value: "http""#]);
    let other = with(SLICE, "IPv4", "IPv6");
    validate(
        kind("discovery.k8s.io/v1", "EndpointSlice"),
        &with(&other, "10.0.0.1", "fd00::1"),
        Some(SLICE),
        "",
        &[r#"addressType: Invalid value: "IPv6": field is immutable"#],
    );
}
