//! What a call costs while an expression runs: upstream's figures, since limits of users' rules depend on them.

use crate::value::Value;

/// Of traversing a string, a character.
const TRAVERSAL: f64 = 0.1;
/// Of a pattern, a character.
const PATTERN: f64 = 0.25;
/// So that an expression may ask for two decisions.
const AUTHORIZATION: u64 = 350_000;

fn traversal(characters: u64, times: f64) -> u64 {
    (characters as f64 * times * TRAVERSAL).ceil() as u64
}

fn pattern(text: u64, length: u64) -> u64 {
    let text = ((1.0 + text as f64) * TRAVERSAL).ceil() as u64;
    text.saturating_mul((length as f64 * PATTERN).ceil() as u64)
}

/// The cost of a call. `overload` is empty where several forms are meant; `result` may be unknown still.
pub(crate) fn call_cost(function: &str, overload: &str, given: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let size = |index: usize| given.get(index).map_or(1, Value::size);
    let allocating = |factor: f64, size: u64| (size as f64 * factor) as u64 + 11;
    match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => return 1 + size(0).saturating_mul(size(1)),
        "list_sets_equivalent_list" => return 1 + size(0).saturating_mul(size(1)).saturating_mul(2),
        "list_slice" | "lists_range" | "list_reverse" => {
            return allocating(1.0, result.map_or_else(|| made(function, given), Value::size));
        }
        "list_flatten" => return allocating(1.0, size(0)),
        "list_flatten_int" => {
            let depth = if let Some(Value::Int(depth)) = given.get(1) { *depth as f64 } else { 1.0 };
            return allocating(depth.max(0.0), size(0));
        }
        "list_distinct" => return allocating(self_comparison(given.first()), size(0).saturating_mul(size(0))),
        _ => {}
    }
    let forms = |prefix: &str| overload.starts_with("list_") && overload.ends_with(prefix);
    if forms("_sort") {
        return allocating(self_comparison(given.first()), size(0).saturating_mul(size(0)));
    }
    if forms("_sortByAssociatedKeys") {
        return allocating(self_comparison(given.get(1)), size(1).saturating_mul(size(1)));
    }
    kubernetes(function, overload, given, result).unwrap_or_else(|| standard(overload, given))
}

/// The length of a list that is not there yet.
fn made(function: &str, given: &[Value<'_>]) -> u64 {
    match (function, given) {
        ("lists.range", [Value::Int(length)]) => u64::try_from(*length).unwrap_or(0),
        _ => given.first().map_or(1, Value::size),
    }
}

fn self_comparison(list: Option<&Value<'_>>) -> f64 {
    let texts = match list {
        Some(Value::List(list)) => matches!(list.get(0), Some(Value::String(_) | Value::Bytes(_))),
        _ => false,
    };
    if texts { 2.0 + TRAVERSAL } else { 2.0 }
}

fn kubernetes(function: &str, overload: &str, given: &[Value<'_>], result: Option<&Value<'_>>) -> Option<u64> {
    let size = |index: usize| given.get(index).map_or(1, Value::size);
    Some(match function {
        "check" => AUTHORIZATION,
        "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name" | "allowed"
        | "reason" | "error" | "errored" => 1,
        "fieldSelector" | "labelSelector" => {
            10 + traversal(size(1), 1.0) + ((size(1) as f64 * 0.5).ceil() * 50.0) as u64
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => given.first().map_or(0, whole_traversal),
        "url" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "jsonpatch.escapeKey" => traversal(size(0), 1.0),
        "replace" | "split" => traversal(size(0), 2.0),
        "join" => traversal(result.map_or(0, Value::size), 2.0),
        "find" | "findAll" => pattern(size(0), size(1)),
        "ip" if overload == "cidr_ip" => 1,
        "cidr" | "isIP" | "isCIDR" | "ip" => traversal(size(0), 1.0),
        "ip.isCanonical" => traversal(size(0), 2.0),
        "masked"
        | "prefixLength"
        | "family"
        | "isUnspecified"
        | "isLoopback"
        | "isLinkLocalMulticast"
        | "isLinkLocalUnicast"
        | "isGlobalUnicast" => 1,
        "containsIP" => {
            let parsed = if overload == "cidr_contains_ip_string" { traversal(size(1), 1.0) } else { 0 };
            traversal(size(0) * 2, 1.0) + parsed
        }
        "containsCIDR" => {
            let parsed = if overload == "cidr_contains_cidr_string" { traversal(size(1), 1.0) } else { 0 };
            traversal(size(0) * 2, 1.0) + traversal(size(0), 1.0) + 1 + parsed
        }
        "quantity" | "isQuantity" | "semver" | "isSemver" => traversal(size(0), 1.0),
        "validate" => match given.first() {
            Some(Value::Format(format)) => pattern(size(1), format.pattern_length),
            _ => return None,
        },
        "format.named" | "sign" | "asInteger" | "isInteger" | "asApproximateFloat" | "isGreaterThan" | "isLessThan"
        | "compareTo" | "add" | "sub" | "major" | "minor" | "patch" | "getScheme" | "getHostname" | "getHost"
        | "getPort" | "getEscapedPath" | "getQuery" => 1,
        "_==_" if given.first().is_some_and(is_kubernetes) => 1,
        _ => return None,
    })
}

fn is_kubernetes(value: &Value<'_>) -> bool {
    let name = value.type_name();
    name.starts_with("kubernetes.") || name.starts_with("net.")
}

/// Of walking through a value with everything in it.
fn whole_traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TRAVERSAL) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Value::List(list) => list.iter().map(|item| whole_traversal(&item)).sum(),
        Value::Map(map) => {
            map.entries().iter().map(|(key, value)| whole_traversal(&key.value()) + whole_traversal(value)).sum()
        }
        _ => 1,
    }
}

fn standard(overload: &str, given: &[Value<'_>]) -> u64 {
    let size = |index: usize| given.get(index).map_or(1, Value::size);
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
        | "string_format" => traversal(size(0), 1.0),
        "in_list" => size(1),
        "equals" | "not_equals" => traversal(size(0).min(size(1)), 1.0),
        "add_string" | "add_bytes" => traversal(size(0) + size(1), 1.0),
        "matches_string" => pattern(size(0), size(1)),
        "contains_string" => traversal(size(0), 1.0).saturating_mul(traversal(size(1), 1.0)),
        _ if is_text_comparison(overload) => traversal(size(0).min(size(1)), 1.0),
        _ => 1,
    }
}

fn is_text_comparison(overload: &str) -> bool {
    (overload.starts_with("less") || overload.starts_with("greater"))
        && (overload.ends_with("_string") || overload.ends_with("_bytes"))
}
