//! Forwarded ports.

use bytes::Bytes;
use corten_streaming::forward::{Forwards, over_channels, over_spdy};
use corten_streaming::spdy::frame::Frame;
use corten_streaming::websocket::{Tunnel, accept};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::{Client, beside};

/// Answers every connection with its port and what it sent; port 81 cannot be reached.
async fn answer(mut forwards: Forwards) {
    while let Some(mut forward) = forwards.next().await {
        if forward.port == 81 {
            forward.error.send(Bytes::from_static(b"refused")).await.unwrap();
            continue;
        }
        let mut text = format!("{}:", forward.port);
        while let Some(bytes) = forward.incoming.next().await {
            text.push_str(str::from_utf8(&bytes).unwrap());
        }
        forward.outgoing.send(Bytes::from(text)).await.unwrap();
    }
}

async fn open_pair(client: &mut Client, first: u32, port: &str, request: &str) {
    client.open(first, &[("streamtype", "error"), ("port", port), ("requestid", request)]).await;
    client.open(first + 2, &[("streamtype", "data"), ("port", port), ("requestid", request)]).await;
}

#[tokio::test]
async fn connections_are_pairs_of_streams() {
    let (near, far) = duplex(4096);
    let mut client = Client::new(near);
    let (forwards, driver) = over_spdy(far);
    let work = async {
        open_pair(&mut client, 1, "80", "0").await;
        client.data(3, b"one", true).await;
        open_pair(&mut client, 5, "81", "1").await;
        // Nothing of these makes a pair.
        client.open(9, &[("streamtype", "data"), ("port", "0"), ("requestid", "2")]).await;
        client.open(11, &[("port", "80")]).await;
        client.open(4, &[("streamtype", "data"), ("port", "80")]).await;
        client.send(Frame::GoAway { last: 0 }).await;
        client.rest().await
    };
    let (texts, others) = beside(driver, async { tokio::join!(answer(forwards), work).1 }).await;
    assert_eq!(texts, [(1, ""), (3, "80:one"), (5, "refused"), (7, "")].map(|(id, text)| (id, text.to_owned())));
    let mut refused: Vec<u32> = others
        .iter()
        .filter_map(|frame| match frame {
            Frame::Reset { stream, .. } => Some(*stream),
            _ => None,
        })
        .collect();
    refused.sort_unstable();
    assert_eq!(refused, [4, 9, 11]);
}

#[tokio::test]
async fn spdy_comes_inside_a_websocket_too() {
    let (near, far) = duplex(4096);
    let socket = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let mut client = Tunnel::new(socket);
    let (inner, mut outer) = duplex(4096);
    let mut spdy = Client::new(inner);
    let (forwards, driver) = over_spdy(Tunnel::new(accept(far).await));
    let work = async {
        open_pair(&mut spdy, 1, "80", "0").await;
        spdy.data(3, b"two", true).await;
        let text = async {
            loop {
                if let Some(Frame::Data { bytes, .. }) = spdy.receive().await
                    && !bytes.is_empty()
                {
                    return bytes;
                }
            }
        };
        let carry = async {
            let mut bytes = vec![0; 4096];
            loop {
                tokio::select! {
                    read = client.read(&mut bytes) => { let length = read.unwrap(); outer.write_all(&bytes[..length]).await.unwrap(); }
                    text = outer.read_u8() => { client.write_all(&[text.unwrap()]).await.unwrap(); client.flush().await.unwrap(); }
                }
            }
        };
        tokio::pin!(text);
        let text: Bytes = tokio::select! { text = &mut text => text, () = carry => unreachable!("it does not end") };
        client.shutdown().await.unwrap();
        text
    };
    assert_eq!(beside(driver, async { tokio::join!(answer(forwards), work).1 }).await, "80:two");
}

#[tokio::test]
async fn older_websockets_have_a_pair_of_channels_a_port() {
    let (near, far) = duplex(4096);
    let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let (mut forwards, driver) = over_channels(far, "v4.channel.k8s.io", &[80, 258]).await;
    let work = async {
        let mut second = None;
        for port in [80, 258] {
            let forward = forwards.next().await.unwrap();
            assert_eq!(forward.port, port);
            second = Some(forward);
        }
        assert!(forwards.next().await.is_none());
        let mut second = second.unwrap();
        client.send(Message::binary(b"\x02hello".to_vec())).await.unwrap();
        let bytes = second.incoming.next().await.unwrap();
        second.outgoing.send(bytes).await.unwrap();
        drop(second);
        let mut seen = Vec::new();
        while let Some(Ok(Message::Binary(bytes))) = client.next().await {
            seen.push(bytes.to_vec());
        }
        seen
    };
    let seen = beside(driver, work).await;
    assert_eq!(seen, [&b"\x00\x50\x00"[..], b"\x01\x50\x00", b"\x02\x02\x01", b"\x03\x02\x01", b"\x02hello"]);
}
