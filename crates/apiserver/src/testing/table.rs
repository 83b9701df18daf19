//! The cases. Each takes a registry that serves the kind and a sample of it, and panics with the kind's name where the
//! kind does not behave.

use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::kind::{KindInfo, Propagation};
use corten_apimachinery::meta::Meta;
use corten_apimachinery::schema::Node;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use futures_util::StreamExt as _;

use super::{body, context, target};
use crate::registry::{
    Configuration, Context, DeleteOptions, Deleted, FieldValidation, ListOptions, Patch, Registry, Shown, Target,
    WatchEvent, WriteOptions,
};

/// A kind and an object of it that can be created as it stands.
#[derive(Clone)]
pub struct Sample {
    pub kind: Arc<KindInfo>,
    /// A valid object; its name is replaced by each case.
    pub object: Value,
    /// A top-level part in which no schema knows the field `bogus`.
    pub part: &'static str,
    /// A field of status and a valid value, where status is a subresource.
    pub status: Option<(Str, Value)>,
}

/// Runs all cases, one after the other, each under names of its own.
pub async fn all(registry: &Registry, sample: &Sample) {
    create(registry, sample).await;
    bad_field(registry, sample).await;
    pages(registry, sample).await;
    watch(registry, sample).await;
    update(registry, sample).await;
    patches(registry, sample).await;
    apply(registry, sample).await;
    status_split(registry, sample).await;
    delete(registry, sample).await;
    delete_waits_for_finalizers(registry, sample).await;
}

impl Sample {
    /// The object under a name.
    pub fn named(&self, name: &str) -> Value {
        let mut object = self.object.clone();
        object.object_entry("metadata").insert("name", name);
        let gvk = &self.kind.gvk;
        for (field, text) in [("apiVersion", gvk.api_version()), ("kind", gvk.kind.clone())] {
            object.as_object_mut().expect("an object").insert(field, text);
        }
        object
    }

    fn collection(&self) -> Target {
        target(&self.kind, "")
    }

    fn target(&self, name: &str) -> Target {
        target(&self.kind, name)
    }

    fn resource(&self) -> String {
        self.kind.group_resource().to_string()
    }
}

/// Creates the sample under a name.
///
/// # Panics
/// If that is refused.
pub async fn make(registry: &Registry, sample: &Sample, name: &str) -> Value {
    let written =
        registry.create(&context(), &sample.collection(), body(sample.named(name)), WriteOptions::default()).await;
    let written = written.unwrap_or_else(|status| panic!("{}: create {name}: {status}", sample.kind.gvk));
    tree(&written.object)
}

fn tree(shown: &Shown) -> Value {
    let value = shown.to_value().expect("what was just written can be read");
    let mut json = Vec::new();
    shown.write_json(&mut json).expect("what was just written can be printed");
    let printed = corten_apimachinery::json::parse(&json).expect("printed JSON parses").value;
    assert_eq!(printed, value, "both ways to show an object agree");
    value
}

#[track_caller]
fn refused<T>(answer: Result<T, Status>, code: u16, message: &str) {
    match answer {
        Ok(_) => panic!("accepted instead of: {code} {message}"),
        Err(status) => assert_eq!((status.code, status.message.as_str()), (code, message)),
    }
}

/// Create sets identity, age and generation, drops status, answers 201, refuses doubles, makes up names.
pub async fn create(registry: &Registry, sample: &Sample) {
    let made = make(registry, sample, "create-a").await;
    let about = &sample.kind.gvk;
    assert_eq!(made.str_at(&["metadata", "name"]), "create-a", "{about}");
    assert_eq!(made.str_at(&["metadata", "uid"]).len(), 36, "{about}");
    assert_eq!(made.str_at(&["metadata", "creationTimestamp"]), "2026-01-01T00:00:00Z", "{about}");
    assert_eq!(made.str_at(&["apiVersion"]), about.api_version(), "{about}");
    assert_eq!(made.i64_at(&["metadata", "generation"]), sample.kind.strategy.generation.then_some(1), "{about}");
    let revision: u64 = made.str_at(&["metadata", "resourceVersion"]).parse().expect("a decimal revision");
    assert!(revision > 1, "{about}");
    let got = registry.get(&sample.target("create-a"), &ListOptions::default()).await.expect("just created");
    assert_eq!(tree(&got), made, "{about}");

    let again = registry
        .create(&context(), &sample.collection(), body(sample.named("create-a")), WriteOptions::default())
        .await;
    refused(again, 409, &format!("{} \"create-a\" already exists", sample.resource()));

    let mut unnamed = sample.named("");
    unnamed.object_entry("metadata").remove("name");
    unnamed.object_entry("metadata").insert("generateName", "create-");
    let made = registry.create(&context(), &sample.collection(), body(unnamed), WriteOptions::default()).await;
    let made = made.unwrap_or_else(|status| panic!("{about}: {status}"));
    assert!(made.created, "{about}");
    assert_eq!(tree(&made.object).str_at(&["metadata", "name"]).len(), "create-".len() + 5, "{about}");

    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let made = registry.create(&context(), &sample.collection(), body(sample.named("create-dry")), dry).await;
    let made = made.unwrap_or_else(|status| panic!("{about}: {status}"));
    assert_eq!(tree(&made.object).str_at(&["metadata", "resourceVersion"]), "", "{about}");
    let absent = registry.get(&sample.target("create-dry"), &ListOptions::default()).await;
    refused(absent, 404, &format!("{} \"create-dry\" not found", sample.resource()));
}

/// An unknown field is dropped silently, with a warning, or refused, as the client asks.
pub async fn bad_field(registry: &Registry, sample: &Sample) {
    let mut bad = sample.named("bad-field");
    bad.object_entry(sample.part).insert("bogus", 1);
    let unknown = format!("unknown field \"{}.bogus\"", sample.part);
    let create = async |validation| {
        let mut bad = body(bad.clone());
        bad.duplicates.push("metadata.name".to_owned());
        let options = WriteOptions { dry_run: true, field_validation: validation, ..WriteOptions::default() };
        registry.create(&context(), &sample.collection(), bad, options).await
    };
    let ignored = create(FieldValidation::Ignore).await.expect("ignored");
    assert!(!ignored.warnings.contains(&unknown), "{}", sample.kind.gvk);
    assert!(tree(&ignored.object).at(&[sample.part, "bogus"]).is_none(), "{}", sample.kind.gvk);
    let warned = create(FieldValidation::Warn).await.expect("warned");
    assert_eq!(warned.warnings[..2], [unknown.as_str(), r#"duplicate field "metadata.name""#]);
    let (version, kind) = (&sample.kind.gvk.version, &sample.kind.gvk.kind);
    let message = format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {unknown}, duplicate \
         field \"metadata.name\""
    );
    refused(create(FieldValidation::Strict).await, 400, &message);
}

/// Pages of one list show one revision, whatever is written meanwhile.
pub async fn pages(registry: &Registry, sample: &Sample) {
    for name in ["page-a", "page-b", "page-c", "page-d"] {
        make(registry, sample, name).await;
    }
    let namespace = sample.collection().namespace;
    let list = async |options: ListOptions| {
        let list = registry.list(&sample.kind, &namespace, &options).await.expect("a list");
        let names: Vec<String> = list.items.iter().map(|object| object.head.name.to_string()).collect();
        (list, names)
    };
    let (whole, all) = list(ListOptions::default()).await;
    assert!(whole.continue_token.is_empty() && whole.remaining.is_none(), "{}", sample.kind.gvk);
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(all, sorted, "{}", sample.kind.gvk);

    let (mut page, mut names) = list(ListOptions { limit: 2, ..ListOptions::default() }).await;
    assert_eq!(page.remaining, Some(all.len() as u64 - 2));
    let revision = page.revision;
    make(registry, sample, "page-late").await;
    while !page.continue_token.is_empty() {
        let options = ListOptions { limit: 2, continue_token: page.continue_token, ..ListOptions::default() };
        let (next, more) = list(options).await;
        assert_eq!(next.revision, revision, "{}", sample.kind.gvk);
        names.extend(more);
        page = next;
    }
    assert_eq!(names, all, "{}: a later object is not in", sample.kind.gvk);
    let (_, now) = list(ListOptions::default()).await;
    assert_eq!(now.len(), all.len() + 1, "{}", sample.kind.gvk);
}

/// A watch begins with what is there, or goes on after a revision; every change comes once, in order.
pub async fn watch(registry: &Registry, sample: &Sample) {
    let namespace = sample.collection().namespace;
    let first = make(registry, sample, "watch-a").await;
    let revision = first.str_at(&["metadata", "resourceVersion"]).to_owned();
    let options = ListOptions { resource_version: revision, ..ListOptions::default() };
    let mut changes = registry.watch(&sample.kind, &namespace, &options).await.expect("a watch");
    let second = make(registry, sample, "watch-b").await;
    match changes.next().await {
        Some(WatchEvent::Added(object)) => assert_eq!(tree(&object), second, "{}", sample.kind.gvk),
        _ => panic!("{}: ADDED of the second object expected", sample.kind.gvk),
    }
    let mut everything = registry.watch(&sample.kind, &namespace, &ListOptions::default()).await.expect("a watch");
    let list = registry.list(&sample.kind, &namespace, &ListOptions::default()).await.expect("a list");
    for object in list.items {
        match everything.next().await {
            Some(WatchEvent::Added(added)) => assert_eq!(added.object.head, object.head, "{}", sample.kind.gvk),
            _ => panic!("{}: ADDED of {} expected", sample.kind.gvk, object.head.name),
        }
    }
}

/// Update replaces, insists on a revision only where it is given, bumps neither revision nor generation for nothing.
pub async fn update(registry: &Registry, sample: &Sample) {
    let about = &sample.kind.gvk;
    let made = make(registry, sample, "update-a").await;
    let put = async |value: Value, dry_run| {
        let options = WriteOptions { dry_run, ..WriteOptions::default() };
        registry.update(&context(), &sample.target("update-a"), body(value), options).await
    };
    let same = put(made.clone(), false).await.expect("nothing to do");
    assert!(!same.created);
    assert_eq!(tree(&same.object), made, "{about}: a write of the same is none");

    let mut noted = made.clone();
    noted.object_entry("metadata").object_entry("annotations").insert("k", "v");
    let dry = put(noted.clone(), true).await.expect("a dry run");
    assert_eq!(
        comparable(tree(&dry.object)),
        comparable(noted.clone()),
        "{about}: a dry run shows the change under the old revision"
    );
    let written = tree(&put(noted.clone(), false).await.expect("an update").object);
    assert!(revision(&written) > revision(&made), "{about}");
    let changed_again = "the object has been modified; please apply your changes to the latest version and try again";
    let message = format!("Operation cannot be fulfilled on {} \"update-a\": {changed_again}", sample.resource());
    refused(put(noted.clone(), false).await, 409, &message);

    noted.object_entry("metadata").remove("resourceVersion");
    noted.object_entry("metadata").object_entry("annotations").insert("k", "w");
    match sample.kind.strategy.unconditional_update {
        true => assert!(put(noted.clone(), false).await.is_ok(), "{about}"),
        false => {
            let message = format!(
                "{} \"update-a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update",
                sample.resource()
            );
            refused(put(noted.clone(), false).await, 422, &message);
        }
    }
    noted.object_entry("metadata").insert("name", "other");
    let message = "the name of the object (other) does not match the name on the URL (update-a)";
    refused(put(noted.clone(), false).await, 400, message);
    noted.object_entry("metadata").insert("name", "update-a");
    noted.object_entry("metadata").insert("uid", "00000000-0000-4000-8000-000000000000");
    let status = put(noted, false).await.err().expect("another object's UID");
    assert_eq!(status.code, 409, "{about}: {status}");
    assert!(status.message.contains("Precondition failed: UID in precondition: 00000000-"), "{about}: {status}");
}

/// Without what follows from a change: some kinds count one of annotations or labels as one of intent.
fn comparable(mut value: Value) -> Value {
    for field in ["generation", "managedFields"] {
        value.object_entry("metadata").remove(field);
    }
    value
}

fn revision(value: &Value) -> u64 {
    value.str_at(&["metadata", "resourceVersion"]).parse().expect("a decimal revision")
}

/// Three kinds of patches change annotations; strict validation and revisions hold for them too.
pub async fn patches(registry: &Registry, sample: &Sample) {
    let about = &sample.kind.gvk;
    let made = make(registry, sample, "patch-a").await;
    let target = sample.target("patch-a");
    let strict = WriteOptions { field_validation: FieldValidation::Strict, ..WriteOptions::default() };
    let patch = async |patch| registry.patch(&context(), &target, patch, strict).await;
    let note = |key: &str| value!({"metadata": {"annotations": {"x": key}}});
    let json = |text: &str| Patch::Json(Bytes::from(text.to_owned()));
    let strategic = matches!(sample.kind.schema.node(), Node::Table(_));
    for (index, document) in [
        Patch::Merge(body(note("1"))),
        json(r#"[{"op":"replace","path":"/metadata/annotations/x","value":"2"}]"#),
        Patch::Strategic(body(note("3"))),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = patch(document.clone()).await;
        if matches!(document, Patch::Strategic(_)) && !strategic {
            assert_eq!(answer.err().map(|status| status.code), Some(415), "{about}: no merge keys");
            continue;
        }
        let written = tree(&answer.unwrap_or_else(|status| panic!("{about}: {status}")).object);
        let note = (index + 1).to_string();
        assert_eq!(written.str_at(&["metadata", "annotations", "x"]), note, "{about}");
    }
    let mut bogus = Value::object();
    bogus.object_entry(sample.part).insert("bogus", 1);
    let status = patch(Patch::Merge(body(bogus))).await.err().expect("an unknown field");
    let found = format!("strict decoding error: unknown field \"{}.bogus\"", sample.part);
    assert_eq!(status.code, 422, "{about}: {status}");
    assert!(status.message.starts_with(" \"\" is invalid: patch: Invalid value: "), "{about}: {status}");
    assert!(status.message.ends_with(&found), "{about}: {status}");

    let stale = value!({"metadata": {"resourceVersion": (made.str_at(&["metadata", "resourceVersion"]))}});
    assert_eq!(patch(Patch::Merge(body(stale))).await.err().map(|status| status.code), Some(409), "{about}");
    let status = patch(json(r#"[{"op":"test","path":"/kind","value":"x"}]"#)).await.err().expect("a failed test");
    assert_eq!(status.code, 422, "{about}: {status}");
    let renamed = patch(Patch::Merge(body(value!({"metadata": {"name": "other"}})))).await;
    refused(renamed, 400, "the name of the object (other) does not match the name on the URL (patch-a)");
    let nothing = patch(Patch::Merge(body(Value::object()))).await.expect("nothing to do");
    let before = registry.get(&target, &ListOptions::default()).await.expect("still there");
    assert_eq!(tree(&nothing.object), tree(&before), "{about}: an empty patch writes nothing");
    let absent = registry.patch(&context(), &sample.target("absent"), Patch::Merge(body(note("1"))), strict).await;
    refused(absent, 404, &format!("{} \"absent\" not found", sample.resource()));
}

/// Apply creates and changes, writes nothing for nothing, and asks before it takes a field from somebody else.
pub async fn apply(registry: &Registry, sample: &Sample) {
    let about = &sample.kind.gvk;
    let target = sample.target("apply-a");
    let config = |note: &str| {
        let mut config = sample.named("apply-a");
        let annotations = config.object_entry("metadata").object_entry("annotations");
        annotations.insert("note", note);
        annotations.insert("kept", "by the first manager");
        config
    };
    let by = |manager: &str| Context::new(context().user, manager);
    let apply = async |manager: &str, config: Value, force| {
        let options = WriteOptions { force, ..WriteOptions::default() };
        registry
            .patch(&by(manager), &target, Patch::Apply(Configuration { value: config, refused: None }), options)
            .await
    };
    let created = apply("one", config("a"), false).await.unwrap_or_else(|status| panic!("{about}: {status}"));
    assert!(created.created, "{about}");
    let created = tree(&created.object);
    let again = apply("one", config("a"), false).await.unwrap_or_else(|status| panic!("{about}: {status}"));
    assert!(!again.created, "{about}");
    assert_eq!(tree(&again.object), created, "{about}: applying the same writes nothing");

    let mut only_note = value!({"metadata": {"name": "apply-a", "annotations": {"note": "b"}}});
    for field in ["apiVersion", "kind"] {
        only_note.as_object_mut().expect("an object").insert(field, created.str_at(&[field]));
    }
    let message = r#"Apply failed with 1 conflict: conflict with "one": .metadata.annotations.note"#;
    refused(apply("two", only_note.clone(), false).await, 409, message);
    let forced = apply("two", only_note, true).await.unwrap_or_else(|status| panic!("{about}: {status}"));
    let forced = tree(&forced.object);
    assert_eq!(forced.str_at(&["metadata", "annotations", "note"]), "b", "{about}");
    assert_eq!(forced.get(sample.part).is_some(), created.get(sample.part).is_some(), "{about}");
    let managers = Meta::of(&forced).managed_fields();
    let managers: Vec<&str> = managers.iter().map(|entry| entry.str_at(&["manager"])).collect();
    assert_eq!(managers, ["one", "two"], "{about}");
}

/// Where status is a subresource, each endpoint keeps its hands off the other's part.
pub async fn status_split(registry: &Registry, sample: &Sample) {
    let Some((part, value)) = &sample.status else { return };
    let about = &sample.kind.gvk;
    let made = make(registry, sample, "status-a").await;
    let mut both = made.clone();
    both.object_entry("status").insert(part.clone(), value.clone());
    both.object_entry("metadata").object_entry("annotations").insert("main", "x");
    let main =
        registry.update(&context(), &sample.target("status-a"), body(both.clone()), WriteOptions::default()).await;
    let main = tree(&main.expect("an update").object);
    assert_eq!(main.at(&["status", part]), made.at(&["status", part]), "{about}");
    both.object_entry("metadata").insert("resourceVersion", main.str_at(&["metadata", "resourceVersion"]));
    both.object_entry(sample.part);
    both.as_object_mut().expect("an object").insert(sample.part, Value::object());
    let status = Target { subresource: "status".into(), ..sample.target("status-a") };
    let written = registry.update(&context(), &status, body(both), WriteOptions::default()).await;
    let written = tree(&written.unwrap_or_else(|status| panic!("{about}: {status}")).object);
    assert_eq!(written.at(&["status", part]), Some(value), "{about}");
    assert_eq!(written.get(sample.part), main.get(sample.part), "{about}");
    assert_eq!(written.at(&["metadata", "generation"]), main.at(&["metadata", "generation"]), "{about}");
    let got = registry.get(&status, &ListOptions::default()).await.expect("the status endpoint shows the object");
    assert_eq!(tree(&got), written, "{about}");
}

/// Delete checks preconditions, can be tried out, and then answers 404.
pub async fn delete(registry: &Registry, sample: &Sample) {
    let about = &sample.kind.gvk;
    let made = make(registry, sample, "delete-a").await;
    let target = sample.target("delete-a");
    let delete = async |options: DeleteOptions| registry.delete(&context(), &target, &options).await;
    let other = DeleteOptions { precondition_uid: Some("x".into()), ..DeleteOptions::default() };
    let why = format!(
        "the UID in the precondition (x) does not match the UID in record ({}). The object might have been deleted and \
         then recreated",
        made.str_at(&["metadata", "uid"])
    );
    let kind = sample.kind.group_kind();
    refused(delete(other).await, 409, &format!("Operation cannot be fulfilled on {kind} \"delete-a\": {why}"));
    let dry = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    assert!(delete(dry).await.is_ok(), "{about}");
    let background = DeleteOptions {
        propagation: Some(Propagation::Background),
        grace_period_s: Some(0),
        precondition_uid: Some(made.str_at(&["metadata", "uid"]).into()),
        ..DeleteOptions::default()
    };
    match delete(background.clone()).await.unwrap_or_else(|status| panic!("{about}: {status}")) {
        Deleted::Status(status) => {
            let details = status.details.expect("details");
            assert_eq!((status.code, details.uid.as_str()), (200, made.str_at(&["metadata", "uid"])), "{about}");
        }
        Deleted::Object(object) => assert_eq!(object.object.head.name, "delete-a", "{about}"),
    }
    let again = delete(background).await;
    if sample.kind.strategy.hold.is_some_and(|hold| hold(&made)) {
        assert!(again.is_ok(), "{about}: held by its spec");
        return;
    }
    refused(again, 404, &format!("{} \"delete-a\" not found", sample.resource()));
}

/// An object with finalizers is marked, cannot get new ones, and goes when the last one is taken away.
pub async fn delete_waits_for_finalizers(registry: &Registry, sample: &Sample) {
    let about = &sample.kind.gvk;
    let mut held = sample.named("held-a");
    held.object_entry("metadata").insert("finalizers", vec!["test.corten.dev/hold"]);
    let made = registry.create(&context(), &sample.collection(), body(held), WriteOptions::default()).await;
    let made = tree(&made.unwrap_or_else(|status| panic!("{about}: {status}")).object);
    let target = sample.target("held-a");
    let options = DeleteOptions { grace_period_s: Some(0), ..DeleteOptions::default() };
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..options.clone() };
    let Ok(Deleted::Object(marked)) = registry.delete(&context(), &target, &foreground).await else {
        panic!("{about}: the object itself is the answer while it is held");
    };
    let marked = tree(&marked);
    assert_eq!(marked.str_at(&["metadata", "deletionTimestamp"]), "2026-01-01T00:00:00Z", "{about}");
    let own_way = sample.kind.strategy.hold.is_some_and(|hold| hold(&made));
    let period = marked.i64_at(&["metadata", "deletionGracePeriodSeconds"]);
    assert_eq!(period, (!own_way).then_some(0), "{about}");
    let finalizers = Value::from(vec!["test.corten.dev/hold", "foregroundDeletion"]);
    assert_eq!(marked.at(&["metadata", "finalizers"]), Some(&finalizers), "{about}");
    let generation = made.i64_at(&["metadata", "generation"]);
    assert_eq!(marked.i64_at(&["metadata", "generation"]), generation.map(|own| own + 1), "{about}");
    assert!(registry.delete(&context(), &target, &options).await.is_ok(), "{about}: marked twice");

    let mut more = tree(&registry.get(&target, &ListOptions::default()).await.expect("still there"));
    more.object_entry("metadata").insert("finalizers", vec!["test.corten.dev/hold", "test.corten.dev/new"]);
    let refusal = registry.update(&context(), &target, body(more.clone()), WriteOptions::default()).await;
    let refusal = refusal.err().expect("no new finalizers while deleting");
    assert_eq!(refusal.code, 422, "{about}: {refusal}");
    more.object_entry("metadata").remove("finalizers");
    let last = registry.update(&context(), &target, body(more), WriteOptions::default()).await;
    assert!(last.is_ok(), "{about}");
    if own_way {
        return;
    }
    let gone = registry.get(&target, &ListOptions::default()).await;
    refused(gone, 404, &format!("{} \"held-a\" not found", sample.resource()));
}

#[cfg(test)]
mod tests {
    use super::super::{Bench, kinds};
    use super::*;

    fn sample(bench: &Bench, plural: &str) -> Sample {
        let object = value!({"spec": {"color": "red", "replicas": 2}});
        Sample { kind: bench.kind(plural), object, part: "spec", status: Some(("phase".into(), "Ready".into())) }
    }

    #[tokio::test]
    async fn a_namespaced_and_a_cluster_kind_pass() {
        let bench = Bench::new([kinds::widget(), kinds::gadget(), kinds::scale()]);
        all(&bench.registry, &sample(&bench, "widgets")).await;
        all(&bench.registry, &sample(&bench, "gadgets")).await;
    }
}
