//! Lists of completion indexes: `1,3-5,7`.

use corten_apimachinery::field::go_quoted;

type Interval = (i64, i64);

/// How many indexes a list names; all are below `completions` and rise.
pub(super) fn count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, end) = interval(part, completions)?;
        if let Some(last) = last.filter(|last| *last >= first) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The first index that two lists share. What cannot be read is passed over.
pub(super) fn overlap(left: &str, right: &str, completions: i64) -> Option<i64> {
    let read =
        |text: &str| -> Vec<Interval> { text.split(',').filter_map(|part| interval(part, completions).ok()).collect() };
    let (left, right) = (read(left), read(right));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some((from, to)), Some((other_from, other_to))) = (left.peek(), right.peek()) {
        if from <= other_to && other_from <= to {
            return Some(*from.max(other_from));
        }
        if from <= other_from {
            left.next();
        } else {
            right.next();
        }
    }
    None
}

fn interval(text: &str, completions: i64) -> Result<Interval, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let end = |part: &str| {
        let unreadable = |_| format!("cannot convert string to integer for index: {}", go_quoted(part));
        let index: i64 = part.parse().map_err(unreadable)?;
        if index >= completions { Err(format!("too large index: {}", go_quoted(part))) } else { Ok(index) }
    };
    match parts.as_slice() {
        [one] => end(one).map(|one| (one, one)),
        [first, last] => {
            let (first, last) = (end(first)?, end(last)?);
            if first >= last {
                return Err(format!("non-increasing order, previous: {first}, current: {last}"));
            }
            Ok((first, last))
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated \
             by '-'",
            go_quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_indexes() {
        assert_eq!(count("", 5), Ok(0));
        assert_eq!(count("0,2-4", 5), Ok(4));
        for (text, expect) in [
            ("5", r#"too large index: "5""#),
            ("x", r#"cannot convert string to integer for index: "x""#),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3-3", "non-increasing order, previous: 3, current: 3"),
            ("0,", r#"cannot convert string to integer for index: """#),
        ] {
            assert_eq!(count(text, 5), Err(expect.to_owned()), "{text}");
        }
    }

    #[test]
    fn shared_indexes() {
        assert_eq!(overlap("0-2,5", "3-4,6", 9), None);
        assert_eq!(overlap("0-2,5", "3-5", 9), Some(5));
        assert_eq!(overlap("x,4", "4", 9), Some(4));
    }
}
