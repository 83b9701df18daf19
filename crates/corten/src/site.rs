//! What every part of this server stands on: what was asked for, where everything is kept, who this server is, and the
//! seams to the outside.

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::args::Up;
use crate::datadir::DataDir;
use crate::ranges::Ranges;

pub struct Site<'a> {
    pub up: &'a Up,
    /// The node's name.
    pub name: String,
    pub dir: &'a DataDir,
    pub ranges: Ranges,
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

impl<'a> Site<'a> {
    pub fn new(up: &'a Up, dir: &'a DataDir, ranges: Ranges, clock: Clock, random: Random) -> Self {
        // The name given, or the host's.
        let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let name = up.name.clone().unwrap_or_else(host);
        Self { up, name, dir, ranges, clock, random, tasks: Tasks::new() }
    }
}
