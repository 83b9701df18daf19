//! Two values as a unified difference of their JSON, line by line: the end of messages about what may not change.
//! Upstream prints its internal structs there, whose fields have other names; the form is the same.

use corten_apimachinery::json;
use corten_apimachinery::value::Value;

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// The lines that differ between an old and a new value.
pub(crate) fn of(old: &Value, new: &Value) -> String {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    print(old, 0, "", "", &mut left);
    print(new, 0, "", "", &mut right);
    let same = |count: usize, from_end: bool| {
        let at = |lines: &[String]| lines[if from_end { lines.len() - 1 - count } else { count }].clone();
        count < left.len().min(right.len()) && at(&left) == at(&right)
    };
    let head = (0..).take_while(|count| same(*count, false)).count();
    let room = left.len().min(right.len()) - head;
    let tail = (0..room).take_while(|count| same(*count, true)).count();
    let (start, after) = (head.saturating_sub(CONTEXT), tail.min(CONTEXT));
    let ends = [left.len() - tail, right.len() - tail];
    let range = |end: usize| format!("{},{}", start + 1, end + after - start);
    let mut text = format!("@@ -{} +{} @@\n", range(ends[0]), range(ends[1]));
    let groups = [
        (' ', &left[start..head]),
        ('-', &left[head..ends[0]]),
        ('+', &right[head..ends[1]]),
        (' ', &left[ends[0]..ends[0] + after]),
    ];
    for (sign, lines) in groups {
        for line in lines {
            text.push(sign);
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// One line a value, indented by one blank a level; maps in the order of their keys.
fn print(value: &Value, depth: usize, key: &str, end: &str, lines: &mut Vec<String>) {
    let indent = " ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            lines.push(format!("{indent}{key}{{"));
            let last = fields.len() - 1;
            for (index, (name, field)) in fields.iter().enumerate() {
                let key = format!("{}: ", json::to_string(&Value::from(name.as_str())));
                print(field, depth + 1, &key, if index < last { "," } else { "" }, lines);
            }
            lines.push(format!("{indent}}}{end}"));
        }
        Value::Array(items) if !items.is_empty() => {
            lines.push(format!("{indent}{key}["));
            let last = items.len() - 1;
            for (index, item) in items.iter().enumerate() {
                print(item, depth + 1, "", if index < last { "," } else { "" }, lines);
            }
            lines.push(format!("{indent}]{end}"));
        }
        leaf => lines.push(format!("{indent}{key}{}{end}", json::to_string(leaf))),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn changed_lines_in_their_context() {
        let old = value!({"a": 1, "b": {"c": "x"}, "d": [1, 2]});
        let new = value!({"a": 1, "b": {"c": "y"}, "d": [1, 2]});
        let expect =
            "@@ -1,7 +1,7 @@\n {\n  \"a\": 1,\n  \"b\": {\n-  \"c\": \"x\"\n+  \"c\": \"y\"\n  },\n  \"d\": [\n   1,\n";
        assert_eq!(of(&old, &new), expect);
    }

    #[test]
    fn a_line_more() {
        let (old, new) = (value!({"a": 1}), value!({"a": 1, "b": 2}));
        assert_eq!(of(&old, &new), "@@ -1,3 +1,4 @@\n {\n- \"a\": 1\n+ \"a\": 1,\n+ \"b\": 2\n }\n");
    }
}
