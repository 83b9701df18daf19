//! What is answered to which question.

use corten_dns::Table;
use corten_dns::answer::{Outcome, answer};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use crate::zones::zones;

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn lines(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| format!("{} {} {}", record.name, record.record_type(), record.data)).collect()
}

fn show(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reply(reply) => {
            let mut parts = vec![format!("{:?}", reply.metadata.response_code)];
            parts.extend(lines(&reply.answers));
            if !reply.authorities.is_empty() {
                parts.push("SOA".to_owned());
            }
            parts.extend(lines(&reply.additionals).into_iter().map(|line| format!("+ {line}")));
            parts.join("; ")
        }
        Outcome::Ask(ask) => {
            let mut parts = vec![format!("ask {} {}", ask.question.name(), ask.question.query_type())];
            parts.extend(lines(&ask.reply.answers));
            parts.join("; ")
        }
    }
}

fn check(name: &str, kind: RecordType, expect: &str) {
    let outcome = answer(&Table::new(&zones()), &query(name, kind));
    assert_eq!(show(&outcome), expect, "{name} {kind}");
}

#[test]
fn services_with_addresses() {
    use RecordType as T;
    let www = "www.shop.svc.cluster.local.";
    check(www, T::A, "NoError; www.shop.svc.cluster.local. A 10.96.0.7");
    check("WWW.Shop.svc.cluster.LOCAL.", T::A, "NoError; WWW.Shop.svc.cluster.LOCAL. A 10.96.0.7");
    check(www, T::AAAA, "NoError; www.shop.svc.cluster.local. AAAA fd00::7");
    check(www, T::MX, "NoError; SOA");
    check(
        "_http._tcp.www.shop.svc.cluster.local.",
        T::SRV,
        "NoError; _http._tcp.www.shop.svc.cluster.local. SRV 0 100 80 www.shop.svc.cluster.local.; \
         + www.shop.svc.cluster.local. A 10.96.0.7; + www.shop.svc.cluster.local. AAAA fd00::7",
    );
    check("7.0.96.10.in-addr.arpa.", T::PTR, "NoError; 7.0.96.10.in-addr.arpa. PTR www.shop.svc.cluster.local.");
    check("dns-version.cluster.local.", T::TXT, "NoError; dns-version.cluster.local. TXT 1.1.0");
}

#[test]
fn headless_services() {
    use RecordType as T;
    let db = "db.shop.svc.cluster.local.";
    check(db, T::A, "NoError; db.shop.svc.cluster.local. A 10.244.0.5; db.shop.svc.cluster.local. A 10.244.0.6");
    check("db-0.db.shop.svc.cluster.local.", T::A, "NoError; db-0.db.shop.svc.cluster.local. A 10.244.0.5");
    check("10-244-0-6.db.shop.svc.cluster.local.", T::A, "NoError; 10-244-0-6.db.shop.svc.cluster.local. A 10.244.0.6");
    check(
        "_peer._tcp.db.shop.svc.cluster.local.",
        T::SRV,
        "NoError; _peer._tcp.db.shop.svc.cluster.local. SRV 0 100 7000 10-244-0-6.db.shop.svc.cluster.local.; \
         _peer._tcp.db.shop.svc.cluster.local. SRV 0 100 7000 db-0.db.shop.svc.cluster.local.; \
         + 10-244-0-6.db.shop.svc.cluster.local. A 10.244.0.6; + db-0.db.shop.svc.cluster.local. A 10.244.0.5",
    );
    check("5.0.244.10.in-addr.arpa.", T::PTR, "NoError; 5.0.244.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local.");
    check("6.0.244.10.in-addr.arpa.", T::PTR, "ask 6.0.244.10.in-addr.arpa. PTR");
}

#[test]
fn aliases() {
    use RecordType as T;
    check("out.shop.svc.cluster.local.", T::A, "ask example.com. A; out.shop.svc.cluster.local. CNAME example.com.");
    check("out.shop.svc.cluster.local.", T::CNAME, "NoError; out.shop.svc.cluster.local. CNAME example.com.");
    check(
        "in.shop.svc.cluster.local.",
        T::A,
        "NoError; in.shop.svc.cluster.local. CNAME www.shop.svc.cluster.local.; www.shop.svc.cluster.local. A 10.96.0.7",
    );
    check(
        "ring.shop.svc.cluster.local.",
        T::A,
        "NoError; ring.shop.svc.cluster.local. CNAME ring.shop.svc.cluster.local.",
    );
}

#[test]
fn search_paths_take_one_step() {
    use RecordType as T;
    check(
        "www.shop.default.svc.cluster.local.",
        T::A,
        "NoError; www.shop.default.svc.cluster.local. CNAME www.shop.svc.cluster.local.; \
         www.shop.svc.cluster.local. A 10.96.0.7",
    );
    check(
        "www.shop.svc.default.svc.cluster.local.",
        T::A,
        "NoError; www.shop.svc.default.svc.cluster.local. CNAME www.shop.svc.cluster.local.; \
         www.shop.svc.cluster.local. A 10.96.0.7",
    );
    check(
        "example.com.default.svc.cluster.local.",
        T::AAAA,
        "ask example.com. AAAA; example.com.default.svc.cluster.local. CNAME example.com.",
    );
    check(
        "www.shop.svc.cluster.local.default.svc.cluster.local.",
        T::A,
        "NoError; www.shop.svc.cluster.local.default.svc.cluster.local. CNAME www.shop.svc.cluster.local.; \
         www.shop.svc.cluster.local. A 10.96.0.7",
    );
    // A name of one label, one below no namespace and a port's name are nobody's search.
    check("nothing.default.svc.cluster.local.", T::A, "NXDomain; SOA");
    check("example.com.nowhere.svc.cluster.local.", T::A, "NXDomain; SOA");
    check("_http._tcp.none.default.svc.cluster.local.", T::SRV, "NXDomain; SOA");
}

#[test]
fn names_above_and_beside() {
    use RecordType as T;
    check("svc.cluster.local.", T::A, "NoError; SOA");
    check("default.svc.cluster.local.", T::A, "NoError; SOA");
    check("nowhere.svc.cluster.local.", T::A, "NXDomain; SOA");
    check("10-244-0-9.shop.pod.cluster.local.", T::A, "NoError; 10-244-0-9.shop.pod.cluster.local. A 10.244.0.9");
    check("10-244-0-9.nowhere.pod.cluster.local.", T::A, "NXDomain; SOA");
    check("example.com.", T::A, "ask example.com. A");
}

#[test]
fn what_is_no_question() {
    let table = Table::new(&zones());
    let mut none = query("www.shop.svc.cluster.local.", RecordType::A);
    none.queries.clear();
    assert_eq!(show(&answer(&table, &none)), "FormErr");
    let mut chaos = query("version.bind.", RecordType::TXT);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(show(&answer(&table, &chaos)), "Refused");
    let mut notify = query("cluster.local.", RecordType::SOA);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(show(&answer(&table, &notify)), "NotImp");
}

#[test]
fn a_reply_has_the_extension_that_the_query_has() {
    let table = Table::new(&zones());
    let mut with = query("www.shop.svc.cluster.local.", RecordType::A);
    let Outcome::Reply(plain) = answer(&table, &with) else { panic!("known") };
    assert!(plain.edns.is_none() && plain.metadata.authoritative && plain.metadata.recursion_available);
    assert_eq!(plain.metadata.id, 7);
    with.edns = Some(Edns::new());
    let Outcome::Reply(extended) = answer(&table, &with) else { panic!("known") };
    assert!(extended.edns.is_some());
}
