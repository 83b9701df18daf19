//! The generic object model of the Kubernetes API: dynamic values, schemas, metadata, `Status`, quantities, selectors
//! and patches. Pure: no IO, no clock, and no kind's name.

pub mod cells;
pub mod duration;
pub mod field;
pub mod json;
pub mod jsonpath;
pub mod kind;
pub mod managed;
pub mod meta;
pub mod name;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod value;
pub mod yaml;
