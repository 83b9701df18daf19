//! The answer to one query, from a table alone.

use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::table::{Data, Found, Table, reverse};

/// How long others may remember what was said, in seconds; also for what is not there.
const TTL_S: u32 = 5;

/// Bytes that we say we can take, and give, in one datagram without fragments.
pub const PAYLOAD_BYTES: u16 = 1232;

/// Bytes that every client can take (RFC 1035 § 4.2.1).
pub const PAYLOAD_BYTES_MIN: u16 = 512;

/// What is to be done with a query.
#[derive(Debug)]
pub enum Outcome {
    Reply(Message),
    /// Somebody else knows: under which name to ask, and what the reply begins with.
    Ask(Ask),
}

/// A question for the servers of the world.
#[derive(Debug)]
pub struct Ask {
    pub question: Query,
    /// The reply so far: the query's head and question, and aliases that lead to the question.
    pub reply: Message,
    /// When they do not know it either: say that the name is not there, as the domain's own server.
    pub searched: bool,
}

/// Answers a query, or says whom to ask.
pub fn answer(table: &Table, query: &Message) -> Outcome {
    let mut reply = reply_to(query);
    let [question] = query.queries.as_slice() else {
        return with_code(reply, ResponseCode::FormErr);
    };
    if query.metadata.message_type != MessageType::Query || query.metadata.op_code != OpCode::Query {
        return with_code(reply, ResponseCode::NotImp);
    }
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return with_code(reply, ResponseCode::BADVERS);
    }
    if question.query_class() != DNSClass::IN {
        return with_code(reply, ResponseCode::Refused);
    }
    let name = text_of(question.name());
    match table.find(&name) {
        Found::Records(records) => {
            reply.metadata.authoritative = true;
            from_records(table, reply, question, records)
        }
        Found::Nothing => missing(table, reply, question, &name),
        Found::Elsewhere => Outcome::Ask(Ask { question: question.clone(), reply, searched: false }),
    }
}

/// The beginning of every reply.
fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_BYTES);
        reply.edns = Some(edns);
    }
    reply
}

fn with_code(mut reply: Message, code: ResponseCode) -> Outcome {
    reply.metadata.response_code = code;
    Outcome::Reply(reply)
}

fn from_records(table: &Table, mut reply: Message, question: &Query, records: &[Data]) -> Outcome {
    let (name, kind) = (question.name(), question.query_type());
    for data in records {
        match (data, to_rdata(data)) {
            (Data::Alias(target), Some(rdata)) if kind != RecordType::CNAME => {
                reply.add_answer(Record::from_rdata(name.clone(), TTL_S, rdata));
                return follow(table, reply, target, kind);
            }
            (_, Some(rdata)) if kind == rdata.record_type() || kind == RecordType::ANY => {
                if let Data::Service { target, .. } = data {
                    addresses_of(table, target, &mut reply);
                }
                reply.add_answer(Record::from_rdata(name.clone(), TTL_S, rdata));
            }
            _ => {}
        }
    }
    if reply.answers.is_empty() {
        reply.authorities.extend(authority(table));
    }
    Outcome::Reply(reply)
}

/// Goes on where an alias leads.
fn follow(table: &Table, mut reply: Message, target: &str, kind: RecordType) -> Outcome {
    let Some(name) = name_of(target) else { return with_code(reply, ResponseCode::ServFail) };
    match table.find(target) {
        Found::Elsewhere => {
            let question = Query::query(name, kind);
            Outcome::Ask(Ask { question, reply, searched: false })
        }
        Found::Nothing => {
            reply.authorities.extend(authority(table));
            with_code(reply, ResponseCode::NXDomain)
        }
        Found::Records(records) => {
            // One step: an alias of an alias is not followed, so that a ring ends.
            for rdata in records.iter().filter_map(to_rdata).filter(|rdata| rdata.record_type() == kind) {
                reply.add_answer(Record::from_rdata(name.clone(), TTL_S, rdata));
            }
            Outcome::Reply(reply)
        }
    }
}

/// A name of the domain that is not there: a pod's own, or one that was only tried for its search path.
fn missing(table: &Table, mut reply: Message, question: &Query, name: &str) -> Outcome {
    reply.metadata.authoritative = true;
    let relative = table.relative(name).unwrap_or_default();
    if let Some(address) = pod_address(table, relative) {
        let rdata = RData::A(A(address));
        if [RecordType::A, RecordType::ANY].contains(&question.query_type()) {
            reply.add_answer(Record::from_rdata(question.name().clone(), TTL_S, rdata));
        } else {
            reply.authorities.extend(authority(table));
        }
        return Outcome::Reply(reply);
    }
    match searched(table, relative) {
        Some(next) => elsewhere(table, reply, question, &next),
        None => no_such_name(table, reply),
    }
}

/// Looks where the client would look next.
fn elsewhere(table: &Table, mut reply: Message, question: &Query, tried: &str) -> Outcome {
    let kind = question.query_type();
    let next = [format!("{tried}.svc.{}", table.domain()), format!("{tried}.{}", table.domain()), tried.to_owned()];
    let here = next.iter().find(|name| matches!(table.find(name), Found::Records(_)));
    let target = here.map_or(tried, String::as_str);
    let Some(name) = name_of(target) else { return no_such_name(table, reply) };
    if here.is_none() && matches!(table.find(target), Found::Nothing) {
        return no_such_name(table, reply);
    }
    reply.add_answer(Record::from_rdata(question.name().clone(), TTL_S, RData::CNAME(CNAME(name.clone()))));
    match here {
        Some(_) => follow(table, reply, target, kind),
        None => Outcome::Ask(Ask { question: Query::query(name, kind), reply, searched: true }),
    }
}

/// The name that a client looks for when it tries `NAME.NAMESPACE.svc.DOMAIN`, if that is a search path's work: a name of one
/// label is one of that namespace and nothing else, and one that begins with an underscore is a port's.
fn searched(table: &Table, relative: &str) -> Option<String> {
    let rest = relative.strip_suffix(".svc")?;
    let (tried, namespace) = rest.rsplit_once('.')?;
    let tries = table.is_namespace(namespace) && tried.contains('.') && !tried.starts_with('_');
    tries.then(|| tried.to_owned())
}

/// Says that a name is not there, as the server of the domain.
pub(crate) fn no_such_name(table: &Table, mut reply: Message) -> Outcome {
    reply.answers.clear();
    reply.metadata.authoritative = true;
    reply.authorities.extend(authority(table));
    with_code(reply, ResponseCode::NXDomain)
}

/// The address in a name of the form `10-244-0-3.NAMESPACE.pod`.
fn pod_address(table: &Table, relative: &str) -> Option<Ipv4Addr> {
    let (label, namespace) = relative.strip_suffix(".pod")?.split_once('.')?;
    let address: Ipv4Addr = label.replace('-', ".").parse().ok()?;
    table.is_namespace(namespace).then_some(address)
}

/// The addresses of a port's target, which every asker needs next.
fn addresses_of(table: &Table, target: &str, reply: &mut Message) {
    let (Found::Records(records), Some(name)) = (table.find(target), name_of(target)) else { return };
    for data in records.iter().filter(|data| matches!(data, Data::Address(_))) {
        let record = to_rdata(data).map(|rdata| Record::from_rdata(name.clone(), TTL_S, rdata));
        reply.additionals.extend(record.filter(|record| !reply.additionals.contains(record)));
    }
}

/// The start of authority, which says how long nothing stays nothing (RFC 2308).
fn authority(table: &Table) -> Option<Record> {
    let domain = name_of(table.domain())?;
    let server = name_of(&format!("ns.dns.{}", table.domain()))?;
    let mailbox = name_of(&format!("hostmaster.{}", table.domain()))?;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86400, TTL_S);
    Some(Record::from_rdata(domain, TTL_S, RData::SOA(soa)))
}

fn to_rdata(data: &Data) -> Option<RData> {
    Some(match data {
        Data::Address(IpAddr::V4(address)) => RData::A(A(*address)),
        Data::Address(IpAddr::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Alias(target) => RData::CNAME(CNAME(name_of(target)?)),
        Data::Service { port, target } => RData::SRV(SRV::new(0, 100, *port, name_of(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(name_of(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.clone()])),
    })
}

/// A name that the table holds. Names of the API are shorter than DNS allows, an alias's may not be: that one is left out.
fn name_of(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn text_of(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// The question that leads back from an address, for tests and for whoever asks.
pub fn pointer_question(address: IpAddr) -> Option<Query> {
    Some(Query::query(name_of(&reverse(address))?, RecordType::PTR))
}
