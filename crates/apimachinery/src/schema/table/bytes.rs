//! Byte strings, base64 in JSON: what Go's decoder takes and the words with which it refuses.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use super::fault::Fault;
use crate::value::Value;

/// Base64 as Go reads it: padded, but with any bits behind the last byte.
pub(super) const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Conforms base64 text, or the list of numbers that Go takes in its place.
pub(super) fn conform(value: &mut Value) -> Result<(), Fault> {
    match value {
        Value::String(text) => {
            if !scan(text.as_bytes()).map_err(corrupt)? {
                *value = Value::from(reencoded(text)?);
            }
            Ok(())
        }
        Value::Array(items) => {
            let bytes: Result<Vec<u8>, Fault> = items.iter().map(byte).collect();
            *value = Value::from(BASE64.encode(bytes.map_err(Fault::in_item)?));
            Ok(())
        }
        other => Err(Fault::mismatch(other)),
    }
}

fn corrupt(offset: usize) -> Fault {
    Fault::Text(format!("illegal base64 data at input byte {offset}"))
}

fn byte(item: &Value) -> Result<u8, Fault> {
    match item {
        Value::Null => Ok(0),
        Value::Int(number) => u8::try_from(*number).map_err(|_| Fault::number(item, "uint8")),
        other => Err(Fault::number(other, "uint8")),
    }
}

/// The same bytes without line breaks and stray bits.
fn reencoded(text: &str) -> Result<String, Fault> {
    let joined: Vec<u8> = text.bytes().filter(|byte| !is_break(*byte)).collect();
    let bytes = BASE64.decode(joined).map_err(|error| Fault::Text(error.to_string()))?;
    Ok(BASE64.encode(bytes))
}

/// Whether a text is base64 exactly as it would be written; the offset that Go names where it is none.
fn scan(text: &[u8]) -> Result<bool, usize> {
    let mut canonical = true;
    let mut in_quantum = 0;
    let mut last = 0;
    for (offset, byte) in text.iter().copied().enumerate() {
        if is_break(byte) {
            canonical = false;
        } else if let Some(sextet) = sextet(byte) {
            last = sextet;
            in_quantum = (in_quantum + 1) % 4;
        } else {
            let padded = byte == b'=' && in_quantum >= 2;
            let stray = if in_quantum == 2 { last & 0b1111 } else { last & 0b11 };
            canonical &= stray == 0;
            return if padded {
                padding(text, offset, in_quantum).map(|clean| clean && canonical)
            } else {
                Err(offset)
            };
        }
    }
    if in_quantum == 0 { Ok(canonical) } else { Err(text.len() - in_quantum) }
}

/// The end of a text from its first `=` on; whether it holds no line break.
fn padding(text: &[u8], first: usize, in_quantum: usize) -> Result<bool, usize> {
    let mut rest = (first + 1..text.len()).filter(|offset| !is_break(text[*offset]));
    if in_quantum == 2 {
        match rest.next() {
            None => return Err(text.len()),
            Some(offset) if text[offset] != b'=' => return Err(offset - 1),
            Some(_) => {}
        }
    }
    match rest.next() {
        Some(offset) => Err(offset),
        None => Ok(!text[first..].iter().copied().any(is_break)),
    }
}

fn is_break(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_taken_and_refused_as_go_does() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let mut value = Value::from(text);
            let outcome = conform(&mut value).map(|()| value.as_str().unwrap().to_owned());
            let outcome = outcome.map_err(|fault| fault.message(""));
            assert_eq!(outcome.as_deref().map_err(String::as_str), expect, "{text:?}");
        };
        check("", Ok(""));
        check("Zm9v", Ok("Zm9v"));
        check("Zm9vYg==", Ok("Zm9vYg=="));
        check("Zm9v\nYg==\n", Ok("Zm9vYg=="));
        check("Zm9vYh==", Ok("Zm9vYg=="));
        check("***", Err("illegal base64 data at input byte 0"));
        check("Zm 9v", Err("illegal base64 data at input byte 2"));
        check("Zm8", Err("illegal base64 data at input byte 0"));
        check("Zm9vYg=", Err("illegal base64 data at input byte 7"));
        check("Zm9vYg==A", Err("illegal base64 data at input byte 8"));
        check("Z===", Err("illegal base64 data at input byte 1"));
    }

    #[test]
    fn numbers_stand_for_bytes() {
        let mut value = crate::value!([90, 91]);
        conform(&mut value).unwrap();
        assert_eq!(value.as_str(), Some("Wls="));
        assert!(conform(&mut crate::value!([256])).is_err());
    }
}
