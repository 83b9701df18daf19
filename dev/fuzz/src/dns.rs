//! Questions to cluster DNS: any message that can be read has an answer that can be written, to the same question.

use std::sync::LazyLock;

use corten_dns::answer::{Outcome, answer};
use corten_dns::{Endpoint, Port, Service, Table, Zones};
use hickory_proto::op::Message;
use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(&zones()));

fn zones() -> Zones {
    let ports = || vec![Port { name: "http".to_owned(), protocol: "TCP".to_owned(), number: 80 }];
    let named = |name: &str| Service { namespace: "shop".into(), name: name.into(), ..Service::default() };
    let address = |text: &str| text.parse().expect("an address");
    let endpoint = Endpoint { address: address("10.244.0.5"), hostname: "db-0".to_owned(), ports: ports() };
    Zones {
        domain: "cluster.local".into(),
        namespaces: vec!["shop".into()],
        services: vec![
            Service { addresses: vec![address("10.96.0.7")], ports: ports(), ..named("www") },
            Service { endpoints: vec![endpoint], ..named("db") },
            Service { external_name: "ring.shop.svc.cluster.local".into(), ..named("ring") },
            Service { external_name: "example.com".into(), ..named("out") },
        ],
        upstreams: Vec::new(),
    }
}

pub(crate) fn message(bytes: &[u8]) {
    let Ok(query) = Message::from_bytes(bytes) else { return };
    let reply = match answer(&TABLE, &query) {
        Outcome::Reply(reply) => reply,
        Outcome::Ask(ask) => ask.reply,
    };
    let written = reply.to_bytes().expect("an answer can be written");
    let read = Message::from_bytes(&written).expect("and read");
    assert_eq!(read.metadata.id, query.metadata.id);
    assert_eq!(read.queries.first(), query.queries.first());
}
