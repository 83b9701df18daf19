//! The server as the API server meets it: over TLS, with a host and an engine that stand in for the node. Programs are the
//! machine's own.

mod fixture;

use std::fs;
use std::io::Write as _;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use self::fixture::{Fixture, LIMIT, MANIFEST, channel};

#[tokio::test]
async fn the_api_server_alone_is_served() {
    let fixture = Fixture::new().await;
    assert_eq!(fixture.get("/healthz").await, (200, "ok".to_owned()));
    assert_eq!(fixture.get("/nowhere").await.0, 404);
    for name in [Some("somebody"), None] {
        assert!(fixture.connect_as(name).await.is_none(), "{name:?} was served");
    }
}

#[tokio::test]
async fn other_nodes_have_images_and_nothing_else() {
    let fixture = Fixture::new().await;
    fs::write(fixture.blob(), "0123456789").unwrap();
    for path in ["/pods", "/containerLogs/default/web/c", "/exec/default/web/c?output=1&command=true", "/metrics"] {
        assert_eq!(fixture.get_as_node(path, "").await.0, 403, "{path}");
    }
    let manifest = |name: &str| format!("/v2/shop/{name}/manifests/1?ns=localhost");
    let expected = (200, String::from_utf8(MANIFEST.to_vec()).unwrap());
    assert_eq!(fixture.get_as_node(&manifest("www"), "").await, expected);
    assert_eq!(fixture.get_as_node(&manifest("blog"), "").await.0, 404);
    assert_eq!(fixture.get_as_node("/v2/shop/www/manifests/1?ns=docker.io", "").await.0, 404);
    let blob = "/v2/shop/www/blobs/sha256:1?ns=localhost";
    assert_eq!(fixture.get_as_node(blob, "").await, (200, "0123456789".to_owned()));
    assert_eq!(fixture.get_as_node(blob, "Range: bytes=7-\r\n").await, (206, "789".to_owned()));
    assert_eq!(fixture.get_as_node("/v2/shop/www/blobs/sha256:2?ns=localhost", "").await.0, 404);
    assert_eq!(fixture.get(&manifest("www")).await, expected, "the API server may too");
}

#[tokio::test]
async fn the_node_tells_its_pods_and_what_they_use() {
    let fixture = Fixture::new().await;
    let (code, pods) = fixture.get("/pods").await;
    assert_eq!(code, 200);
    assert!(pods.starts_with(r#"{"kind":"PodList","apiVersion":"v1""#) && pods.contains(r#""name":"web""#), "{pods}");
    let (_, summary) = fixture.get("/stats/summary").await;
    assert!(summary.contains(r#""usageCoreNanoSeconds":5"#), "{summary}");
    assert!(summary.contains(r#""capacityBytes":"#), "{summary}");
    let (_, resource) = fixture.get("/metrics/resource").await;
    let of = r#"{container="c",namespace="default",pod="web"}"#;
    assert!(resource.contains(&format!("\ncontainer_start_time_seconds{of} 1.5 ")), "{resource}");
    assert!(resource.contains("\nresource_scrape_error 0\n"), "{resource}");
    assert!(resource.contains("\ncorten_edge_endpoint_requests_total{address=\"10.244.0.2\"} 7 "), "{resource}");
    let (_, metrics) = fixture.get("/metrics").await;
    assert!(metrics.contains("\nkubelet_running_containers 1\n"), "{metrics}");
    assert!(metrics.contains("\nkubelet_certificate_manager_server_ttl_seconds "), "{metrics}");
    for row in ["corten_disk_used_bytes", "corten_disk_available_bytes"] {
        assert!(metrics.contains(&format!("\n{row} ")), "{row} is not in {metrics}");
    }
}

#[tokio::test]
async fn logs_are_followed_across_a_rotation_to_the_end() {
    let fixture = Fixture::new().await;
    let line = |text: &str| format!("2026-01-02T03:04:05.000000000Z stdout F {text}\n");
    fs::write(fixture.log(), line("zero") + &line("one")).unwrap();
    let path = "/containerLogs/default/web/c?follow=true&tailLines=1";
    let mut stream = fixture.request("GET", path, &[]).await;
    stream.expect("one\n").await;
    fs::OpenOptions::new().append(true).open(fixture.log()).unwrap().write_all(line("two").as_bytes()).unwrap();
    stream.expect("two\n").await;
    // The writer goes on in the old file until it is told of the new one.
    let mut old = fs::OpenOptions::new().append(true).open(fixture.log()).unwrap();
    fs::rename(fixture.log(), fixture.log().with_extension("log.1")).unwrap();
    old.write_all(line("three").as_bytes()).unwrap();
    fs::write(fixture.log(), line("four")).unwrap();
    stream.expect("three\n").await;
    stream.expect("four\n").await;
    fixture.host.end();
    stream.expect("\r\n0\r\n\r\n").await;
    let (code, text) = fixture.get("/containerLogs/default/web/c?previous=true").await;
    assert_eq!((code, text.as_str()), (400, "previous terminated container \"c\" in pod \"web\" not found"));
    assert_eq!(fixture.get("/containerLogs/default/web/d").await.0, 404);
    assert_eq!(fixture.get("/containerLogs/default/none/c").await.1, "pod \"none\" does not exist");
}

#[tokio::test]
async fn a_program_runs_with_its_streams() {
    let fixture = Fixture::new().await;
    let path = "/exec/default/web/c?input=1&output=1&error=1&command=sh&command=-c&command=cat;echo+err+%3E%262;exit+3";
    let mut socket = fixture.websocket(path, "v5.channel.k8s.io").await;
    socket.send(channel(0, "hello")).await.unwrap();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let mut texts = vec![String::new(); 4];
    while let Some(Ok(Message::Binary(bytes))) = tokio::time::timeout(LIMIT, socket.next()).await.unwrap() {
        texts[usize::from(bytes[0])].push_str(str::from_utf8(&bytes[1..]).unwrap());
    }
    assert_eq!((texts[1].as_str(), texts[2].as_str()), ("hello", "err\n"));
    assert!(texts[3].contains(r#""reason":"ExitCode""#) && texts[3].contains(r#""message":"3""#), "{}", texts[3]);
}

#[tokio::test]
async fn a_program_that_leaves_somebody_behind_ends_all_the_same() {
    let fixture = Fixture::new().await;
    let path = "/exec/default/web/c?output=1&command=sh&command=-c&command=sleep+60+%26+echo+here";
    let mut socket = fixture.websocket(path, "v4.channel.k8s.io").await;
    let mut texts = vec![String::new(); 4];
    while let Some(Ok(Message::Binary(bytes))) = tokio::time::timeout(LIMIT, socket.next()).await.unwrap() {
        texts[usize::from(bytes[0])].push_str(str::from_utf8(&bytes[1..]).unwrap());
    }
    assert_eq!(texts[1], "here\n");
    assert!(texts[3].contains("Success"), "{}", texts[3]);
}

#[tokio::test]
async fn what_cannot_run_is_told_as_upstream_does() {
    let fixture = Fixture::new().await;
    let post = async |path: &str| {
        let headers =
            [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), ("X-Stream-Protocol-Version", "v4.channel.k8s.io")];
        fixture.request("POST", path, &headers).await.head().await
    };
    let (code, text) = post("/exec/default/web/none?output=1&command=ls").await;
    assert_eq!((code, text.as_str()), (500, "container not found (\"none\")"));
    assert_eq!(post("/exec/default/none/c?output=1&command=ls").await, (404, "pod does not exist".to_owned()));
    let (code, text) = post("/exec/default/web/c?command=ls").await;
    assert_eq!((code, text.as_str()), (400, "you must specify at least 1 of stdin, stdout, stderr"));
    assert_eq!(post("/exec/default/web/c?output=1&command=ls").await.0, 101);
    assert_eq!(fixture.get("/exec/default/web/c?output=1&command=ls").await.0, 400);
}

#[tokio::test]
async fn ports_are_forwarded_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let fixture = Fixture::new().await;
    let echo = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes.to_ascii_uppercase()).await.unwrap();
    };
    let client = async {
        let path = format!("/portForward/default/web?port={port}&port=1");
        let mut socket = fixture.websocket(&path, "v4.channel.k8s.io").await;
        socket.send(channel(0, "hello")).await.unwrap();
        let mut texts = vec![Vec::new(); 4];
        while texts[0].len() < 7 || texts[3].len() < 40 {
            let message = tokio::time::timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap();
            let bytes = message.into_data();
            texts[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
        texts
    };
    let ((), texts) = tokio::join!(echo, client);
    assert_eq!(texts[0], [&port.to_le_bytes()[..], b"HELLO"].concat());
    assert_eq!(texts[1], port.to_le_bytes());
    let refused = String::from_utf8_lossy(&texts[3][2..]).into_owned();
    assert!(
        refused.starts_with("error forwarding port 1 to pod uid-1, uid : failed to connect to localhost:1"),
        "{refused}"
    );
}

#[tokio::test]
async fn attached_clients_see_what_comes_and_the_end() {
    let fixture = Fixture::new().await;
    let mut socket = fixture.websocket("/attach/default/web/c?input=1&output=1", "v5.channel.k8s.io").await;
    socket.send(channel(0, "hello")).await.unwrap();
    let mut text = String::new();
    while !text.contains("hello") {
        let message = tokio::time::timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap();
        text.push_str(str::from_utf8(&message.into_data()[1..]).unwrap());
    }
    fixture.host.end();
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let mut status = String::new();
    while let Some(Ok(Message::Binary(bytes))) = tokio::time::timeout(LIMIT, socket.next()).await.unwrap() {
        status.push_str(str::from_utf8(&bytes[1..]).unwrap());
    }
    assert!(status.contains("Success"), "{status}");
}
