//! Requests through the edge to a server and back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_proxy::Settings;
use corten_proxy::codec::Limits;
use corten_proxy::config::NodeConfig;

use crate::corpus::{Outcome, cases};
use crate::edge::{Client, all_to, eventually, settings, start};
use crate::origin::Origin;

#[test]
fn nothing_of_the_corpus_gets_through() {
    let (origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut wrong = Vec::new();
    for case in cases() {
        let mut client = Client::new(running.address);
        client.stream.write_all(&case.bytes).unwrap();
        let count = if let Outcome::Forwarded(count) = case.outcome { count } else { 1 };
        let answers: Vec<_> = (0..count).map_while(|_| client.answer(false)).collect();
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        let got = origin.taken();
        let right = match case.outcome {
            Outcome::Refused(status) => statuses == [status] && got.is_empty(),
            Outcome::Forwarded(count) => statuses == vec![200; count] && got.len() == count,
        };
        if !right {
            wrong.push(format!("{}: {:?}: {statuses:?}, {got:?}", case.name, case.outcome));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn connections_stay_on_both_sides() {
    let (origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    for n in 0..5 {
        let answer = client.ask("GET", &format!("/{n}"));
        assert_eq!((answer.status, answer.text()), (200, format!("o /{n} 0").as_str()));
    }
    assert_eq!(origin.connections.load(Ordering::SeqCst), 1);
    let got = origin.taken();
    assert!(got[0].head.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"), "{}", got[0].head);
    assert!(got[0].head.contains("\r\nX-Forwarded-Proto: http\r\n"), "{}", got[0].head);
}

#[test]
fn bodies_of_every_kind() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    assert_eq!(client.ask("GET", "/chunked").text(), "abcde");
    assert_eq!(client.ask("GET", "/until-close").text(), "abcde");
    assert_eq!(client.ask("GET", "/no-content").status, 204);
    let head = client.ask("HEAD", "/head");
    assert!(head.head.contains("Content-Length: 5\r\n"), "{}", head.head);
    assert_eq!(client.ask("GET", "/hints").status, 103);
    assert_eq!(client.answer(false).unwrap().text(), "ok");
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    client.send("2\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().text(), "o /x 5");
    client.send("GET /chunked HTTP/1.0\r\nHost: a\r\n\r\n");
    let old = client.answer(false).unwrap();
    assert_eq!(old.text(), "abcde");
    assert!(!old.head.contains("chunked") && old.head.contains("Connection: close"), "{}", old.head);
}

#[test]
fn what_is_cut_off_never_looks_whole() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    for path in ["/cut", "/cut-chunked"] {
        let answer = Client::new(running.address).ask("GET", path);
        assert_eq!((answer.status, answer.text(), answer.is_whole), (200, "abc", false), "{path}");
    }
}

#[test]
fn a_server_is_held_to_the_rules() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    for path in ["/two-lengths", "/unasked-upgrade", "/gone"] {
        let answer = Client::new(running.address).ask("GET", path);
        assert_eq!(answer.status, 502, "{path}");
        assert!(!answer.text().contains("smuggled"));
    }
    // What it says ahead of the next request is nobody's answer.
    let mut client = Client::new(running.address);
    assert_eq!(client.ask("GET", "/ahead").text(), "ok");
    assert_eq!(client.ask("GET", "/next").text(), "o /next 0");
}

#[test]
fn a_client_may_wait_with_its_body() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().status, 100);
    client.send("hello");
    assert_eq!(client.answer(false).unwrap().text(), "o /x 5");
    // An answer that does not want the body ends the connection, which could not be understood any more.
    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().status, 403);
    assert!(client.answer(false).is_none());
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    client.stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    let piece = [b'x'; 1000];
    for _ in 0..100 {
        if client.stream.write_all(&piece).is_err() {
            break;
        }
    }
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status, answer.text()), (403, "no"));
}

#[test]
fn a_slow_reader_slows_its_server() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    std::thread::sleep(Duration::from_millis(300));
    let out = |text: String| text.lines().any(|line| line == "corten_edge_requests_total 1");
    assert!(!out(running.edge.metrics()), "the answer of 64 MiB is somewhere in between");
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.body.len(), answer.is_whole), (64 << 20, true));
}

#[test]
fn a_websocket_goes_through() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    client.send("GET /websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let answer = client.answer(false).unwrap();
    assert_eq!(answer.status, 101);
    assert!(answer.head.contains("Upgrade: websocket\r\n"), "{}", answer.head);
    for text in ["ping", "GET / HTTP/1.1\r\n\r\n"] {
        client.send(text);
        let mut back = vec![0; text.len()];
        client.stream.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    }
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn other_protocols_are_not_offered_to_servers() {
    let (origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().status, 200);
    let head = origin.taken()[0].head.to_lowercase();
    assert!(!head.contains("h2c") && !head.contains("http2-settings"), "{head}");
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn another_endpoint_answers_where_one_cannot_be_reached() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[nobody(), address]), settings(), false);
    for _ in 0..20 {
        let mut client = Client::new(running.address);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.answer(false).unwrap().text(), "o / 2");
    }
    let running = start(&all_to(&[nobody()]), settings(), false);
    assert_eq!(Client::new(running.address).ask("GET", "/").status, 502);
    let running = start(&all_to(&[]), settings(), false);
    assert_eq!(Client::new(running.address).ask("GET", "/").status, 503);
    let running = start(&NodeConfig::default(), settings(), false);
    assert_eq!(Client::new(running.address).ask("GET", "/").status, 404);
}

/// A server that ends as soon as it has got a request, after these first words of an answer. Its connections count.
fn dying(words: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            counted.fetch_add(1, Ordering::SeqCst);
            stream.write_all(words.as_bytes()).unwrap();
        }
    });
    (address, count)
}

#[test]
fn another_endpoint_answers_where_one_dies_over_a_request() {
    for words in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let ((_origin, address), (dead, count)) = (Origin::start("o"), dying(words));
        let running = start(&all_to(&[dead, address]), settings(), false);
        for n in 0..40 {
            let answer = Client::new(running.address).ask("GET", &format!("/{n}"));
            assert_eq!((answer.status, answer.text()), (200, format!("o /{n} 0").as_str()));
        }
        assert!(count.load(Ordering::SeqCst) > 0, "nobody has asked it");
        // Where all die, or what was asked for may have been done, that is the answer.
        let running = start(&all_to(&[dead]), settings(), false);
        for method in ["GET", "POST"] {
            let before = count.load(Ordering::SeqCst);
            let answer = Client::new(running.address).ask(method, "/");
            assert_eq!((answer.status, answer.text()), (502, "502 the server closed the connection\n"), "{method}");
            assert_eq!(count.load(Ordering::SeqCst), before + 1, "{method}");
        }
        let (other, _) = dying(words);
        let running = start(&all_to(&[dead, other]), settings(), false);
        assert_eq!(Client::new(running.address).ask("POST", "/").status, 502);
        assert_eq!(Client::new(running.address).ask("GET", "/").status, 502);
    }
}

#[test]
fn a_client_is_told_in_words_who_is_missing() {
    let (origin, address) = Origin::start("o");
    let check = |config: &NodeConfig, host: &str, status: u16, text: &str| {
        let running = start(config, settings(), false);
        let mut client = Client::new(running.address);
        client.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let answer = client.answer(false).unwrap();
        assert_eq!((answer.status, answer.text()), (status, format!("{status} {text}\n").as_str()), "{host}");
    };
    let mut known = all_to(&[address]);
    known.hosts[0].name = "known.example".to_owned();
    check(&known, "unknown.example", 404, "no route for this host and path");
    check(&all_to(&[]), "a", 503, "nobody is there to answer");
    check(&all_to(&[nobody()]), "a", 502, "the server could not be reached");
    assert!(origin.taken().is_empty());
}

#[test]
fn what_may_have_been_done_is_not_asked_for_again() {
    let (origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let check = |method: &str, taken: usize| {
        let mut client = Client::new(running.address);
        // Leaves a connection that the next request takes.
        client.ask("GET", "/");
        origin.taken();
        client.send(&format!("{method} /gone HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.answer(false).unwrap().status, 502, "{method}");
        assert_eq!(origin.taken().len(), taken, "{method}");
    };
    check("POST", 1);
    check("PATCH", 1);
    // Such a one may be asked for again: the connection could have been closed before it came.
    check("GET", 2);
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let (origin, address) = Origin::start("o");
    let mut config = all_to(&[address]);
    config.hosts[0].routes[0].settings.read_timeout_ms = 100;
    let running = start(&config, settings(), false);
    let answer = Client::new(running.address).ask("GET", "/wait");
    assert_eq!((answer.status, answer.text()), (504, "504 the server did not answer in time\n"));
    assert_eq!(origin.taken().len(), 1);
    origin.release.store(true, Ordering::SeqCst);
}

#[test]
fn a_connection_that_closed_while_idle_costs_nothing() {
    let (origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    for _ in 0..20 {
        assert_eq!(client.ask("GET", "/once").text(), "once");
    }
    assert_eq!(origin.taken().len(), 20);
}

#[test]
fn limits_have_their_answers() {
    let (origin, address) = Origin::start("o");
    let mut config = all_to(&[address]);
    config.hosts[0].routes[0].settings.body_bytes_max = 10;
    let limits = Limits { head_bytes_max: 1000, ..Limits::default() };
    let mut settings = Settings { limits, ..settings() };
    settings.timeouts.head = Duration::from_millis(100);
    let running = start(&config, settings, false);
    let status = |text: &str| Client::new(running.address).send(text).answer(false).unwrap().status;
    assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello"), 413);
    assert_eq!(
        status("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"),
        413
    );
    assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(1000))), 431);
    assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n"), 408, "a head that does not end");
    assert!(origin.taken().is_empty());
}

#[test]
fn a_request_in_flight_outlives_its_endpoint() {
    let (old, old_address) = Origin::start("old");
    let (_new, new_address) = Origin::start("new");
    let running = start(&all_to(&[old_address]), settings(), false);
    let mut waiting = Client::new(running.address);
    waiting.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request is there", || !old.taken().is_empty());
    running.edge.apply(&all_to(&[new_address]));
    let mut client = Client::new(running.address);
    for _ in 0..10 {
        assert_eq!(client.ask("GET", "/").text(), "new / 0");
    }
    old.release.store(true, Ordering::SeqCst);
    assert_eq!(waiting.answer(false).unwrap().text(), "waited");
    assert_eq!(waiting.ask("GET", "/").text(), "new / 0");
}

#[test]
fn a_draining_edge_finishes_and_says_so() {
    let (_origin, address) = Origin::start("o");
    let running = start(&all_to(&[address]), settings(), false);
    let mut client = Client::new(running.address);
    client.ask("GET", "/");
    running.edge.drain();
    let last = client.ask("GET", "/");
    assert!(last.head.contains("Connection: close\r\n"), "{}", last.head);
    eventually("no connection is left", || running.edge.connections() == 0);
}

#[test]
fn a_prefix_may_be_rewritten() {
    let (_origin, address) = Origin::start("o");
    let mut config = all_to(&[address]);
    let route = &mut config.hosts[0].routes[0];
    (route.path, route.settings.rewrite_prefix) = ("/api".to_owned(), Some("/v1".to_owned()));
    let running = start(&config, settings(), false);
    let mut client = Client::new(running.address);
    assert_eq!(client.ask("GET", "/api/x?y").text(), "o /v1/x?y 0");
    assert_eq!(client.ask("GET", "/api").text(), "o /v1/ 0");
    assert_eq!(client.ask("GET", "/apix").status, 404);
    config.hosts[0].routes[0].settings.rewrite_path = Some("/x".to_owned());
    running.edge.apply(&config);
    assert_eq!(client.ask("GET", "/api/y?z").text(), "o /x?z 0");
}
