//! Strings and bytes as they are written.

/// Where a string that begins at `text` ends (`None` inside: nowhere), whether it is of bytes, whether raw, and how long
/// its quotes are.
pub(super) fn extent(text: &str) -> Option<(Option<usize>, bool, bool, usize)> {
    let bytes = text.as_bytes();
    let is_bytes = matches!(bytes.first(), Some(b'b' | b'B'));
    let is_raw = matches!(bytes.get(usize::from(is_bytes)), Some(b'r' | b'R'));
    let start = usize::from(is_bytes) + usize::from(is_raw);
    let quote = *bytes.get(start).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let three = bytes[start..].starts_with(&[quote; 3]);
    let width = if three { 3 } else { 1 };
    let mut index = start + width;
    let end = loop {
        match bytes.get(index) {
            None => break None,
            Some(b'\n' | b'\r') if !three => break None,
            Some(b'\\') if !is_raw => index += 2,
            Some(byte) if *byte == quote && (!three || bytes[index..].starts_with(&[quote; 3])) => {
                break Some(index + width);
            }
            Some(_) => index += 1,
        }
    };
    Some((end, is_bytes, is_raw, width))
}

const WRONG: &str = "unable to unescape string";

/// What the inside of a string means. Line ends become `\n`.
pub(super) fn unescape(inside: &str, is_bytes: bool, is_raw: bool) -> Result<Vec<u8>, &'static str> {
    let inside = inside.replace("\r\n", "\n").replace('\r', "\n");
    if is_raw || !inside.contains('\\') {
        return Ok(inside.into_bytes());
    }
    let mut meaning = Vec::with_capacity(inside.len());
    let mut rest = inside.chars();
    let mut utf8 = [0; 4];
    while let Some(character) = rest.next() {
        if character != '\\' {
            meaning.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
            continue;
        }
        let escape = rest.next().ok_or("unable to unescape string, found '\\' as last character")?;
        let code = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => escape as u32,
            'x' | 'X' => number(&mut rest, 2, 16, WRONG)?,
            'u' if !is_bytes => number(&mut rest, 4, 16, WRONG)?,
            'U' if !is_bytes => number(&mut rest, 8, 16, WRONG)?,
            '0'..='3' => {
                (escape as u32 - '0' as u32) * 64
                    + number(&mut rest, 2, 8, "unable to unescape octal sequence in string")?
            }
            _ => return Err(WRONG),
        };
        if is_bytes {
            meaning.push(u8::try_from(code).map_err(|_| WRONG)?);
        } else {
            let character = char::from_u32(code).ok_or("invalid unicode code point")?;
            meaning.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        }
    }
    Ok(meaning)
}

fn number(rest: &mut std::str::Chars<'_>, digits: usize, base: u32, wrong: &'static str) -> Result<u32, &'static str> {
    (0..digits).try_fold(0_u32, |value, _| {
        let digit = rest.next().and_then(|digit| digit.to_digit(base)).ok_or(wrong)?;
        Ok(value.wrapping_mul(base).wrapping_add(digit))
    })
}
