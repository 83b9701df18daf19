//! Patches: RFC 6902 ([`json`]), RFC 7386 ([`merge`]) and strategic merge patch ([`strategic`]). All work on values; what
//! comes out still has to be conformed to the kind. Server-side apply is no patch of the object alone and has
//! a module of its own.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::{Details, Status};
use crate::value::Value;

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The body is no patch of its kind: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object: 422. Upstream's answer does not say why.
    #[error("{0}")]
    Unprocessable(String),
    /// More operations than [`json::OPERATIONS_MAX`]: 413.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {0}", max = json::OPERATIONS_MAX)]
    TooManyOperations(usize),
    /// What upstream's strategic merge reports as an error of its own: 500 without a reason.
    #[error("{0}")]
    Failed(String),
}

impl PatchError {
    /// The answer to the request.
    pub fn to_status(&self) -> Status {
        match self {
            Self::Malformed(text) => Status::bad_request(text.as_str()),
            Self::TooManyOperations(_) => Status::too_large(self.to_string()),
            Self::Unprocessable(_) => {
                let message = "the server rejected our request due to an error in our request".to_owned();
                let details = Some(Box::new(Details::default()));
                Status { code: 422, reason: "Invalid", message, details, continue_token: None }
            }
            Self::Failed(text) => {
                Status { code: 500, reason: "", message: text.clone(), details: None, continue_token: None }
            }
        }
    }
}

/// What Go's decoder calls a JSON value in its errors.
fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
