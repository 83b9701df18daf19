//! Tells what happened to an object as events, which `kubectl describe` shows.
//!
//! Telling never waits: occurrences go into a queue with a limit, and one task writes them. On the way they are put
//! together, as upstream does (`client-go/tools/record`, `client-go/tools/events`): what repeats raises a count, what is
//! alike becomes one event, who talks too much is cut off.

mod counted;
mod recent;
mod series;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Map, Str, Value};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::random::Random;
use corten_stdx::task::{Stopped, Tasks};
use tokio::sync::mpsc;

use self::counted::Counted;
use self::series::Series;
use crate::cache::Head;
use crate::client::{Client, Patch};
use crate::error::{Error, unless_gone};
use crate::resource::Resource;

const CORE_EVENTS: Resource = Resource::new("", "v1", "events");
const EVENTS: Resource = Resource::new("events.k8s.io", "v1", "events");

/// Occurrences that wait to be written; what comes on top is dropped and counted.
const QUEUE_MAX: usize = 1000;
/// Objects and texts that are remembered, to put together what comes next.
const REMEMBERED_MAX: usize = 4096;
/// An event that cannot be sent is tried so often.
const TRIES_MAX: usize = 12;
const PAUSE: Duration = Duration::from_secs(10);

/// The two ways in which upstream's components write events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// `v1`, repetitions counted: kubelet (with its host) and controllers (without one).
    Counted { component: Str, host: Str },
    /// `events.k8s.io/v1`, repetitions in series: the scheduler.
    Series { controller: Str, instance: Str },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

/// Names the object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reference {
    pub api_version: Str,
    pub kind: Str,
    pub namespace: Str,
    pub name: Str,
    pub uid: Str,
    pub revision: Str,
    /// A part of the object: `spec.containers{web}`.
    pub field_path: Str,
}

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub regarding: Reference,
    /// A second object, in a series only.
    pub related: Option<Reference>,
    pub severity: Severity,
    pub reason: Str,
    /// What was done, in a series only.
    pub action: Str,
    pub note: String,
}

/// Takes occurrences for one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<(i64, Occurrence)>,
    clock: Clock,
    dropped: AtomicU64,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq)]
enum Write {
    Create(Value),
    /// Changes the event of a name; where it is gone, the whole event is made.
    Patch {
        patch: Value,
        whole: Value,
    },
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl Reference {
    /// Of an object that may come from a list, which leaves its kind out.
    pub fn of(api_version: &str, kind: &str, object: &Value) -> Self {
        let meta = Meta::of(object);
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: meta.namespace().into(),
            name: meta.name().into(),
            uid: meta.uid().into(),
            revision: meta.resource_version().into(),
            field_path: Str::default(),
        }
    }

    pub fn of_head(api_version: &str, kind: &str, head: &Head) -> Self {
        Self {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: head.namespace.clone(),
            name: head.name.clone(),
            uid: head.uid.clone(),
            revision: head.revision.clone(),
            field_path: Str::default(),
        }
    }

    #[must_use]
    pub fn part(mut self, field_path: impl Into<Str>) -> Self {
        self.field_path = field_path.into();
        self
    }

    /// The namespace of its events.
    fn events_namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        let fields = [
            ("kind", &self.kind),
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("uid", &self.uid),
            ("apiVersion", &self.api_version),
            ("resourceVersion", &self.revision),
            ("fieldPath", &self.field_path),
        ];
        for (field, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
            map.insert(field, text.clone());
        }
        Value::Object(map)
    }
}

impl Recorder {
    /// Begins to write the events of a component; ends with the tasks.
    pub fn new(form: Form, client: Client, clock: &Clock, random: &Random, tasks: &Tasks) -> Self {
        let (queue, taken) = mpsc::channel(QUEUE_MAX);
        let correlator = match form {
            Form::Counted { component, host } => Correlator::Counted(Box::new(Counted::new(component, host))),
            Form::Series { controller, instance } => Correlator::Series(Series::new(controller, instance)),
        };
        let writer = Writer { client, clock: clock.clone(), random: random.clone(), correlator };
        tasks.spawn("recorder", writer.run(taken, tasks.stopped()));
        Self(Arc::new(Inner { queue, clock: clock.clone(), dropped: AtomicU64::new(0) }))
    }

    pub fn normal(&self, regarding: &Reference, reason: &str, note: impl Into<String>) {
        self.simple(regarding, Severity::Normal, reason, note.into());
    }

    pub fn warning(&self, regarding: &Reference, reason: &str, note: impl Into<String>) {
        self.simple(regarding, Severity::Warning, reason, note.into());
    }

    fn simple(&self, regarding: &Reference, severity: Severity, reason: &str, note: String) {
        let (regarding, action) = (regarding.clone(), Str::default());
        self.record(Occurrence { regarding, related: None, severity, reason: reason.into(), action, note });
    }

    pub fn record(&self, occurrence: Occurrence) {
        let inner = &self.0;
        if let Err(error) = inner.queue.try_send((inner.clock.now_ms(), occurrence)) {
            let dropped = inner.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(dropped, %error, "an event is dropped");
        }
    }

    /// Occurrences since the start that were not taken, because too many waited.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

enum Correlator {
    Counted(Box<Counted>),
    Series(Series),
}

impl Correlator {
    fn take(&mut self, occurrence: Occurrence, at_ms: i64) -> Option<Write> {
        match self {
            Self::Counted(counted) => counted.take(&occurrence, at_ms),
            Self::Series(series) => series.take(&occurrence, at_ms),
        }
    }

    /// What is to be written at a time, though nothing happened.
    fn due(&mut self, now_ms: i64) -> Vec<Write> {
        match self {
            Self::Counted(_) => Vec::new(),
            Self::Series(series) => series.due(now_ms),
        }
    }

    fn next_ms(&self) -> Option<i64> {
        match self {
            Self::Counted(_) => None,
            Self::Series(series) => series.next_ms(),
        }
    }

    fn resource(&self) -> Resource {
        match self {
            Self::Counted(_) => CORE_EVENTS,
            Self::Series(_) => EVENTS,
        }
    }
}

/// The task behind a recorder.
struct Writer {
    client: Client,
    clock: Clock,
    random: Random,
    correlator: Correlator,
}

impl Writer {
    async fn run(mut self, mut taken: mpsc::Receiver<(i64, Occurrence)>, mut stopped: Stopped) {
        tokio::select! {
            () = stopped.wait() => {}
            () = self.write_all(&mut taken) => {}
        }
    }

    async fn write_all(&mut self, taken: &mut mpsc::Receiver<(i64, Occurrence)>) {
        loop {
            let next_ms = self.correlator.next_ms();
            let due = async {
                match next_ms {
                    Some(next_ms) => self.clock.sleep_until_ms(next_ms).await,
                    None => std::future::pending().await,
                }
            };
            let writes = tokio::select! {
                occurrence = taken.recv() => match occurrence {
                    Some((at_ms, occurrence)) => self.correlator.take(occurrence, at_ms).into_iter().collect(),
                    None => return,
                },
                () = due => self.correlator.due(self.clock.now_ms()),
            };
            for write in writes {
                self.write(write).await;
            }
        }
    }

    /// Sends, and tries again while the server cannot be reached. What it refuses is given up.
    async fn write(&self, write: Write) {
        for tries in 1..=TRIES_MAX {
            let error = match self.send(&write).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let moved_on = error.is_already_exists() || error.is_namespace_terminating();
            if matches!(error, Error::Status(_)) && error.code() < 500 {
                if !moved_on {
                    tracing::warn!(error = %Chain(&error), "an event is refused");
                }
                return;
            }
            tracing::debug!(tries, error = %Chain(&error), "an event is not written yet");
            let part_ms = PAUSE.as_millis() as u64;
            let pause = if tries == 1 { Duration::from_millis(self.random.next_u64() % part_ms) } else { PAUSE };
            self.clock.sleep(pause).await;
        }
        tracing::warn!(tries = TRIES_MAX, "an event is given up");
    }

    async fn send(&self, write: &Write) -> Result<(), Error> {
        let resource = &self.correlator.resource();
        let whole = match write {
            Write::Create(whole) => whole,
            Write::Patch { patch, whole } => {
                let meta = Meta::of(whole);
                let patch = Patch::Strategic(patch.clone());
                let patched = self.client.patch(resource, meta.namespace(), meta.name(), "", &patch).await;
                if unless_gone(patched)?.is_some() {
                    return Ok(());
                }
                whole
            }
        };
        self.client.create(resource, Meta::of(whole).namespace(), whole).await.map(drop)
    }
}

/// `web-1.18bca0f2b3a1c2d4`: the name of the object, and a time in nanoseconds that no other event of this recorder has.
fn name(object: &str, at_ms: i64, number: u64) -> String {
    let at_ns = u64::try_from(at_ms).unwrap_or_default().wrapping_mul(1_000_000) + number % 1_000_000;
    format!("{object}.{at_ns:x}")
}
