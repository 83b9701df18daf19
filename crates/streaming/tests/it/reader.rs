//! Logs over a WebSocket.

use bytes::Bytes;
use corten_streaming::reader::serve;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use tokio::io::duplex;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::client::LIMIT;

async fn seen(base64: bool) -> Vec<Message> {
    let (near, far) = duplex(4096);
    let pieces = ["one", "two"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
    let client = async {
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        client.send(Message::text("means nothing")).await.unwrap();
        let mut seen = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            seen.push(message);
        }
        seen
    };
    tokio::time::timeout(LIMIT, async { tokio::join!(serve(far, base64, stream::iter(pieces)), client).1 })
        .await
        .unwrap()
}

#[tokio::test]
async fn each_piece_is_a_message() {
    let binary = seen(false).await;
    let texts: Vec<_> =
        binary.iter().filter(|message| message.is_binary()).map(|message| message.clone().into_data()).collect();
    assert_eq!(texts, ["", "one", "two"]);
    assert!(binary.last().unwrap().is_close());
    assert_eq!(seen(true).await[..3], ["", "b25l", "dHdv"].map(Message::text));
}

#[tokio::test]
async fn a_client_that_leaves_ends_it() {
    let (near, far) = duplex(4096);
    drop(near);
    let never = stream::pending::<Result<Bytes, std::io::Error>>();
    tokio::time::timeout(LIMIT, serve(far, false, never)).await.expect("it ends");
}
