//! Sessions of a program.

use bytes::Bytes;
use corten_streaming::remote::{Session, Size, Wanted, over_spdy, over_websocket};
use corten_streaming::spdy::frame::Frame;
use corten_streaming::{Driver, OpenError};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::client::{Client, beside};

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };

/// A program that copies its input in capitals, and complains.
async fn program(mut session: Session, code: i32) {
    let stdout = session.stdout.take().unwrap();
    if let Some(sizes) = &mut session.sizes {
        let size = sizes.next().await.unwrap();
        stdout.send(Bytes::from(format!("{}x{} ", size.columns, size.rows))).await.unwrap();
    }
    let mut stdin = session.stdin.take().unwrap();
    while let Some(bytes) = stdin.next().await {
        stdout.send(Bytes::from(bytes.to_ascii_uppercase())).await.unwrap();
    }
    if let Some(stderr) = session.stderr.take() {
        stderr.send(Bytes::from_static(b"done")).await.unwrap();
    }
    match code {
        0 => session.end.success().await.unwrap(),
        code => session.end.exit_code(code).await.unwrap(),
    }
}

async fn spdy_session(
    protocol: &'static str,
    wanted: Wanted,
    mut client: Client,
    server: DuplexStream,
) -> (Client, Session, Driver) {
    let open = async {
        let types = [
            (1, "error", true),
            (3, "stdin", wanted.stdin),
            (5, "stdout", wanted.stdout),
            (7, "stderr", wanted.stderr),
        ];
        for (id, kind, _) in types.into_iter().filter(|(_, _, wanted)| *wanted) {
            client.open(id, &[("streamtype", kind)]).await;
        }
        if wanted.tty {
            client.open(9, &[("streamtype", "resize")]).await;
        }
        client
    };
    let (session, client) = tokio::join!(over_spdy(server, protocol, wanted), open);
    let (session, driver) = session.unwrap();
    (client, session, driver)
}

#[tokio::test]
async fn a_program_runs_over_spdy() {
    let (near, far) = duplex(4096);
    let (mut client, session, driver) = spdy_session("v4.channel.k8s.io", ALL, Client::new(near), far).await;
    let work = async {
        tokio::join!(program(session, 3), async {
            client.data(3, b"hello ", false).await;
            client.send(Frame::Ping { id: 1 }).await;
            client.data(3, b"world", true).await;
            client.rest().await
        })
        .1
    };
    let (texts, others) = beside(driver, work).await;
    let status = concat!(
        r#"{"details":{"causes":[{"message":"3","reason":"ExitCode"}]},"#,
        r#""message":"command terminated with non-zero exit code: exit code 3","metadata":{},"#,
        r#""reason":"NonZeroExitCode","status":"Failure"}"#,
    );
    assert_eq!(
        texts,
        [(1, status.to_owned()), (3, String::new()), (5, "HELLO WORLD".to_owned()), (7, "done".to_owned())]
    );
    assert_eq!(others, [Frame::Ping { id: 1 }]);
}

#[tokio::test]
async fn a_terminals_size_comes_before_what_follows() {
    let (near, far) = duplex(4096);
    let (mut client, session, driver) = spdy_session("v4.channel.k8s.io", TERMINAL, Client::new(near), far).await;
    let work = async {
        tokio::join!(program(session, 0), async {
            client.data(9, br#"{"Width":80,"#, false).await;
            client.data(9, br#""Height":24}{"Width""#, false).await;
            client.data(3, b"", true).await;
            client.rest().await
        })
        .1
    };
    let (texts, _) = beside(driver, work).await;
    assert_eq!(
        texts,
        [
            (1, r#"{"metadata":{},"status":"Success"}"#.to_owned()),
            (3, String::new()),
            (5, "80x24 ".to_owned()),
            (9, String::new())
        ]
    );
}

#[tokio::test]
async fn older_versions_are_told_failures_alone() {
    for (code, text) in [(0, ""), (7, "command terminated with non-zero exit code: exit code 7")] {
        let (near, far) = duplex(4096);
        let wanted = Wanted { stderr: false, ..ALL };
        let (mut client, session, driver) = spdy_session("v2.channel.k8s.io", wanted, Client::new(near), far).await;
        let work = async {
            tokio::join!(program(session, code), async {
                client.data(3, b"", true).await;
                client.rest().await
            })
            .1
        };
        assert_eq!(beside(driver, work).await.0[0], (1, text.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_do_not_come_end_the_session() {
    let (near, far) = duplex(4096);
    let mut client = Client::new(near);
    client.open(1, &[("streamtype", "error")]).await;
    let opened = over_spdy(far, "v4.channel.k8s.io", ALL).await;
    assert!(matches!(opened, Err(OpenError::TimedOut)));
    let (near, far) = duplex(4096);
    let mut client = Client::new(near);
    client.open(1, &[("streamtype", "gossip")]).await;
    let opened = over_spdy(far, "v4.channel.k8s.io", ALL).await;
    assert!(matches!(opened, Err(OpenError::UnknownStream(kind)) if kind == "gossip"));
}

#[tokio::test]
async fn a_flood_waits_for_its_reader() {
    let (near, far) = duplex(1024);
    let (mut client, session, driver) = spdy_session("v4.channel.k8s.io", ALL, Client::new(near), far).await;
    let flood = async {
        let stdout = session.stdout.unwrap();
        for _ in 0..64 {
            stdout.send(Bytes::from(vec![b'x'; 100_000])).await.unwrap();
        }
        drop((stdout, session.stdin, session.stderr));
        session.end.success().await.unwrap();
    };
    let (texts, _) = beside(driver, async { tokio::join!(flood, client.rest()).1 }).await;
    assert_eq!(texts[2].1.len(), 6_400_000);
}

#[tokio::test]
async fn a_client_that_leaves_ends_everything() {
    let (near, far) = duplex(4096);
    let (client, mut session, driver) = spdy_session("v4.channel.k8s.io", ALL, Client::new(near), far).await;
    drop(client);
    driver.await;
    assert!(session.stdin.take().unwrap().next().await.is_none());
    assert!(session.stdout.as_ref().unwrap().send(Bytes::from_static(b"x")).await.is_err());
    session.stdout.unwrap().gone().await;
}

#[tokio::test]
async fn a_reset_stream_takes_nothing_more() {
    let (near, far) = duplex(4096);
    let (mut client, mut session, driver) = spdy_session("v4.channel.k8s.io", ALL, Client::new(near), far).await;
    let work = async {
        client.send(Frame::Reset { stream: 3, status: 5 }).await;
        let mut stdin = session.stdin.take().unwrap();
        assert!(stdin.next().await.is_none() && stdin.was_reset());
        drop((stdin, session));
        client.rest().await
    };
    beside(driver, work).await;
}

/// The messages that a client sees until the server closes.
async fn over_socket(protocol: &str, wanted: Wanted, sent: Vec<Message>, code: i32) -> Vec<Message> {
    let (near, far) = duplex(4096);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (session, driver) = over_websocket(far, protocol, wanted).await;
    let client = async {
        for message in sent {
            client.send(message).await.unwrap();
        }
        let mut seen = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            seen.push(message);
        }
        seen
    };
    beside(driver, async { tokio::join!(program(session, code), client).1 }).await
}

fn channel(channel: u8, text: &str) -> Message {
    Message::binary([&[channel], text.as_bytes()].concat())
}

#[tokio::test]
async fn a_program_runs_over_a_websocket() {
    let sent = vec![
        channel(4, r#"{"Width":80,"Height":24}"#),
        channel(0, "a"),
        channel(9, "to nobody"),
        Message::binary(vec![]),
        channel(0, "b"),
        Message::binary(vec![255, 0]),
    ];
    let seen = over_socket("v5.channel.k8s.io", TERMINAL, sent, 0).await;
    let status = r#"{"metadata":{},"status":"Success"}"#;
    // kubectl takes a close without a code for a failure.
    let goodbye = Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }));
    let expected =
        [channel(1, ""), channel(1, "80x24 "), channel(1, "A"), channel(1, "B"), channel(3, status), goodbye];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn text_messages_carry_base64() {
    // The client leaves, which is all that ends input before version 5.
    let sent = vec![Message::text("0aGk="), Message::text("0%%%"), Message::Close(None)];
    let (near, far) = duplex(4096);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (mut session, driver) = over_websocket(far, "base64.channel.k8s.io", ALL).await;
    let work = async {
        for message in sent {
            client.send(message).await.unwrap();
        }
        let mut stdin = session.stdin.take().unwrap();
        assert_eq!(stdin.next().await.unwrap(), "hi");
        assert!(stdin.next().await.is_none());
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("1"));
    };
    beside(driver, work).await;
}

#[test]
fn sizes_are_columns_and_rows() {
    let size: Size = serde_json::from_str(r#"{"Width":80,"Height":24}"#).unwrap();
    assert_eq!(size, Size { columns: 80, rows: 24 });
}
