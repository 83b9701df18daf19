//! OpenAPI version 2 in protobuf, the form in which client-go's discovery asks for it: the message `Document` of
//! gnostic's `openapi.v2` package. kubectl falls back to it where version 3 does not help, above all for a `List`.
//!
//! The messages are tables from a key of the JSON document to a field's number and form. What a message has no field
//! for is left out; a client can find nothing by a name that it does not know.

use crate::json;
use crate::protobuf::Writer;
use crate::value::{Map, Value};

/// The document's bytes.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    DOCUMENT.write(&mut out, document);
    out.into_bytes()
}

/// A message: its fields by their key, and the number of the field for keys that begin with `x-`.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: u32,
}

/// How a value becomes a field.
enum Form {
    Text,
    /// One text or several, each a field.
    Texts,
    Flag,
    Integer,
    Number,
    /// Any value, as the text of a YAML document. JSON is one.
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// A message that holds one field a key: the key's name and its value.
    Named(fn(&mut Writer, u32, &Value)),
    Special(fn(&mut Writer, u32, &Value)),
}

use Form::{Any, Anys, Flag, Integer, Many, Named, Number, One, Special, Text, Texts};

const NAME: u32 = 1;
const VALUE: u32 = 2;

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, One(&INFO)),
        ("host", 3, Text),
        ("basePath", 4, Text),
        ("schemes", 5, Texts),
        ("consumes", 6, Texts),
        ("produces", 7, Texts),
        ("paths", 8, Special(paths)),
        ("definitions", 9, Named(schema)),
        ("security", 12, Special(security)),
        ("securityDefinitions", 13, Named(security_definition)),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)], extensions: 7 };

static API_KEY: Message = Message {
    fields: &[("type", 1, Text), ("name", 2, Text), ("in", 3, Text), ("description", 4, Text)],
    extensions: 5,
};

static PATH_ITEM: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("get", 2, One(&OPERATION)),
        ("put", 3, One(&OPERATION)),
        ("post", 4, One(&OPERATION)),
        ("delete", 5, One(&OPERATION)),
        ("options", 6, One(&OPERATION)),
        ("head", 7, One(&OPERATION)),
        ("patch", 8, One(&OPERATION)),
        ("parameters", 9, Special(parameters)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Special(parameters)),
        ("responses", 9, Special(responses)),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
    ],
    extensions: 13,
};

static REFERENCE: Message = Message { fields: &[("$ref", 1, Text), ("description", 2, Text)], extensions: 0 };

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("allowEmptyValue", 5, Flag),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Flag),
    ],
    extensions: 23,
};

/// A parameter of the path, and one of the headers.
static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Flag),
    ],
    extensions: 22,
};

static RESPONSE: Message =
    Message { fields: &[("description", 1, Text), ("schema", 2, Special(response_schema))], extensions: 5 };

static EXTERNAL_DOCS: Message = Message { fields: &[("description", 1, Text), ("url", 2, Text)], extensions: 3 };

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, Special(additional_properties)),
        ("type", 22, Special(types)),
        ("items", 23, Special(items)),
        ("allOf", 24, Many(&SCHEMA)),
        ("properties", 25, Named(schema)),
        ("discriminator", 26, Text),
        ("readOnly", 27, Flag),
        ("externalDocs", 29, One(&EXTERNAL_DOCS)),
        ("example", 30, Any),
    ],
    extensions: 31,
};

impl Message {
    fn write(&self, out: &mut Writer, value: &Value) {
        for (key, value) in entries(value) {
            match self.fields.iter().find(|(own, ..)| *own == key) {
                Some((_, number, form)) => form.write(out, *number, value),
                None if key.starts_with("x-") && self.extensions > 0 => extension(out, self.extensions, key, value),
                None => {}
            }
        }
    }
}

impl Form {
    fn write(&self, out: &mut Writer, number: u32, value: &Value) {
        match (self, value) {
            (Text, Value::String(text)) => out.bytes(number, text.as_bytes()),
            (Texts, value) => texts(out, number, value),
            (Flag, Value::Bool(flag)) => out.varint(number, u64::from(*flag)),
            // A negative number is written as the two's complement, as protobuf's int64 has it.
            (Integer, Value::Int(integer)) => out.varint(number, integer.cast_unsigned()),
            (Number, Value::Int(integer)) => out.fixed64(number, (*integer as f64).to_bits()),
            (Number, Value::Float(float)) => out.fixed64(number, float.to_bits()),
            (Any, value) => any(out, number, value),
            (Anys, Value::Array(values)) => values.iter().for_each(|value| any(out, number, value)),
            (One(message), value) => out.message(number, |out| message.write(out, value)),
            (Many(message), Value::Array(values)) => {
                values.iter().for_each(|value| out.message(number, |out| message.write(out, value)));
            }
            (Named(write), value) => out.message(number, |out| {
                entries(value).for_each(|(name, value)| named(out, NAME, name, |out| write(out, VALUE, value)));
            }),
            (Special(write), value) => write(out, number, value),
            (Text | Flag | Integer | Number | Anys | Many(_), _) => {}
        }
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(key, value)| (key.as_str(), value))
}

/// A field with a name and a value.
fn named(out: &mut Writer, number: u32, name: &str, write: impl FnOnce(&mut Writer)) {
    out.message(number, |out| {
        out.bytes(NAME, name.as_bytes());
        write(out);
    });
}

fn extension(out: &mut Writer, number: u32, name: &str, value: &Value) {
    named(out, number, name, |out| any(out, VALUE, value));
}

fn any(out: &mut Writer, number: u32, value: &Value) {
    const YAML: u32 = 2;
    out.message(number, |out| out.bytes(YAML, &json::to_vec(value)));
}

fn texts(out: &mut Writer, number: u32, value: &Value) {
    for value in one_or_more(value) {
        Text.write(out, number, value);
    }
}

fn one_or_more(value: &Value) -> &[Value] {
    value.as_array().unwrap_or(std::slice::from_ref(value))
}

fn paths(out: &mut Writer, number: u32, value: &Value) {
    const EXTENSION: u32 = 1;
    const PATH: u32 = 2;
    out.message(number, |out| {
        for (path, value) in entries(value) {
            match path.starts_with("x-") {
                true => extension(out, EXTENSION, path, value),
                false => named(out, PATH, path, |out| One(&PATH_ITEM).write(out, VALUE, value)),
            }
        }
    });
}

fn parameters(out: &mut Writer, number: u32, value: &Value) {
    const PARAMETER: u32 = 1;
    const REFERRED: u32 = 2;
    const IN_BODY: u32 = 1;
    const ELSEWHERE: u32 = 2;
    for parameter in one_or_more(value) {
        out.message(number, |out| match (parameter.get("$ref"), parameter.str_at(&["in"])) {
            (Some(_), _) => One(&REFERENCE).write(out, REFERRED, parameter),
            (None, "body") => {
                out.message(PARAMETER, |out| One(&BODY_PARAMETER).write(out, IN_BODY, parameter));
            }
            (None, place) => {
                let (kind, message) = match place {
                    "header" => (1, &PATH_PARAMETER),
                    "formData" => (2, &QUERY_PARAMETER),
                    "query" => (3, &QUERY_PARAMETER),
                    _ => (4, &PATH_PARAMETER),
                };
                out.message(PARAMETER, |out| {
                    out.message(ELSEWHERE, |out| One(message).write(out, kind, parameter));
                });
            }
        });
    }
}

fn responses(out: &mut Writer, number: u32, value: &Value) {
    const CODE: u32 = 1;
    const EXTENSION: u32 = 2;
    const RESPONDED: u32 = 1;
    const REFERRED: u32 = 2;
    out.message(number, |out| {
        for (code, value) in entries(value) {
            if code.starts_with("x-") {
                extension(out, EXTENSION, code, value);
                continue;
            }
            named(out, CODE, code, |out| {
                out.message(VALUE, |out| match value.get("$ref") {
                    Some(_) => One(&REFERENCE).write(out, REFERRED, value),
                    None => One(&RESPONSE).write(out, RESPONDED, value),
                });
            });
        }
    });
}

fn schema(out: &mut Writer, number: u32, value: &Value) {
    One(&SCHEMA).write(out, number, value);
}

/// A schema as the first of two that a message may hold.
fn response_schema(out: &mut Writer, number: u32, value: &Value) {
    out.message(number, |out| schema(out, 1, value));
}

fn additional_properties(out: &mut Writer, number: u32, value: &Value) {
    const SCHEMA: u32 = 1;
    const ALLOWED: u32 = 2;
    out.message(number, |out| match value {
        Value::Bool(_) => Flag.write(out, ALLOWED, value),
        _ => schema(out, SCHEMA, value),
    });
}

fn types(out: &mut Writer, number: u32, value: &Value) {
    out.message(number, |out| texts(out, 1, value));
}

fn items(out: &mut Writer, number: u32, value: &Value) {
    out.message(number, |out| one_or_more(value).iter().for_each(|item| schema(out, 1, item)));
}

fn security(out: &mut Writer, number: u32, value: &Value) {
    for requirement in one_or_more(value) {
        Named(|out, number, scopes| out.message(number, |out| texts(out, 1, scopes))).write(out, number, requirement);
    }
}

fn security_definition(out: &mut Writer, number: u32, value: &Value) {
    const API_KEY_SECURITY: u32 = 2;
    out.message(number, |out| One(&API_KEY).write(out, API_KEY_SECURITY, value));
}
