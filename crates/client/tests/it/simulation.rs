//! A controller keeps so many parts for every thing. Whatever fails on the way, in the end they are what was wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Key, View};
use corten_client::controller::{Controller, Driver, Leadership, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Informers, Resource};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::server::Server;

const THINGS: Resource = Resource::new("sim", "v1", "things");
const PARTS: Resource = Resource::new("sim", "v1", "parts");
const STEPS_MAX: usize = 4_000;
/// Generous: what is asked for comes at once.
const LIMIT: Duration = Duration::from_secs(10);

/// How many parts a thing wants.
#[derive(PartialEq)]
struct Wants(i64);

impl View for Wants {
    fn from_object(object: &Value) -> Option<Self> {
        object.i64_at(&["wants"]).map(Self)
    }
}

struct Context {
    client: Client,
    clock: Clock,
    random: Random,
    things: Informer<Wants>,
    parts: Informer<()>,
    /// Keys that run now: each at most once.
    running: Mutex<BTreeSet<Key>>,
    /// Keys that ran twice at a time. The driver would catch a panic, so they are kept.
    twice: Mutex<Vec<Key>>,
}

struct Alone<'a>(&'a Context, Key);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.running.lock().expect("no panic under it").remove(&self.1);
    }
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    if !ctx.running.lock().expect("no panic under it").insert(key.clone()) {
        ctx.twice.lock().expect("no panic under it").push(key.clone());
    }
    let _alone = Alone(&ctx, key.clone());
    tokio::task::yield_now().await;
    let thing = ctx.things.cache().get("", &key.name);
    let wants = thing.as_ref().map_or(0, |thing| thing.0);
    let uid = thing.as_ref().map_or("", |thing| thing.head.uid.as_str());
    let parts: Vec<_> =
        ctx.parts.cache().all().into_iter().filter(|part| part_of(&part.head.name) == key.name).collect();
    let (own, strange): (Vec<_>, Vec<_>) = parts.iter().partition(|part| part.head.owners.iter().any(|o| o.uid == uid));
    let surplus = own.iter().skip(usize::try_from(wants).expect("as simulated"));
    for part in strange.iter().chain(surplus) {
        unless_gone(ctx.client.delete(&PARTS, "", &part.head.name, &Delete::of(&part.head.uid)).await)?;
    }
    let mut last = None;
    for _ in own.len()..usize::try_from(wants).expect("as simulated") {
        // A panic between two writes is a crash there.
        assert!(!ctx.random.next_u64().is_multiple_of(20), "crashed on purpose");
        let name = format!("{}-{:08x}", key.name, ctx.random.next_u64() as u32);
        let part = value!({"metadata": {"name": name, "ownerReferences": [{"uid": uid, "controller": true}]}});
        last = Some(ctx.client.create(&PARTS, "", &part).await?);
    }
    if let Some(last) = last {
        ctx.parts.caught_up(last.str_at(&["metadata", "resourceVersion"]), &ctx.clock).await?;
    }
    Ok(Next::Change)
}

fn part_of(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

fn counts(server: &Server) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for part in server.objects("parts") {
        *counts.entry(part_of(part.str_at(&["metadata", "name"])).to_owned()).or_default() += 1;
    }
    counts
}

fn thing(server: &Server, name: &str, wants: u64) {
    let wants = i64::try_from(wants).expect("as simulated");
    server.put("things", value!({"metadata": {"name": name}, "wants": wants}));
}

/// What a user does next.
fn disturb(server: &Server, random: &Random) {
    let name = format!("t{}", random.next_u64() % 6);
    match random.next_u64() % 5 {
        0 => server.remove("things", &name),
        1 => {
            // At once, before anybody can look.
            server.remove("things", &name);
            thing(server, &name, random.next_u64() % 4);
        }
        _ => thing(server, &name, random.next_u64() % 6),
    }
}

fn wanted(server: &Server) -> BTreeMap<String, i64> {
    let things = server.objects("things");
    let wants = things.iter().map(|thing| {
        let wants = thing.i64_at(&["wants"]).expect("a thing wants parts");
        (thing.str_at(&["metadata", "name"]).to_owned(), wants)
    });
    wants.filter(|(_, wants)| *wants > 0).collect()
}

async fn run(seed: u64, streaming: bool) {
    let random = Random::seeded(seed);
    let (clock, tasks) = (Clock::manual(0), Tasks::new());
    let server = Server::new(random.clone(), streaming);
    let client = Client::new(Arc::new(server.clone()), "simulation");
    let informers = Informers::new(client.clone(), clock.clone(), random.clone(), tasks.clone());
    let (things, parts) = (informers.of::<Wants>(Scope::all(THINGS)), informers.of::<()>(Scope::all(PARTS)));
    let context = Arc::new(Context {
        client,
        clock: clock.clone(),
        random: random.clone(),
        things: things.clone(),
        parts: parts.clone(),
        running: Mutex::default(),
        twice: Mutex::default(),
    });
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let driver =
        Driver { clock: clock.clone(), random: random.clone(), tasks: tasks.clone(), leadership: Leadership::alone() };
    let handle = Controller::new("parts", context.clone(), reconcile)
        .watches(&things)
        .watches_for(&parts, |part| vec![Key::new("", part_of(&part.head.name))])
        .concurrency(3)
        .run(&driver);
    let mut late = None;
    for step in 0..STEPS_MAX {
        if step < 300 && random.next_u64().is_multiple_of(3) {
            disturb(&server, &random);
        }
        if step == 150 {
            // A late subscriber is told what is there.
            note_names(&parts, seen.clone());
        }
        if step == 200 {
            // Another view of what is followed already.
            late = Some(informers.of::<Value>(Scope::all(THINGS)));
        }
        if step == 400 {
            server.0.faults.store(false, Ordering::SeqCst);
        }
        clock.advance(Duration::from_millis(500));
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
        let wanted = wanted(&server);
        let names: BTreeSet<_> =
            server.objects("parts").iter().map(|part| part.str_at(&["metadata", "name"]).into()).collect();
        if step > 420
            && counts(&server) == wanted
            && handle.depth() == (0, 0)
            && *seen.lock().expect("no panic under it") == names
            && late.as_ref().map(revisions) == Some(revisions(&things))
        {
            assert_eq!(things.cache().len(), server.objects("things").len(), "seed {seed}: both views are of all");
            assert_eq!(parts.cache().len(), names.len(), "seed {seed}: the cache is what the server has");
            assert!(context.twice.lock().expect("no panic under it").is_empty(), "seed {seed}");
            let metrics = handle.metrics();
            assert!(metrics.panics.load(Ordering::SeqCst) > 0 && server.0.injected.load(Ordering::SeqCst) > 20);
            assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
            return;
        }
    }
    panic!("seed {seed}: not as wanted: {:?}, queue {:?}", counts(&server), handle.depth());
}

/// Keeps the names of what there is.
fn note_names(parts: &Informer<()>, seen: Arc<Mutex<BTreeSet<Str>>>) {
    parts.subscribe(move |change| {
        let mut seen = seen.lock().expect("no panic under it");
        let name = change.held().head.name.clone();
        if change.new.is_some() {
            seen.insert(name)
        } else {
            seen.remove(&name)
        };
    });
}

fn revisions<V: View>(informer: &Informer<V>) -> BTreeSet<Str> {
    informer.cache().all().iter().map(|held| held.head.revision.clone()).collect()
}

#[tokio::test]
async fn everything_converges_whatever_fails() {
    for seed in 0..12 {
        run(seed, seed % 3 != 0).await;
    }
}

/// A server on which nothing fails, and a process of its own clock.
struct Calm {
    server: Server,
    informers: Informers,
    clock: Clock,
    tasks: Tasks,
    driver: Driver,
}

impl Calm {
    fn new() -> Self {
        let (clock, tasks, random) = (Clock::manual(0), Tasks::new(), Random::seeded(1));
        let server = Server::new(random.clone(), true);
        server.0.faults.store(false, Ordering::SeqCst);
        let client = Client::new(Arc::new(server.clone()), "simulation");
        let informers = Informers::new(client, clock.clone(), random.clone(), tasks.clone());
        let driver = Driver { clock: clock.clone(), random, tasks: tasks.clone(), leadership: Leadership::alone() };
        Self { server, informers, clock, tasks, driver }
    }
}

#[tokio::test]
async fn an_informer_outlives_its_pool() {
    let Calm { server, informers, tasks, .. } = Calm::new();
    let things = informers.of::<Wants>(Scope::all(THINGS));
    drop(informers);
    things.synced().await;
    thing(&server, "a", 1);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(things.cache().len(), 1);
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

fn newest(server: &Server) -> BTreeSet<Str> {
    server.objects("things").iter().map(|thing| thing.str_at(&["metadata", "resourceVersion"]).into()).collect()
}

/// Whether two views hold the same metadata of a thing.
fn one_head(wants: &Informer<Wants>, other: &Informer<Value>) -> bool {
    let heads =
        [wants.cache().get("", "a").map(|of| of.head.clone()), other.cache().get("", "a").map(|of| of.head.clone())];
    matches!(heads, [Some(one), Some(other)] if Arc::ptr_eq(&one, &other))
}

#[tokio::test]
async fn all_views_of_a_scope_share_one_watch() {
    let (clock, tasks, random) = (Clock::manual(0), Tasks::new(), Random::seeded(1));
    let server = Server::new(random.clone(), true);
    server.0.faults.store(false, Ordering::SeqCst);
    thing(&server, "a", 1);
    let client = Client::new(Arc::new(server.clone()), "simulation");
    let informers = Informers::new(client, clock, random, tasks.clone());
    let (wants, bare) = (informers.of::<Wants>(Scope::all(THINGS)), informers.of::<()>(Scope::all(THINGS)));
    let watches = || server.0.watches.load(Ordering::SeqCst);
    tokio::join!(wants.synced(), bare.synced());
    assert_eq!(watches(), 1);
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    wants.subscribe(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let late = informers.of::<Value>(Scope::all(THINGS));
    late.synced().await;
    assert_eq!(told.load(Ordering::SeqCst), 1, "nothing is told twice for the late one");
    assert!(one_head(&wants, &late), "metadata is held once");
    informers.end::<()>(&Scope::all(THINGS));
    // A change that comes just when the late one joins may be read by each.
    for wanted in 2.. {
        thing(&server, "a", wanted);
        while revisions(&wants) != newest(&server) || revisions(&late) != newest(&server) {
            tokio::task::yield_now().await;
        }
        if one_head(&wants, &late) {
            break;
        }
    }
    let ended = bare.cache().get("", "a").expect("it sees what it last had");
    assert_ne!(ended.head.revision, wants.cache().get("", "a").expect("held").head.revision);
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

/// As when an object of the kind can no longer be read: watches that are there go on, new ones are refused.
#[tokio::test]
async fn a_late_view_that_cannot_be_read_holds_up_no_other() {
    let Calm { server, informers, clock, tasks, .. } = Calm::new();
    thing(&server, "a", 1);
    let wants = informers.of::<Wants>(Scope::all(THINGS));
    wants.synced().await;
    server.0.unlistable.store(true, Ordering::SeqCst);
    let late = informers.of::<()>(Scope::all(THINGS));
    late.tried().await;
    thing(&server, "b", 1);
    while wants.cache().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(!late.is_synced());
    server.0.unlistable.store(false, Ordering::SeqCst);
    while !late.is_synced() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    thing(&server, "c", 1);
    while late.cache().len() < 3 || wants.cache().len() < 3 {
        clock.advance(Duration::from_millis(100));
        tokio::task::yield_now().await;
    }
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn what_is_not_there_when_it_is_looked_for_is_told() {
    let server = Server::new(Random::seeded(1), true);
    server.0.faults.store(false, Ordering::SeqCst);
    let client = Client::new(Arc::new(server.clone()), "simulation");
    let gone = |thing: Option<&Value>| thing.is_none().then_some(());
    let absent = tokio::time::timeout(LIMIT, client.until(&THINGS, "", "a", gone)).await;
    absent.expect("told at once").expect("watched");
    thing(&server, "a", 1);
    let either = |thing: Option<&Value>| Some(thing.is_some());
    assert!(client.until(&THINGS, "", "a", either).await.expect("watched"), "what is there is told first");
}

#[tokio::test]
async fn what_a_view_does_not_show_is_no_change() {
    let Calm { server, informers, tasks, driver, .. } = Calm::new();
    thing(&server, "a", 1);
    let things = informers.of::<Wants>(Scope::all(THINGS));
    let looked = Arc::new(Mutex::new(0));
    let handle = Controller::new("looks", looked.clone(), |looked, _| async move {
        *looked.lock().expect("no panic under it") += 1;
        Ok(Next::Change)
    })
    .watches_view_for(&things, |thing| vec![thing.head.key()])
    .run(&driver);
    things.synced().await;
    handle.synced().await;
    let looks = async |told: Value, seen: usize| {
        server.put("things", told);
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*looked.lock().expect("no panic under it"), seen);
    };
    looks(value!({"metadata": {"name": "a"}, "wants": 1, "heartbeat": 1}), 1).await;
    looks(value!({"metadata": {"name": "a"}, "wants": 2, "heartbeat": 1}), 2).await;
    looks(value!({"metadata": {"name": "a"}, "wants": 2, "heartbeat": 2}), 2).await;
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn what_cannot_be_read_holds_up_who_needs_it_and_nobody_who_waits() {
    let Calm { server, informers, clock, tasks, driver } = Calm::new();
    thing(&server, "a", 1);
    *server.0.unreadable.lock().expect("no panic under it") = "parts";
    let things = informers.of::<Wants>(Scope::all(THINGS));
    let parts = informers.of::<Wants>(Scope::all(PARTS));
    let named = |name, begin: fn(Controller, &Informer<Wants>) -> Controller| {
        let looked = Arc::new(Mutex::new(0));
        let controller = Controller::new(name, looked.clone(), |looked, _| async move {
            *looked.lock().expect("no panic under it") += 1;
            Ok(Next::Change)
        });
        (begin(controller.watches(&things), &parts).run(&driver), looked)
    };
    let (needs, needing) = named("needs", |controller, parts| controller.watches(parts));
    let (hears, hearing) =
        named("hears", |controller, parts| controller.hears_view_for(parts, |one| vec![one.head.key()]));
    needs.settled().await;
    hears.synced().await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let looked = |by: &Mutex<i32>| *by.lock().expect("no panic under it");
    assert_eq!((looked(&needing), looked(&hearing), parts.is_synced()), (0, 1, false));

    *server.0.unreadable.lock().expect("no panic under it") = "";
    let readable = async {
        while looked(&needing) == 0 {
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, readable).await.expect("it begins by itself");
    needs.synced().await;
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn a_controller_begins_when_it_leads() {
    let Calm { server, informers, tasks, driver, .. } = Calm::new();
    thing(&server, "a", 1);
    let things = informers.of::<Wants>(Scope::all(THINGS));
    let (leads, told) = tokio::sync::watch::channel(false);
    let driver = Driver { leadership: Leadership::told_by(told), ..driver };
    let looked = Arc::new(Mutex::new(Vec::new()));
    let handle = Controller::new("looks", looked.clone(), |looked, key| async move {
        looked.lock().expect("no panic under it").push(key.to_string());
        Ok(Next::Change)
    })
    .watches(&things)
    .run(&driver);
    things.synced().await;
    assert!(looked.lock().expect("no panic under it").is_empty(), "somebody else leads");
    leads.send_replace(true);
    handle.synced().await;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*looked.lock().expect("no panic under it"), ["a"]);
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

/// What a reconcile waits for may never come once informers have ended.
#[tokio::test]
async fn a_reconcile_that_waits_is_cut_off_at_the_end() {
    let Calm { server, informers, clock, tasks, driver } = Calm::new();
    thing(&server, "a", 1);
    let things = informers.of::<Wants>(Scope::all(THINGS));
    let begun = Arc::new(tokio::sync::Notify::new());
    let ctx = (begun.clone(), things.clone(), clock);
    Controller::new("waits", Arc::new(ctx), |ctx, _| async move {
        ctx.0.notify_one();
        ctx.1.caught_up("1000000", &ctx.2).await.map(|()| Next::Change)
    })
    .watches(&things)
    .run(&driver);
    begun.notified().await;
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0, "{:?}", tasks.names());
}
