//! One row of Prometheus' text format.

/// `name{label="value",…} 1.5`.
pub(crate) struct Row<'a> {
    pub(crate) name: &'a str,
    labels: &'a str,
    /// Without what is behind the point.
    pub(crate) value: i64,
}

impl<'a> Row<'a> {
    pub(crate) fn parse(line: &'a str) -> Option<Self> {
        let (series, value) = match line.split_once('}') {
            Some((series, value)) => (series, value),
            None => line.split_once(' ')?,
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        // A time may stand behind the value.
        let value: f64 = value.split_whitespace().next()?.parse().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
        Some(Self { name, labels, value: value as i64 })
    }

    /// The value of a label that needs no escapes, as names of Kubernetes' objects are.
    pub(crate) fn label(&self, name: &str) -> Option<&'a str> {
        let pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        let value = pairs.into_iter().find(|(key, _)| key.trim() == name)?.1;
        value.strip_prefix('"')?.strip_suffix('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_and_without_labels_and_times() {
        let row = Row::parse("up 1 1700000000").expect("a row");
        assert_eq!((row.name, row.value, row.label("a")), ("up", 1, None));
        let row = Row::parse("x{a=\"b\",c=\"d\"} 2.592e+06").expect("a row");
        assert_eq!((row.name, row.value, row.label("a"), row.label("c")), ("x", 2_592_000, Some("b"), Some("d")));
        for none in ["", "# HELP x y", "x", "x{", "x{a=\"b\"}", "x y"] {
            assert!(Row::parse(none).is_none(), "{none}");
        }
    }
}
