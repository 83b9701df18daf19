//! What control says to the holder, and the holder to the edge that it runs. The holder keeps descriptors and secrets under
//! names that mean nothing to it, and hands all of them to every edge that it starts.

use crate::message::{HEADER, header, messages, within_limit};
use crate::plan::Credentials;
use crate::wire::{DecodeError, Record, record};
use crate::{Done, Failed, Hello};
use std::ffi::CString;

record! {
    /// Keep this under a name, in the place of what was there. A descriptor may come with it.
    Keep {
        1 name: String,
        2 bytes: Box<[u8]>,
    }
}

record! {
    /// Let go of what is kept under a name.
    Forget {
        1 name: String,
    }
}

record! {
    /// Hand over a copy of the descriptor that is kept under a name; it comes with the answer.
    Lend {
        1 name: String,
    }
}

record! {
    /// Start an edge from now on, and again whenever it ends. Comes with three descriptors: the program, standard output and
    /// standard error. One that runs goes on until the new one is ready, and is then drained.
    Run {
        1 credentials: Credentials,
        /// `cgroup.procs` files of the groups that it joins.
        2 cgroup_joins: Vec<CString>,
        /// How long the one before may take to end.
        3 drain_ms: u64,
    }
}

record! {
    /// End the edge, and then the holder.
    End {
        1 drain_ms: u64,
    }
}

record! {
    /// To an edge: accept nothing more, finish what runs, then end.
    Drain {
        1 drain_ms: u64,
    }
}

record! {
    /// To an edge: everything that is kept has been handed over; serve, and say [`Done`] when new connections are accepted.
    Serve {
        1 version: u32,
    }
}

record! {
    /// The answer to [`Hello`]: all that the holder knows.
    Held {
        1 version: u32,
        /// In the order in which they were kept.
        2 names: Vec<String>,
        /// Of the newest edge; 0 when there is none.
        3 pid: u32,
        /// Edges that were started.
        4 starts: u64,
        /// The newest edge has said that it serves.
        5 ready: bool,
        /// Why the last start failed.
        6 failed: Option<Failed>,
    }
}

messages! {
    /// Control to holder.
    HolderRequest {
        1 Hello,
        201 Keep,
        202 Forget,
        203 Run,
        204 End,
        205 Lend,
    }
}

messages! {
    /// Holder to control, each the answer to one request. An edge says [`Done`] to its holder when it serves.
    HolderEvent {
        102 Done,
        103 Failed,
        211 Held,
    }
}

messages! {
    /// Holder to edge.
    EdgeOrder {
        201 Keep,
        202 Forget,
        221 Drain,
        222 Serve,
    }
}
