//! Messages: requests of control, events of the pod process. Every request has an id and is answered by one event with it.

use crate::wire::{DecodeError, Record, numbered, record};
use crate::{Acknowledge, Attach, Connect, Exec, MESSAGE_BYTES_MAX, ReopenLog, Setup, Shutdown, Signal, Start};

pub(crate) const HEADER: usize = 8;

record! {
    /// Control's first message on a connection.
    Hello {
        1 version: u32,
    }
}

record! {
    /// The answer to [`Hello`]: all that the pod process knows.
    Welcome {
        1 version: u32,
        /// The namespaces stand.
        2 set_up: bool,
        3 processes: Vec<ProcessState>,
        /// Of the pod process itself, in its own numbering.
        4 pid: u32,
    }
}

record! {
    /// A container or exec that was started and is not acknowledged.
    ProcessState {
        1 key: u64,
        /// In the host's numbering; 0 when it has ended.
        2 pid: u32,
        /// Nanoseconds since 1970.
        3 started_ns: u64,
        4 exited: Option<Exited>,
    }
}

record! {
    /// A process ended. Repeated in every [`Welcome`] until acknowledged.
    Exited {
        1 key: u64,
        /// Exit code; 128 + n when signal n ended it.
        2 code: i32,
        /// The signal that ended it, or 0.
        3 signal: i32,
        4 finished_ns: u64,
        /// Output that could not be written to the log.
        5 log_bytes_dropped: u64,
    }
}

record! {
    /// A request was carried out.
    Done {
        /// Of the process that was started.
        1 pid: u32,
        /// The message carries a descriptor.
        2 descriptor: bool,
        /// What was attached to is a terminal.
        3 terminal: bool,
        /// When it was started, in nanoseconds since 1970.
        4 started_ns: u64,
    }
}

record! {
    /// A request was not carried out.
    Failed {
        1 step: Step,
        2 errno: i32,
        /// What the step was about, such as a path.
        3 about: String,
    }
}

numbered! {
    /// Where a request failed.
    Step {
        Decode = 1,
        /// The request does not fit the state: no such key, key in use, not set up.
        State = 2,
        Namespaces = 3,
        Cgroup = 4,
        Sysctl = 5,
        Shm = 6,
        Clone = 7,
        Log = 8,
        ParentDeath = 9,
        Propagation = 10,
        Root = 11,
        Mount = 12,
        Device = 13,
        Mask = 14,
        ReadOnly = 15,
        PivotRoot = 16,
        WorkingDirectory = 17,
        Limits = 18,
        Groups = 19,
        Capabilities = 20,
        NoNewPrivileges = 21,
        Seccomp = 22,
        User = 23,
        Exec = 24,
        Join = 25,
        Signal = 26,
        Connect = 27,
        Output = 28,
        Terminal = 29,
    }
}

/// Declares the messages of one direction with their numbers.
macro_rules! messages {
    ($(#[$meta:meta])* $name:ident { $($kind:literal $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name { $($variant($variant),)* }

        impl $name {
            /// The datagram of this message.
            ///
            /// # Errors
            /// `TooLong` when it exceeds [`MESSAGE_BYTES_MAX`].
            pub fn encode(&self, id: u32) -> Result<Vec<u8>, DecodeError> {
                let mut out = vec![0; HEADER];
                let kind: u16 = match self {
                    $(Self::$variant(body) => {
                        body.encode(&mut out);
                        $kind
                    })*
                };
                out[..2].copy_from_slice(&kind.to_le_bytes());
                out[4..HEADER].copy_from_slice(&id.to_le_bytes());
                within_limit(&out)?;
                Ok(out)
            }

            /// Reads a datagram into request id and message.
            ///
            /// # Errors
            /// When the bytes are no message that this side knows.
            pub fn decode(bytes: &[u8]) -> Result<(u32, Self), DecodeError> {
                let (kind, id, body) = header(bytes)?;
                let message = match kind {
                    $($kind => Self::$variant($variant::decode(body)?),)*
                    _ => return Err(DecodeError::UnknownKind { kind, id }),
                };
                Ok((id, message))
            }
        }

        $(impl From<$variant> for $name {
            fn from(body: $variant) -> Self {
                Self::$variant(body)
            }
        })*
    };
}

pub(crate) use messages;

messages! {
    /// Control to pod process.
    Request {
        1 Hello,
        2 Setup,
        3 Start,
        4 Exec,
        5 Signal,
        6 Acknowledge,
        7 ReopenLog,
        8 Connect,
        9 Shutdown,
        10 Attach,
    }
}

messages! {
    /// Pod process to control. All but [`Exited`] answer the request whose id they carry; that one comes unasked, with id 0.
    Event {
        101 Welcome,
        102 Done,
        103 Failed,
        104 Exited,
    }
}

/// Kind, request id and body.
pub(crate) fn header(bytes: &[u8]) -> Result<(u16, u32, &[u8]), DecodeError> {
    within_limit(bytes)?;
    let (header, body) = bytes.split_first_chunk::<HEADER>().ok_or(DecodeError::Truncated)?;
    let [kind_low, kind_high, _, _, id @ ..] = *header;
    Ok((u16::from_le_bytes([kind_low, kind_high]), u32::from_le_bytes(id), body))
}

/// The id of a request that may not be readable any further, so that it can be answered.
pub fn id_of(bytes: &[u8]) -> Option<u32> {
    header(bytes).map(|(_, id, _)| id).ok()
}

pub(crate) fn within_limit(bytes: &[u8]) -> Result<(), DecodeError> {
    let length = bytes.len();
    if length > MESSAGE_BYTES_MAX { Err(DecodeError::TooLong { length }) } else { Ok(()) }
}
