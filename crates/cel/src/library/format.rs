//! Named formats of Kubernetes: `format.dns1123Label().validate(self.name)`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::kind::NameRule;
use corten_apimachinery::name;

use super::{Row, conversion, unfit, urls::Url};
use crate::budget::{Budget, Error};
use crate::value::{List, Value};

#[derive(Debug)]
pub struct Format {
    pub(crate) name: &'static str,
    /// The reasons why a text does not have the format.
    check: fn(&str) -> Vec<String>,
    /// For the cost of a check.
    pub(crate) pattern_length: u64,
}

static FORMATS: [Format; 13] = [
    Format {
        name: "dns1123Label",
        check: |text| name::object_name(NameRule::DnsLabel, text, false),
        pattern_length: 30,
    },
    Format {
        name: "dns1123Subdomain",
        check: |text| name::object_name(NameRule::DnsSubdomain, text, false),
        pattern_length: 60,
    },
    Format {
        name: "dns1035Label",
        check: |text| name::object_name(NameRule::Dns1035Label, text, false),
        pattern_length: 30,
    },
    Format { name: "qualifiedName", check: name::qualified_name, pattern_length: 60 },
    Format {
        name: "dns1123LabelPrefix",
        check: |text| name::object_name(NameRule::DnsLabel, text, true),
        pattern_length: 30,
    },
    Format {
        name: "dns1123SubdomainPrefix",
        check: |text| name::object_name(NameRule::DnsSubdomain, text, true),
        pattern_length: 60,
    },
    Format {
        name: "dns1035LabelPrefix",
        check: |text| name::object_name(NameRule::Dns1035Label, text, true),
        pattern_length: 30,
    },
    Format { name: "labelValue", check: name::label_value, pattern_length: 40 },
    Format { name: "uri", check: |text| Url::parse(text).err().into_iter().collect(), pattern_length: 1103 },
    Format { name: "uuid", check: |text| unless(is_uuid(text), "does not match the UUID format"), pattern_length: 75 },
    Format { name: "byte", check: |text| unless(is_base64(text), "invalid base64"), pattern_length: 84 },
    Format { name: "date", check: |text| unless(is_date(text), "invalid date"), pattern_length: 78 },
    Format {
        name: "datetime",
        check: |text| unless(conversion::timestamp(text).is_some(), "invalid datetime"),
        pattern_length: 78,
    },
];

pub(super) const ROWS: &[Row] = &[
    ("format.dns1123Label", "format.dns1123Label", "() -> kubernetes.NamedFormat", |_, _| constant(0)),
    ("format.dns1123Subdomain", "format.dns1123Subdomain", "() -> kubernetes.NamedFormat", |_, _| constant(1)),
    ("format.dns1035Label", "format.dns1035Label", "() -> kubernetes.NamedFormat", |_, _| constant(2)),
    ("format.qualifiedName", "format.qualifiedName", "() -> kubernetes.NamedFormat", |_, _| constant(3)),
    ("format.dns1123LabelPrefix", "format.dns1123LabelPrefix", "() -> kubernetes.NamedFormat", |_, _| constant(4)),
    ("format.dns1123SubdomainPrefix", "format.dns1123SubdomainPrefix", "() -> kubernetes.NamedFormat", |_, _| {
        constant(5)
    }),
    ("format.dns1035LabelPrefix", "format.dns1035LabelPrefix", "() -> kubernetes.NamedFormat", |_, _| constant(6)),
    ("format.labelValue", "format.labelValue", "() -> kubernetes.NamedFormat", |_, _| constant(7)),
    ("format.uri", "format.uri", "() -> kubernetes.NamedFormat", |_, _| constant(8)),
    ("format.uuid", "format.uuid", "() -> kubernetes.NamedFormat", |_, _| constant(9)),
    ("format.byte", "format.byte", "() -> kubernetes.NamedFormat", |_, _| constant(10)),
    ("format.date", "format.date", "() -> kubernetes.NamedFormat", |_, _| constant(11)),
    ("format.datetime", "format.datetime", "() -> kubernetes.NamedFormat", |_, _| constant(12)),
    ("format.named", "format-named", "(string) -> optional(kubernetes.NamedFormat)", named),
    ("validate", "format-validate", "kubernetes.NamedFormat.(string) -> optional(list(string))", validate),
];

fn unless(right: bool, message: &str) -> Vec<String> {
    if right { Vec::new() } else { vec![message.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let mut rest = text;
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        rest = if index > 0 { rest.strip_prefix('-').unwrap_or(rest) } else { rest };
        match rest.get(length..) {
            Some(after) if rest.is_char_boundary(length) && !rest[..length].contains('-') => rest = after,
            _ => return false,
        }
    }
    rest.is_empty() && digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit)
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && STANDARD.decode(text).is_ok()
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && conversion::timestamp(&format!("{text}T00:00:00Z")).is_some()
}

fn constant<'a>(index: usize) -> Result<Value<'a>, Error> {
    Ok(Value::Format(&FORMATS[index]))
}

fn named<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let Some(name) = given[0].as_str() else { return unfit() };
    Ok(Value::Optional(FORMATS.iter().find(|format| format.name == name).map(|format| Value::Format(format).into())))
}

fn validate<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::Format(format), Value::String(text)] = given.as_slice() else { return unfit() };
    let reasons = (format.check)(text);
    let list = || Value::List(reasons.iter().map(|reason| Value::string(reason.as_str())).collect::<List<'_>>());
    Ok(Value::Optional((!reasons.is_empty()).then(|| list().into())))
}
