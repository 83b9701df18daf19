//! The seams to the outside that every part of this process shares, and what is built on them and a client alone: caches, events,
//! the driver of controllers.

use corten_client::controller::{Driver, Leadership};
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Informers};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

/// Cheap to clone.
#[derive(Clone)]
pub struct Seams {
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

impl Seams {
    pub fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random, tasks: Tasks::new() }
    }

    /// Caches that a client fills.
    pub fn informers(&self, client: Client) -> Informers {
        Informers::new(client, self.clock.clone(), self.random.clone(), self.tasks.clone())
    }

    /// Events, written by a client.
    pub fn recorder(&self, form: Form, client: Client) -> Recorder {
        Recorder::new(form, client, &self.clock, &self.random, &self.tasks)
    }

    /// Runs controllers of which this process has the only ones.
    pub fn driver(&self) -> Driver {
        Driver {
            clock: self.clock.clone(),
            random: self.random.clone(),
            tasks: self.tasks.clone(),
            leadership: Leadership::alone(),
        }
    }
}
