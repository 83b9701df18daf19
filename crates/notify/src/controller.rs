//! Keeps each notifier's ledger, and sends what is due.
//!
//! The ledger is written before a message goes, and after it: what was decided to be told is not forgotten, and what was told is
//! not told again. Only where the second write is cut off by a crash does a message go twice, and then with the same id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Informers, Patch};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;

use crate::carry::Carry;
use crate::figures::Figures;
use crate::kind::{API_VERSION, EVERYTHING, KIND, NOTIFIERS, Spec};
use crate::ledger::Ledger;
use crate::letter::Letter;
use crate::secret;
use crate::watch::Watched;

/// What it stands on; the client and the recorder have its own identity.
pub struct Base {
    pub informers: Informers,
    pub client: Client,
    pub recorder: Recorder,
    pub clock: Clock,
    pub carrier: Arc<dyn Carry>,
}

/// Of a notifier nothing is held but that it is there, and in which form: what it says of itself changes all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    generation: i64,
}

impl View for Declared {
    fn from_object(notifier: &Value) -> Option<Self> {
        Some(Self { generation: Meta::of(notifier).generation() })
    }
}

struct Context {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    carrier: Arc<dyn Carry>,
    watched: Watched,
    /// Ledgers that could not be written after a message had gone, by uid.
    unwritten: Mutex<HashMap<Str, Ledger>>,
}

/// One notifier as it was read.
struct Notifier {
    object: Value,
    spec: Spec,
    ledger: Ledger,
}

pub(crate) fn controller(base: &Base, figures: &Figures) -> Controller {
    let notifiers = base.informers.of::<Declared>(Scope::all(NOTIFIERS));
    let watched = Watched::new(&base.informers, figures);
    let context = Context {
        client: base.client.clone(),
        recorder: base.recorder.clone(),
        clock: base.clock.clone(),
        carrier: base.carrier.clone(),
        watched: watched.clone(),
        unwritten: Mutex::default(),
    };
    let figures = figures.clone();
    let controller = Controller::new("notifier", Arc::new(context), reconcile)
        .begins(move |mark| figures.tell(mark))
        .watches_view_for(&notifiers, |notifier| vec![notifier.head.key()]);
    watched.bring(controller, &notifiers)
}

/// The notifiers that are told of an object.
pub(crate) fn told_of<V>(notifiers: &Informer<Declared>) -> impl Fn(&Held<V>) -> Vec<Key> + Send + 'static {
    let notifiers = notifiers.clone();
    move |object| {
        let all = notifiers.cache().all();
        let told = all.iter().map(|notifier| notifier.head.key());
        told.filter(|key| key.namespace == EVERYTHING || key.namespace == object.head.namespace).collect()
    }
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    // Not from the cache, which may not show yet what was told.
    let Some(object) = unless_gone(ctx.client.get(&NOTIFIERS, &key.namespace, &key.name).await)? else {
        return Ok(Next::Change);
    };
    let Some(spec) = Spec::of(&object).filter(|_| Meta::of(&object).deletion_timestamp().is_none()) else {
        return Ok(Next::Change);
    };
    let now_ms = ctx.clock.now_ms();
    let ledger = ctx.unwritten().remove(Meta::of(&object).uid());
    let ledger = ledger.unwrap_or_else(|| Ledger::from_status(object.get("status")));
    let mut notifier = Notifier { object, spec, ledger };
    if notifier.object.i64_at(&["status", "observedGeneration"]) != Some(Meta::of(&notifier.object).generation()) {
        notifier.ledger.try_now();
    }
    let silent_until_ms = notifier.spec.silent_until_s.saturating_mul(1000);
    if silent_until_ms > now_ms {
        ctx.write(&mut notifier).await?;
        return Ok(after(Some(silent_until_ms), now_ms));
    }
    let (sights, again_ms) = ctx.watched.sights(&key.namespace, &ctx.clock);
    let calm_ms = notifier.ledger.look(&sights, &notifier.spec.facts, now_ms);
    ctx.write(&mut notifier).await?;
    if notifier.due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
        ctx.deliver(&mut notifier).await?;
    }
    let next = [again_ms, calm_ms, notifier.due_ms()].into_iter().flatten().min();
    Ok(after(next, ctx.clock.now_ms()))
}

fn after(at_ms: Option<i64>, now_ms: i64) -> Next {
    let Some(at_ms) = at_ms else { return Next::Change };
    Next::After(Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or_default().max(1)))
}

impl Notifier {
    fn due_ms(&self) -> Option<i64> {
        self.ledger.due_ms(self.spec.messages_per_hour)
    }

    fn letter(&self, now_ms: i64) -> Letter {
        let meta = Meta::of(&self.object);
        let (news, omitted) = self.ledger.news();
        Letter {
            id: format!("{}-{}", meta.uid(), self.ledger.number()),
            notifier: format!("{}/{}", meta.namespace(), meta.name()),
            at_ms: now_ms,
            news: news.to_vec(),
            omitted,
        }
    }
}

impl Context {
    fn unwritten(&self) -> MutexGuard<'_, HashMap<Str, Ledger>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn deliver(&self, notifier: &mut Notifier) -> Result<(), Error> {
        let letter = notifier.letter(self.clock.now_ms());
        let namespace = Meta::of(&notifier.object).namespace().to_owned();
        let carried = match secret::address(&self.client, &namespace, &notifier.spec.target).await? {
            Ok(address) => self.carrier.carry(&address, &letter).await,
            Err(error) => Err(error),
        };
        let reference = Reference::of(API_VERSION, KIND, &notifier.object);
        let now_ms = self.clock.now_ms();
        match carried {
            Ok(()) => {
                if notifier.ledger.delivered(notifier.spec.messages_per_hour, now_ms) > 0 {
                    self.recorder.normal(&reference, "Delivered", "Messages are delivered again");
                }
            }
            Err(error) => {
                let text = Chain(&error).to_string();
                if notifier.ledger.failed(text.clone(), now_ms) == 1 {
                    let note = format!("A message is not delivered, and is tried again: {text}");
                    self.recorder.warning(&reference, "NotDelivered", note);
                }
            }
        }
        let written = self.write(notifier).await;
        if written.is_err() {
            self.unwritten().insert(Meta::of(&notifier.object).uid().into(), notifier.ledger.clone());
        }
        written
    }

    /// Writes the status where it changes. Nobody else writes it, and who changes the rest meanwhile is in nobody's way.
    async fn write(&self, notifier: &mut Notifier) -> Result<(), Error> {
        let meta = Meta::of(&notifier.object);
        let before = notifier.object.get("status");
        let status = notifier.ledger.to_status(before, meta.generation(), self.clock.now_ms());
        if before == Some(&status) {
            return Ok(());
        }
        let patch = value!([
            {"op": "test", "path": "/metadata/uid", "value": (meta.uid())},
            {"op": "add", "path": "/status", "value": status}
        ]);
        let (namespace, name) = (meta.namespace(), meta.name());
        let written = self.client.patch(&NOTIFIERS, namespace, name, "status", &Patch::Json(patch)).await;
        if let Some(object) = unless_gone(written)? {
            notifier.object = object;
        }
        Ok(())
    }
}
