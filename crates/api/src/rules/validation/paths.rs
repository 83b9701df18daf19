//! Paths in files: relative ones, and none that climb.

use corten_apimachinery::field::{FieldErrors, FieldPath};

use super::At;

const MODE_MAX: i64 = 0o777;

pub(crate) fn no_backsteps(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if has_backsteps(text) {
        errors.invalid(path, text, "must not contain '..'");
    }
}

pub(crate) fn has_backsteps(text: &str) -> bool {
    text.split('/').any(|part| part == "..")
}

/// A path below some folder.
pub(crate) fn descending(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if text.starts_with('/') {
        errors.invalid(path, text, "must be a relative path");
    }
    no_backsteps(text, path, errors);
}

/// A path below some folder that is not one of the names which start with two dots.
pub(crate) fn descending_free(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    descending(text, path, errors);
    if text.starts_with("..") && !text.starts_with("../") {
        errors.invalid(path, text, "must not start with '..'");
    }
}

/// The permissions of a file.
pub(crate) fn mode(at: &At<'_>, field: &str, errors: &mut FieldErrors) {
    if let Some(mode) = at.int(field).filter(|mode| !(0..=MODE_MAX).contains(mode)) {
        errors.invalid(&at.path(field), mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}
