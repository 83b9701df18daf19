//! What the servers of the world said, for as long as they allow and not longer than we do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

/// Replies that are kept; when they are too many, the oldest half goes.
pub(crate) const REPLIES_MAX: usize = 10_000;

/// Seconds that a reply is kept at most, and one that says that nothing is there.
const TTL_S_MAX: u32 = 3600;
const NOTHING_TTL_S_MAX: u32 = 30;

type Key = (Name, RecordType);

#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<HashMap<Key, Kept>>);

#[derive(Debug)]
struct Kept {
    reply: Arc<Message>,
    since_s: i64,
    until_s: i64,
}

impl Cache {
    /// The reply to a question, its times to live shortened by its age.
    pub(crate) fn get(&self, question: &Query, now_s: i64) -> Option<Message> {
        let kept = self.kept();
        let kept = kept.get(&key(question)).filter(|kept| now_s >= kept.since_s && now_s < kept.until_s)?;
        let age_s = u32::try_from(now_s - kept.since_s).ok()?;
        let mut reply = Message::clone(&kept.reply);
        for record in reply.answers.iter_mut().chain(&mut reply.authorities).chain(&mut reply.additionals) {
            record.decrement_ttl(age_s);
        }
        Some(reply)
    }

    pub(crate) fn put(&self, question: &Query, reply: &Message, now_s: i64) {
        let Some(ttl_s) = ttl_s(reply).filter(|ttl_s| *ttl_s > 0) else { return };
        let mut kept = self.kept();
        if kept.len() >= REPLIES_MAX {
            make_room(&mut kept, now_s);
        }
        let reply = Arc::new(reply.clone());
        kept.insert(key(question), Kept { reply, since_s: now_s, until_s: now_s.saturating_add(ttl_s.into()) });
    }

    pub(crate) fn len(&self) -> usize {
        self.kept().len()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(question: &Query) -> Key {
    (question.name().to_lowercase(), question.query_type())
}

/// Drops what is over, and if that is not half of it, the older half.
fn make_room(kept: &mut HashMap<Key, Kept>, now_s: i64) {
    kept.retain(|_, kept| now_s < kept.until_s);
    if kept.len() > REPLIES_MAX / 2 {
        let mut since: Vec<i64> = kept.values().map(|kept| kept.since_s).collect();
        since.sort_unstable();
        let middle = since[since.len() / 2];
        let mut left = REPLIES_MAX / 2;
        kept.retain(|_, kept| {
            let stays = kept.since_s >= middle && left > 0;
            left -= usize::from(stays);
            stays
        });
    }
}

/// How long a reply may be kept; `None` for one that is none of its server's knowledge, such as a failure.
fn ttl_s(reply: &Message) -> Option<u32> {
    let nothing = reply.metadata.response_code == ResponseCode::NXDomain || reply.answers.is_empty();
    match reply.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain if nothing => {
            let start = reply.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                _ => None,
            });
            start.map(|ttl_s| ttl_s.min(NOTHING_TTL_S_MAX))
        }
        ResponseCode::NoError => reply.answers.iter().map(|record| record.ttl.min(TTL_S_MAX)).min(),
        _ => None,
    }
}
