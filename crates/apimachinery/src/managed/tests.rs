use super::*;
use crate::field::FieldPath;
use crate::json;
use crate::schema::structural::{Structural, StructuralNode};
use crate::value;

const SCHEMA: &str = r#"{"type": "object", "properties": {
    "apiVersion": {"type": "string"}, "kind": {"type": "string"},
    "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    "spec": {"type": "object", "properties": {
        "replicas": {"type": "integer"},
        "paused": {"type": "boolean"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "args": {"type": "array", "items": {"type": "string"}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "protocol"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "protocol": {"type": "string", "default": "TCP"}, "size": {"type": "integer"}
            }}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    }},
    "status": {"type": "object", "properties": {"ready": {"type": "integer"}}}
}}"#;

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap().value
}

/// An object that several managers write in turn, one second apart.
struct World {
    schema: Structural,
    gvk: GroupVersionKind,
    live: Option<Value>,
    seconds: i64,
}

impl World {
    fn new() -> Self {
        let schema = Structural::parse(&parse(SCHEMA), &FieldPath::root()).unwrap();
        Self { schema, gvk: GroupVersionKind::new("shop.io", "v1", "Shop"), live: None, seconds: 1_800_000_000 }
    }

    fn object(&self, spec: &str) -> Value {
        let mut object = value!({"apiVersion": "shop.io/v1", "kind": "Shop", "metadata": {"name": "a"}});
        object.as_object_mut().unwrap().insert("spec", parse(spec));
        object
    }

    fn update(&mut self, manager: &str, spec: &str) -> String {
        let object = self.object(spec);
        self.write(manager, "", Endpoint::WITHOUT_STATUS, object)
    }

    fn write(&mut self, manager: &str, subresource: &str, endpoint: Endpoint<'static>, mut object: Value) -> String {
        self.seconds += 1;
        let gvk = self.gvk.clone();
        let manager = Manager { name: manager, gvk: &gvk, subresource, endpoint };
        let node = Node::Structural(StructuralNode { schema: &self.schema, metadata: None });
        update(self.live.as_ref(), &mut object, node, &manager, Some(Time::from_seconds(self.seconds)));
        object.object_entry("metadata").insert("uid", "1");
        self.live = Some(object);
        self.owners()
    }

    fn apply(&mut self, manager: &str, spec: &str, force: bool) -> Result<String, String> {
        let config = self.object(spec);
        self.apply_object(manager, &config, force)
    }

    fn apply_object(&mut self, manager: &str, config: &Value, force: bool) -> Result<String, String> {
        self.seconds += 1;
        let gvk = self.gvk.clone();
        let manager = Manager { name: manager, gvk: &gvk, subresource: "", endpoint: Endpoint::WITHOUT_STATUS };
        let node = Node::Structural(StructuralNode { schema: &self.schema, metadata: None });
        let now = Some(Time::from_seconds(self.seconds));
        let mut object =
            apply(self.live.as_ref(), config, node, &manager, force, now).map_err(|error| error.to_string())?;
        object.object_entry("metadata").insert("uid", "1");
        self.live = Some(object);
        Ok(self.owners())
    }

    fn spec(&self) -> String {
        self.live.as_ref().unwrap().get("spec").map(json::to_string).unwrap_or_default()
    }

    /// `manager operation fields` a line, what stands below `spec` without that.
    fn owners(&self) -> String {
        let live = self.live.as_ref().unwrap();
        let lines = Meta::of(live).managed_fields().iter().map(|entry| {
            let fields = json::to_string(entry.get("fieldsV1").unwrap()).replace("\\\"", "'").replace('"', "");
            format!("{} {} {fields}", entry.str_at(&["manager"]), entry.str_at(&["operation"]))
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn time_of(&self, manager: &str) -> String {
        let entries = Meta::of(self.live.as_ref().unwrap()).managed_fields();
        let entry = entries.iter().find(|entry| entry.str_at(&["manager"]) == manager).unwrap();
        entry.str_at(&["time"]).to_owned()
    }
}

#[test]
fn updates_own_what_they_change() {
    let mut world = World::new();
    assert_eq!(
        world.update(
            "a",
            r#"{"replicas":1,"labels":{"x":"1"},"args":["p"],"parts":[{"name":"n","size":1}],"tags":["t"]}"#
        ),
        "a Update {f:spec:{.:{},f:args:{},f:labels:{.:{},f:x:{}},f:parts:{.:{},k:{'name':'n','protocol':'TCP'}:{.:{},f:name:{},f:size:{}}},f:replicas:{},f:tags:{.:{},v:'t':{}}}}"
    );
    assert_eq!(
        world.update("b", r#"{"replicas":2,"labels":{"x":"1","y":"2"},"args":["p"],"parts":[{"name":"n","size":1}]}"#),
        "a Update {f:spec:{.:{},f:args:{},f:labels:{.:{},f:x:{}},f:parts:{.:{},k:{'name':'n','protocol':'TCP'}:{.:{},f:name:{},f:size:{}}}}}\nb Update {f:spec:{f:labels:{f:y:{}},f:replicas:{}}}"
    );
    let before = world.time_of("b");
    world.update("b", r#"{"replicas":2,"labels":{"x":"1","y":"2"},"args":["p"],"parts":[{"name":"n","size":1}]}"#);
    assert_eq!(world.time_of("b"), before, "a write that changes nothing keeps the time");
}

#[test]
fn applying_owns_prunes_and_conflicts() {
    let mut world = World::new();
    world
        .apply(
            "one",
            r#"{"replicas":1,"labels":{"x":"1","y":"1"},"parts":[{"name":"n","size":1},{"name":"m"}]}"#,
            false,
        )
        .unwrap();
    assert_eq!(
        world.owners(),
        "one Apply {f:spec:{f:labels:{f:x:{},f:y:{}},f:parts:{k:{'name':'m','protocol':'TCP'}:{.:{},f:name:{}},k:{'name':'n','protocol':'TCP'}:{.:{},f:name:{},f:size:{}}},f:replicas:{}}}"
    );
    // Another one shares a field and adds its own.
    world.apply("two", r#"{"labels":{"x":"1","z":"1"}}"#, false).unwrap();
    assert_eq!(
        world.apply("two", r#"{"labels":{"x":"2"},"replicas":3}"#, false).unwrap_err(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n- .spec.labels.x"
    );
    assert_eq!(
        world.apply("two", r#"{"labels":{"x":"2"}}"#, false).unwrap_err(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.labels.x"
    );
    world.apply("two", r#"{"labels":{"x":"2"}}"#, true).unwrap();
    assert_eq!(
        world.spec(),
        r#"{"replicas":1,"labels":{"x":"2","y":"1"},"parts":[{"name":"n","size":1},{"name":"m"}]}"#
    );
    // What one no longer applies goes; what two owns stays.
    world.apply("one", r#"{"replicas":1,"parts":[{"name":"m"}]}"#, false).unwrap();
    assert_eq!(world.spec(), r#"{"replicas":1,"labels":{"x":"2"},"parts":[{"name":"m"}]}"#);
    assert_eq!(
        world.owners(),
        "two Apply {f:spec:{f:labels:{f:x:{}}}}\none Apply {f:spec:{f:parts:{k:{'name':'m','protocol':'TCP'}:{.:{},f:name:{}}},f:replicas:{}}}"
    );
    let before = world.time_of("one");
    world.apply("one", r#"{"replicas":1,"parts":[{"name":"m"}]}"#, false).unwrap();
    assert_eq!(world.time_of("one"), before);
}

#[test]
fn updaters_conflict_by_version_and_subresource() {
    let mut world = World::new();
    world.update("kubectl", r#"{"replicas":1}"#);
    let mut scaled = world.live.clone().unwrap();
    scaled.object_entry("spec").insert("replicas", 2);
    world.write("hpa", "scale", Endpoint::All, scaled);
    let error = world.apply("one", r#"{"replicas":3}"#, false).unwrap_err();
    assert_eq!(
        error,
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using shop.io/v1: .spec.replicas"
    );
    let config = world.object(r#"{"replicas":3}"#);
    let manager = Manager { name: "one", gvk: &world.gvk, subresource: "", endpoint: Endpoint::All };
    let node = Node::Structural(StructuralNode { schema: &world.schema, metadata: None });
    let status =
        apply(world.live.as_ref(), &config, node, &manager, false, Some(Time::default())).unwrap_err().to_status();
    assert_eq!(
        json::to_string(&status.to_value()),
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using shop.io/v1: .spec.replicas","reason":"Conflict","details":{"causes":[{"reason":"FieldManagerConflict","message":"conflict with \"hpa\" with subresource \"scale\" using shop.io/v1","field":".spec.replicas"}]},"code":409}"#
    );
}

#[test]
fn status_and_spec_have_owners_of_their_own() {
    let mut world = World::new();
    let mut object = world.object(r#"{"replicas":1}"#);
    object.object_entry("status").insert("ready", 1);
    assert_eq!(
        world.write("a", "", Endpoint::WITHOUT_STATUS, object.clone()),
        "a Update {f:spec:{.:{},f:replicas:{}}}"
    );
    object.object_entry("status").insert("ready", 2);
    object.object_entry("spec").insert("replicas", 2);
    let owners = world.write("b", "status", Endpoint::STATUS, object);
    assert_eq!(owners, "a Update {f:spec:{.:{},f:replicas:{}}}\nb Update {f:status:{f:ready:{}}}");
}

#[test]
fn first_apply_records_what_was_there() {
    let mut world = World::new();
    world.update("a", r#"{"replicas":1,"labels":{"x":"1"}}"#);
    world.live.as_mut().unwrap().object_entry("metadata").remove("managedFields");
    assert_eq!(
        world.update("a", r#"{"replicas":2,"labels":{"x":"1"}}"#),
        "",
        "nobody is recorded before the first apply"
    );
    assert_eq!(
        world.apply("one", r#"{"replicas":3}"#, false).unwrap_err(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using shop.io/v1: .spec.replicas"
    );
    world.apply("one", r#"{"replicas":2}"#, false).unwrap();
    assert!(world.owners().contains("before-first-apply Update"), "{}", world.owners());
}

#[test]
fn entries_are_kept_replaced_and_reset() {
    let mut world = World::new();
    world.update("a", r#"{"replicas":1}"#);
    // Clients that do not know the field do not delete it.
    let owners = world.update("a", r#"{"replicas":1}"#);
    assert_eq!(owners, "a Update {f:spec:{.:{},f:replicas:{}}}");
    let mut reset = world.live.clone().unwrap();
    reset.object_entry("metadata").insert("managedFields", value!([{}]));
    assert_eq!(world.write("a", "", Endpoint::All, reset), "");
}

#[test]
fn old_updaters_are_merged() {
    let mut world = World::new();
    world.update("m0", "{}");
    for number in 1..=12 {
        let labels: Vec<String> = (1..=number).map(|n| format!("\"l{n}\":\"x\"")).collect();
        world.update(&format!("m{number}"), &format!("{{\"labels\":{{{}}}}}", labels.join(",")));
    }
    let owners = world.owners();
    assert_eq!(owners.lines().count(), UPDATERS, "{owners}");
    assert!(
        owners.starts_with("ancient-changes Update {f:spec:{.:{},f:labels:{.:{},f:l1:{},f:l2:{},f:l3:{}}}}"),
        "{owners}"
    );
}

const UPDATERS: usize = 10;

#[test]
fn kubectl_moves_from_client_side_apply() {
    let mut world = World::new();
    let config = world.object(r#"{"replicas":1,"labels":{"x":"1"}}"#);
    let mut live = config.clone();
    let annotations = live.object_entry("metadata").object_entry("annotations");
    annotations.insert("kubectl.kubernetes.io/last-applied-configuration", json::to_string(&config));
    world.write("kubectl-client-side-apply", "", Endpoint::All, live);
    let mut other = world.live.clone().unwrap();
    other.object_entry("spec").insert("replicas", 5);
    world.write("hpa", "", Endpoint::All, other);
    // labels.x is as kubectl left it; replicas is not.
    assert_eq!(
        world.apply("kubectl", r#"{"replicas":2,"labels":{"x":"2"}}"#, false).unwrap_err(),
        "Apply failed with 1 conflict: conflict with \"hpa\" using shop.io/v1: .spec.replicas"
    );
    world.apply("kubectl", r#"{"labels":{"x":"2"}}"#, false).unwrap();
    assert_eq!(world.spec(), r#"{"replicas":5,"labels":{"x":"2"}}"#);
    let live = world.live.as_ref().unwrap();
    assert_eq!(
        Meta::of(live).annotation("kubectl.kubernetes.io/last-applied-configuration"),
        Some(
            "{\"apiVersion\":\"shop.io/v1\",\"kind\":\"Shop\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"labels\":{\"x\":\"2\"}}}\n"
        )
    );
}

#[test]
fn lists_and_maps_by_kind() {
    let mut world = World::new();
    world
        .apply("one", r#"{"tags":["b","a"],"args":["1"],"selector":{"a":"1"},"free":{"l":[1],"m":{"k":1}}}"#, false)
        .unwrap();
    assert_eq!(
        world.owners(),
        "one Apply {f:spec:{f:args:{},f:free:{f:l:{},f:m:{.:{},f:k:{}}},f:selector:{},f:tags:{v:'a':{},v:'b':{}}}}"
    );
    world.apply("two", r#"{"tags":["c","a"],"free":{"m":{"z":1}}}"#, false).unwrap();
    assert_eq!(
        world.spec(),
        r#"{"tags":["b","c","a"],"args":["1"],"selector":{"a":"1"},"free":{"l":[1],"m":{"k":1,"z":1}}}"#
    );
    assert_eq!(
        world.apply("two", r#"{"args":["2"],"selector":{"b":"1"},"free":{"l":[2]}}"#, false).unwrap_err(),
        "Apply failed with 3 conflicts: conflicts with \"one\":\n- .spec.args\n- .spec.selector\n- .spec.free.l"
    );
    world.apply("one", r#"{"tags":["b"]}"#, false).unwrap();
    assert_eq!(world.spec(), r#"{"tags":["b","c","a"],"free":{"m":{"z":1}}}"#);
}

#[test]
fn configurations_are_checked() {
    let mut world = World::new();
    for (spec, error) in [
        (r#"{"bogus":1}"#, ".spec.bogus: field not declared in schema"),
        (r#"{"replicas":"x"}"#, ".spec.replicas: expected numeric (int or float), got string"),
        (r#"{"tags":["a","a"]}"#, ".spec.tags: duplicate entries for key [=\"a\"]"),
        (
            r#"{"parts":[{"name":"a"},{"name":"a","protocol":"TCP"}]}"#,
            ".spec.parts: duplicate entries for key [name=\"a\",protocol=\"TCP\"]",
        ),
        (r#"{"labels":{"x":1}}"#, ".spec.labels.x: expected string, got &value.valueUnstructured{Value:1}"),
    ] {
        let expect = format!("failed to create typed patch object (/a; shop.io/v1, Kind=Shop): {error}");
        assert_eq!(world.apply("one", spec, false).unwrap_err(), expect);
    }
    let config = value!({"apiVersion": "shop.io/v2", "kind": "Shop"});
    assert_eq!(world.apply_object("one", &config, false).unwrap_err(), "invalid object type: shop.io/v2, Kind=Shop");
    let mut config = world.object("{}");
    config.object_entry("metadata").insert("managedFields", value!([]));
    assert_eq!(world.apply_object("one", &config, false).unwrap_err(), "metadata.managedFields must be nil");
}

#[test]
fn field_sets_round_trip() {
    for text in [
        "{}",
        r#"{"f:a":{}}"#,
        r#"{"f:a":{".":{},"f:b":{}},"f:c":{"k:{\"name\":\"x\",\"port\":80}":{".":{},"f:name":{}},"v:\"s\"":{},"v:1":{},"i:3":{}}}"#,
    ] {
        let set = FieldSet::from_value(&parse(text)).unwrap();
        assert_eq!(FieldSet::from_value(&set.to_value()).unwrap(), set);
        assert_eq!(set.to_value(), parse(text));
    }
    for text in ["[]", r#"{"x":{}}"#, r#"{"q:x":{}}"#, r#"{"k:[]":{}}"#, r#"{"i:x":{}}"#, r#"{"f:a":1}"#] {
        assert!(FieldSet::from_value(&parse(text)).is_err(), "{text}");
    }
}

#[test]
fn settling_ignores_times() {
    let live = value!({"metadata": {"managedFields": [{"manager": "a", "time": "2026-01-01T00:00:00Z"}]}});
    let mut same = value!({"metadata": {"managedFields": [{"manager": "a", "time": "2026-01-01T00:00:09Z"}]}});
    assert!(settle(&live, &mut same));
    assert_eq!(same, live);
    let mut other = value!({"metadata": {"managedFields": [{"manager": "b", "time": "2026-01-01T00:00:09Z"}]}});
    assert!(!settle(&live, &mut other));
}
