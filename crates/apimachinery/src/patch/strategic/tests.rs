use super::*;
use crate::schema::table::{Field, ListTag, TableNode, TypeDef, TypeId, TypeTable};

fn field(json: &'static str, ty: FieldType) -> Field {
    Field {
        json,
        number: 0,
        ty,
        spelled: "",
        omit_zero: false,
        inlined: None,
        pointer: false,
        omit_empty: true,
        list: ListTag::Atomic,
        atomic_map: false,
        patch_merge: false,
        patch_retain_keys: false,
        merge_key: None,
        required: false,
        enumeration: &[],
    }
}

/// A type `Shop` with lists of every strategy, and items `Part` keyed by name.
fn table() -> TypeTable {
    let list = |item: FieldType| FieldType::List(Box::new(item));
    let part = FieldType::Struct(TypeId(1));
    let keyed =
        |json| Field { patch_merge: true, merge_key: Some("name"), ..field(json, list(FieldType::Struct(TypeId(1)))) };
    let shop = vec![
        keyed("parts"),
        Field { patch_merge: true, ..field("tags", list(FieldType::String)) },
        field("plain", list(FieldType::String)),
        field("atomic", list(part.clone())),
        field("spec", part),
        field("labels", FieldType::Map(Box::new(FieldType::String))),
        Field { patch_merge: true, ..field("keyless", list(FieldType::Struct(TypeId(1)))) },
        Field { patch_merge: true, ..field("nested", list(list(FieldType::String))) },
    ];
    let part = vec![
        field("name", FieldType::String),
        field("value", FieldType::String),
        field("size", FieldType::Int64),
        keyed("parts"),
        Field { patch_merge: true, ..field("tags", list(FieldType::String)) },
    ];
    let def = |name, fields| TypeDef::new(name, fields, Vec::new(), false);
    TypeTable::new(vec![def("shop/v1.Shop", shop), def("shop/v1.Part", part)])
}

fn patched(object: &str, patch: &str) -> Result<String, PatchError> {
    let table = table();
    let ty = FieldType::Struct(TypeId(0));
    let node = Node::Table(TableNode { table: &table, ty: &ty, field: None });
    let parse = |text: &str| json::parse(text.as_bytes()).unwrap().value;
    Ok(json::to_string(&apply(&parse(object), parse(patch), node)?))
}

fn check(cases: &[(&str, &str, &str)]) {
    for (object, patch, expect) in cases {
        assert_eq!(patched(object, patch).as_deref(), Ok(*expect), "{object}\n{patch}");
    }
}

#[test]
fn maps() {
    check(&[
        (r#"{"labels":{"a":"1","b":"2"}}"#, r#"{"labels":{"a":null,"c":"3"}}"#, r#"{"labels":{"b":"2","c":"3"}}"#),
        (r"{}", r#"{"spec":{"name":"x","value":null}}"#, r#"{"spec":{"name":"x"}}"#),
        (
            r#"{"spec":{"name":"x","size":1}}"#,
            r#"{"spec":{"$patch":"replace","value":"y"}}"#,
            r#"{"spec":{"value":"y"}}"#,
        ),
        (r#"{"spec":{"name":"x"}}"#, r#"{"spec":{"$patch":"delete"}}"#, r#"{"spec":{}}"#),
        (r"{}", r#"{"spec":{"$patch":"delete"}}"#, r"{}"),
        (r#"{"spec":{"name":"x"}}"#, r#"{"$patch":"delete"}"#, r"{}"),
        (
            r#"{"spec":{"name":"x","size":1}}"#,
            r#"{"spec":{"$retainKeys":["name","value"],"value":"v"}}"#,
            r#"{"spec":{"name":"x","value":"v"}}"#,
        ),
        (r#"{"spec":"text"}"#, r#"{"spec":{"name":"x","value":null}}"#, r#"{"spec":{"name":"x"}}"#),
        (r#"{"spec":{"name":"x"}}"#, r#"{"spec":null}"#, r"{}"),
        (r#"{"spec":{"size":1}}"#, "{}", r#"{"spec":{"size":1}}"#),
    ]);
}

#[test]
fn lists_of_scalars() {
    check(&[
        (r#"{"plain":["a","b"]}"#, r#"{"plain":["c"]}"#, r#"{"plain":["c"]}"#),
        (r#"{"tags":["a","b"]}"#, r#"{"tags":["c","a"]}"#, r#"{"tags":["c","a","b"]}"#),
        (r#"{"tags":["a","b","a"]}"#, r#"{"$deleteFromPrimitiveList/tags":["a"]}"#, r#"{"tags":["b"]}"#),
        (r"{}", r#"{"$deleteFromPrimitiveList/tags":["a"]}"#, r"{}"),
        (
            r#"{"tags":["a","b","c"]}"#,
            r#"{"$setElementOrder/tags":["d","c","a"],"tags":["d"],"$deleteFromPrimitiveList/tags":["b"]}"#,
            r#"{"tags":["d","c","a"]}"#,
        ),
        (r#"{"tags":["a","b","c"]}"#, r#"{"$setElementOrder/tags":["c","a"]}"#, r#"{"tags":["b","c","a"]}"#),
        (r"{}", r#"{"$setElementOrder/tags":["b","a"],"tags":["b","a"]}"#, r#"{"tags":["b","a"]}"#),
    ]);
}

#[test]
fn lists_of_maps() {
    let live = r#"{"parts":[{"name":"a","value":"1"},{"name":"b","value":"2"},{"name":"c","value":"3"}]}"#;
    check(&[
        (
            live,
            r#"{"parts":[{"name":"b","value":null,"size":5}]}"#,
            r#"{"parts":[{"name":"a","value":"1"},{"name":"b","size":5},{"name":"c","value":"3"}]}"#,
        ),
        (
            live,
            r#"{"parts":[{"name":"d"}]}"#,
            r#"{"parts":[{"name":"d"},{"name":"a","value":"1"},{"name":"b","value":"2"},{"name":"c","value":"3"}]}"#,
        ),
        (
            live,
            r#"{"parts":[{"name":"a","$patch":"delete"},{"name":"c","$patch":"delete"}]}"#,
            r#"{"parts":[{"name":"b","value":"2"}]}"#,
        ),
        (live, r#"{"parts":[{"$patch":"replace"},{"name":"x"}]}"#, r#"{"parts":[{"name":"x"}]}"#),
        (live, r#"{"parts":[{"$patch":"replace"}]}"#, r#"{"parts":[]}"#),
        (
            live,
            r#"{"$setElementOrder/parts":[{"name":"c"},{"name":"d"},{"name":"a"}],"parts":[{"name":"d","value":"4"}]}"#,
            r#"{"parts":[{"name":"b","value":"2"},{"name":"c","value":"3"},{"name":"d","value":"4"},{"name":"a","value":"1"}]}"#,
        ),
        (
            r#"{"parts":[{"name":"a","parts":[{"name":"x"}],"tags":["t"]}]}"#,
            r#"{"parts":[{"name":"a","parts":[{"name":"x","size":1},{"name":"y"}],"tags":["u"]}]}"#,
            r#"{"parts":[{"name":"a","parts":[{"name":"x","size":1},{"name":"y"}],"tags":["u","t"]}]}"#,
        ),
        (
            live,
            r#"{"$setElementOrder/parts":[{"name":"d"}],"parts":[{"name":"d"},{"name":"c","$patch":"delete"}]}"#,
            r#"{"parts":[{"name":"a","value":"1"},{"name":"b","value":"2"},{"name":"d"}]}"#,
        ),
        (r#"{"atomic":[{"name":"a"}]}"#, r#"{"atomic":[{"name":"b"}]}"#, r#"{"atomic":[{"name":"b"}]}"#),
        (r"{}", r#"{"parts":[{"name":"a"},{"name":"b","$patch":"delete"}]}"#, r#"{"parts":[{"name":"a"}]}"#),
        (r#"{"parts":[]}"#, r#"{"parts":[]}"#, r#"{"parts":[]}"#),
    ]);
}

#[test]
fn refusals() {
    let cases: &[(&str, &str, u16, &str)] = &[
        ("{}", "[]", 400, "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        ("{}", r#"{"spec":1,"$patch":"merge"}"#, 500, "unknown patch type: merge in map: map[$patch:merge spec:1]"),
        ("{}", r#"{"$retainKeys":"a"}"#, 400, "invalid patch format of retainKeys"),
        ("{}", r#"{"$retainKeys":["spec"],"labels":{}}"#, 400, "invalid patch format of retainKeys"),
        ("{}", r#"{"$deleteFromPrimitiveList":["a"]}"#, 400, "invalid patch format of primitive list"),
        ("{}", r#"{"$setElementOrder":["a"]}"#, 400, "invalid patch format of setElementOrder list"),
        ("{}", r#"{"$setElementOrder/tags":"a"}"#, 500, "expected a []interface {}, but received a string"),
        (
            "{}",
            r#"{"$setElementOrder/tags":["a"],"tags":["b"]}"#,
            500,
            "The order in patch list:\n[b]\n doesn't match $setElementOrder list:\n[a]\n",
        ),
        (
            r#"{"parts":[{"name":"a"}]}"#,
            r#"{"parts":[{"value":"x"}]}"#,
            500,
            "map: map[value:x] does not contain declared merge key: name",
        ),
        (
            r#"{"parts":[{"name":"a"}]}"#,
            r#"{"parts":[{"name":"a","$patch":"merge"}]}"#,
            500,
            "merging lists cannot yet be specified in the patch",
        ),
        (
            r#"{"keyless":[{"name":"a"}]}"#,
            r#"{"keyless":[{"name":"b"}]}"#,
            500,
            "cannot merge lists without merge key for struct",
        ),
        (r#"{"tags":["a"]}"#, r#"{"tags":[1]}"#, 500, "list element types are not identical: [[a] [1]]"),
        (
            r#"{"nested":[["a"]]}"#,
            r#"{"nested":[["b"]]}"#,
            422,
            "the server rejected our request due to an error in our request",
        ),
        (
            r#"{"bogus":{}}"#,
            r#"{"bogus":{}}"#,
            500,
            "unable to find api field in struct Shop for the json field \"bogus\"",
        ),
    ];
    for (object, patch, code, message) in cases {
        let status = patched(object, patch).unwrap_err().to_status();
        assert_eq!((status.code, status.message.as_str()), (*code, *message), "{patch}");
    }
}
