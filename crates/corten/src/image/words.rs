//! A command line as words, with a shell's quotes and none of its other meanings.

/// Splits at white space; '…' and "…" hold words together, a backslash takes the next character as it is.
pub(super) fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                let next = characters.next().ok_or_else(|| anyhow::anyhow!("{text:?} ends with a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        anyhow::bail!("a quote in {text:?} is not closed; close it");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(words(text).expect(text), expected);
    }

    #[test]
    fn quotes_hold_words_together() {
        check("", &[]);
        check("  httpd -f\t-p 8080 ", &["httpd", "-f", "-p", "8080"]);
        check(r#"sh -c 'echo "a  b"' "" x\ y"#, &["sh", "-c", r#"echo "a  b""#, "", "x y"]);
        check(r#"a"b\"c"'d'"#, &[r#"ab"cd"#]);
        assert!(words("'a").is_err() && words("a\\").is_err());
    }
}
