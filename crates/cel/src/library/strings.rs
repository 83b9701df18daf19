//! Functions of strings. Places are counted in characters.

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("contains", "contains_string", "string.(string) -> bool", contains),
    ("endsWith", "ends_with_string", "string.(string) -> bool", ends_with),
    ("startsWith", "starts_with_string", "string.(string) -> bool", starts_with),
    ("charAt", "string_char_at_int", "string.(int) -> string", char_at),
    ("indexOf", "string_index_of_string", "string.(string) -> int", index_of),
    ("indexOf", "string_index_of_string_int", "string.(string, int) -> int", index_of),
    ("lastIndexOf", "string_last_index_of_string", "string.(string) -> int", last_index_of),
    ("lastIndexOf", "string_last_index_of_string_int", "string.(string, int) -> int", last_index_of),
    ("lowerAscii", "string_lower_ascii", "string.() -> string", lower),
    ("upperAscii", "string_upper_ascii", "string.() -> string", upper),
    ("replace", "string_replace_string_string", "string.(string, string) -> string", replace),
    ("replace", "string_replace_string_string_int", "string.(string, string, int) -> string", replace),
    ("split", "string_split_string", "string.(string) -> list(string)", split),
    ("split", "string_split_string_int", "string.(string, int) -> list(string)", split),
    ("substring", "string_substring_int", "string.(int) -> string", substring),
    ("substring", "string_substring_int_int", "string.(int, int) -> string", substring),
    ("trim", "string_trim", "string.() -> string", trim),
    ("join", "list_join", "list(string).() -> string", join),
    ("join", "list_join_string", "list(string).(string) -> string", join),
    ("strings.quote", "strings_quote", "(string) -> string", quote),
    ("jsonpatch.escapeKey", "string_jsonpatch_escapeKey_string", "(string) -> string", escape_key),
];

fn two<'a>(given: &[Value<'a>], test: fn(&str, &str) -> bool) -> Result<Value<'a>, Error> {
    match given {
        [Value::String(text), Value::String(other)] => Ok(Value::Bool(test(text, other))),
        _ => unfit(),
    }
}

fn contains<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    two(&given, |text, part| text.contains(part))
}

fn ends_with<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    two(&given, |text, part| text.ends_with(part))
}

fn starts_with<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    two(&given, |text, part| text.starts_with(part))
}

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

/// Where the character `index` begins; its end where it is the number of characters.
fn offset(text: &str, index: i64) -> Result<usize, Error> {
    let wanted = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let mut offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]);
    offsets.nth(wanted).ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::String(text), Value::Int(index)] = given.as_slice() else { return unfit() };
    let rest = &text[offset(text, *index)?..];
    Ok(Value::string(rest.chars().next().map(String::from).unwrap_or_default()))
}

fn count(text: &str) -> i64 {
    text.chars().count() as i64
}

fn index_of<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (text, part, from) = match given.as_slice() {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        _ => return unfit(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return Err(out_of_range(from));
    }
    if from >= count(text) {
        return Ok(Value::Int(-1));
    }
    let start = offset(text, from)?;
    Ok(Value::Int(text[start..].find(&**part).map_or(-1, |found| count(&text[..start + found]))))
}

fn last_index_of<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (text, part, from) = match given.as_slice() {
        [Value::String(text), Value::String(part)] if part.is_empty() => return Ok(Value::Int(count(text))),
        [Value::String(text), Value::String(part)] if text.len() < part.len() => return Ok(Value::Int(-1)),
        [Value::String(text), Value::String(part)] => (text, part, count(text) - 1),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        _ => return unfit(),
    };
    if part.is_empty() {
        return Ok(Value::Int(from));
    }
    if from < 0 {
        return Err(out_of_range(from));
    }
    if from >= count(text) {
        return Ok(Value::Int(-1));
    }
    // A match may begin at `from` and go on behind it.
    let end = (offset(text, from)? + part.len()).min(text.len());
    let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    let found = text[..end].rmatch_indices(&**part).map(|(at, _)| count(&text[..at])).find(|at| *at <= from);
    Ok(Value::Int(found.unwrap_or(-1)))
}

fn lower<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::string(text.to_ascii_lowercase())))
}

fn upper<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::string(text.to_ascii_uppercase())))
}

/// Refuses to make a string that costs more than what is left of the budget.
fn afford(bytes: usize, budget: &mut Budget) -> Result<(), Error> {
    if (bytes / 10) as u64 > budget.left() {
        return Err(Error::Cost);
    }
    budget.work(bytes / 64)
}

fn replace<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (text, old, new, times) = match given.as_slice() {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(times)] => (text, old, new, *times),
        _ => return unfit(),
    };
    let found = if old.is_empty() { text.len() + 1 } else { text.matches(&**old).count() };
    let times = usize::try_from(times).unwrap_or(usize::MAX).min(found);
    afford(text.len().saturating_add(times.saturating_mul(new.len())), budget)?;
    Ok(Value::string(text.replacen(&**old, new, times)))
}

fn split<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (text, separator, limit) = match given.as_slice() {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return unfit(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value<'_>> = match (limit, separator.is_empty()) {
        (0, _) => Vec::new(),
        (_, false) => text.splitn(limit, &**separator).map(|part| Value::string(part.to_owned())).collect(),
        (_, true) => {
            let mut rest: &str = text;
            let mut parts = Vec::new();
            while let Some(first) = rest.chars().next() {
                if parts.len() + 1 == limit {
                    parts.push(Value::string(rest.to_owned()));
                    break;
                }
                let (part, others) = rest.split_at(first.len_utf8());
                parts.push(Value::string(part.to_owned()));
                rest = others;
            }
            parts
        }
    };
    Ok(Value::list(parts))
}

fn substring<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::String(text), Value::Int(start)] => Ok(Value::string(text[offset(text, *start)?..].to_owned())),
        [Value::String(_), Value::Int(start), Value::Int(end)] if start > end => {
            Err(Error::new(format!("invalid substring range. start: {start}, end: {end}")))
        }
        [Value::String(text), Value::Int(start), Value::Int(end)] => {
            Ok(Value::string(text[offset(text, *start)?..offset(text, *end)?].to_owned()))
        }
        _ => unfit(),
    }
}

fn trim<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::string(text.trim().to_owned())))
}

fn join<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (list, separator) = match given.as_slice() {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return unfit(),
    };
    let mut joined = String::new();
    for (index, item) in list.iter().enumerate() {
        let Value::String(item) = &item else {
            return Err(Error::new(format!("join: invalid input: {}", super::format_value(&item))));
        };
        if index > 0 {
            joined.push_str(separator);
        }
        afford(joined.len() + item.len(), budget)?;
        joined.push_str(item);
    }
    Ok(Value::string(joined))
}

fn quote<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let Some(text) = given[0].as_str() else { return unfit() };
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    Ok(Value::string(quoted))
}

fn escape_key<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |key| Ok(Value::string(key.replace('~', "~0").replace('/', "~1"))))
}
