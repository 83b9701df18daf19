//! What control and the pod process (`corten-pod`) say to each other, and what control, holder and edge do: the holder is the
//! second role of the same program.
//!
//! A pod process lives as long as its pod, often longer than the control that started it, so both sides must understand
//! older and newer peers. One message is one datagram: eight bytes of header (kind, zero, request id), then fields of tag,
//! length and value, all little-endian (`wire`). Tags and kinds are only ever added; their meaning never changes.
//!
//! - An absent field has its type's default; a field that holds the default is not sent.
//! - An unknown field is skipped, unless its tag has [`wire::CRITICAL`]: then the message is refused, so a restriction that
//!   an old pod process does not know is never silently dropped.
//! - An unknown kind of message is an error that carries its request id, so that it can be answered.
//! - Decoding never panics and allocates no more than a small multiple of the message's length.

mod holder;
mod message;
mod plan;
mod wire;

pub use holder::{Drain, EdgeOrder, End, Forget, Held, HolderEvent, HolderRequest, Keep, Lend, Run, Serve};
pub use message::{Done, Event, Exited, Failed, Hello, ProcessState, Request, Step, Welcome, id_of};
pub use plan::{
    Acknowledge, Attach, Connect, Credentials, Device, Exec, Mount, MountKind, Output, Propagation, ReopenLog, Rlimit,
    Root, Setup, Shutdown, Signal, Start, Symlink, Sysctl,
};
pub use wire::{CRITICAL, DecodeError};

/// Counts what was added to the protocol; told in [`Hello`] and [`Welcome`].
pub const VERSION: u32 = 3;

/// Bytes of one message. A datagram socket's default buffer (208 KiB) holds one with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;

/// Elements of one list in a message.
pub const ITEMS_MAX: usize = 8192;

/// Containers and execs of one pod that run or wait for their exit to be acknowledged.
pub const PROCESSES_MAX: usize = 512;
