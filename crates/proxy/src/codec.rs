//! HTTP/1.1 as RFC 9112 writes it, read strictly and without IO: bytes in, heads and pieces of bodies out.
//!
//! A proxy that reads a message in another way than the server behind it lets a client smuggle requests. So wherever the RFC
//! leaves a choice, this reader refuses, and what it passes on is always written anew from what it understood. The same bytes
//! give the same outcome, in whatever pieces they come.

pub mod body;
pub mod chunked;
pub mod fields;
pub mod name;
pub mod request;
pub mod response;
pub mod scan;
pub mod target;

/// Limits of one message. Each names the growth that it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, from the first line to the empty one: memory for a client that has not asked for anything yet.
    pub head_bytes_max: usize,
    /// Fields of a head, at most [`FIELDS_MAX`]: time to search them.
    pub fields_max: usize,
    /// Bytes of a request's target.
    pub target_bytes_max: usize,
    /// Bytes of chunk sizes and extensions in a row that carry no data: work without progress.
    pub chunk_overhead_bytes_max: u32,
    /// Bytes of trailers, which are read and dropped.
    pub trailer_bytes_max: u32,
}

/// Fields that fit into the table on the stack.
pub const FIELDS_MAX: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            fields_max: FIELDS_MAX,
            target_bytes_max: 8 * 1024,
            chunk_overhead_bytes_max: 1024,
            trailer_bytes_max: 4 * 1024,
        }
    }
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    #[error("a line ends without a carriage return")]
    BareLineFeed,
    #[error("the first line or a field is not well-formed")]
    Syntax,
    #[error("the head is too long")]
    HeadTooLong,
    #[error("too many fields")]
    TooManyFields,
    #[error("the target is too long")]
    TargetTooLong,
    #[error("the target is not well-formed")]
    Target,
    #[error("no Host field")]
    NoHost,
    #[error("more than one Host field")]
    HostRepeated,
    #[error("the Host field is no host")]
    HostSyntax,
    #[error("target and Host field name different hosts")]
    HostDiffers,
    #[error("Content-Length is no number")]
    LengthSyntax,
    #[error("more than one Content-Length")]
    LengthRepeated,
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    #[error("Transfer-Encoding is not chunked alone")]
    Encoding,
    #[error("Transfer-Encoding in a message of HTTP/1.0")]
    EncodingInOldVersion,
    #[error("Connection names a field that is not for one connection alone")]
    ConnectionNames,
    #[error("an expectation that is not known")]
    Expectation,
    #[error("a method that is not passed on")]
    Method,
    #[error("a version that is not spoken")]
    Version,
    #[error("a chunk is not well-formed")]
    Chunk,
    #[error("chunks carry too little data")]
    ChunkOverhead,
    #[error("a trailer is not well-formed or too long")]
    Trailer,
    #[error("a status that cannot be")]
    Status,
}

impl Malformed {
    /// The status that a client gets whose request is refused so.
    pub const fn status(self) -> u16 {
        match self {
            Self::HeadTooLong | Self::TooManyFields => 431,
            Self::TargetTooLong => 414,
            Self::Encoding | Self::Method => 501,
            Self::Expectation => 417,
            Self::Version => 505,
            _ => 400,
        }
    }
}
