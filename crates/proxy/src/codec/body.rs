//! Where a body ends, whatever says so.

use super::chunked::Chunked;
use super::{Limits, Malformed};

/// A body that is being read.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// Bytes that are still to come.
    Length(u64),
    Chunked(Chunked),
    /// Everything until the peer closes; answers only.
    UntilClose,
}

/// What one look at the input gave: first framing to skip, then data to pass on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub skip: usize,
    pub data: usize,
}

impl Body {
    pub const NONE: Self = Self::Length(0);

    pub fn chunked(limits: &Limits) -> Self {
        Self::Chunked(Chunked::new(limits))
    }

    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Takes the next piece of `input`. Where data follows data, it takes more than one call.
    ///
    /// # Errors
    /// When chunks are not well-formed.
    pub fn piece(&mut self, input: &[u8]) -> Result<Piece, Malformed> {
        match self {
            Self::UntilClose => Ok(Piece { skip: 0, data: input.len() }),
            Self::Chunked(chunked) => chunked.piece(input),
            Self::Length(left) => {
                let data = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= data as u64;
                Ok(Piece { skip: 0, data })
            }
        }
    }
}
