//! Webhooks, against a server that says what it is told to.

use corten_apimachinery::json;
use corten_notify::carry::{Address, Carry as _, Post};
use corten_stdx::error::Chain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::letter;

fn address(url: String) -> Address {
    let authorization = Some("Bearer t0k3n".to_owned());
    Address::Webhook { url, authorization, authorities_pem: "".into() }
}

/// Takes one request and gives an answer; gives what was sent.
async fn answer(listener: &TcpListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().await.expect("somebody comes");
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"}") {
        let read = stream.read(&mut part).await.expect("bytes");
        assert!(read > 0, "the request ends early: {}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&part[..read]);
    }
    stream.write_all(answer.as_bytes()).await.expect("taken");
    String::from_utf8(request).expect("text")
}

#[tokio::test]
async fn json_is_posted_and_any_success_takes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let address = address(format!("http://{at}/hook?room=ops"));
    let letter = letter();
    let taken = answer(&listener, "HTTP/1.1 204 No Content\r\n\r\n");
    let (request, carried) = tokio::join!(taken, Post.carry(&address, &letter));
    carried.expect("taken");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    let head = head.to_lowercase();
    assert!(head.starts_with("post /hook?room=ops http/1.1\r\n"), "{head}");
    for line in
        [format!("host: {at}"), "content-type: application/json".to_owned(), "authorization: bearer t0k3n".to_owned()]
    {
        assert!(head.contains(&line), "{line} is not in {head}");
    }
    assert_eq!(json::parse(body.as_bytes()).expect("JSON").value, letter.to_value());
}

#[tokio::test]
async fn what_is_no_success_is_an_error_without_the_url() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let secret = address(format!("http://{at}/s3cr3t"));
    let letter = letter();
    for (said, expected) in [
        ("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", "the webhook answers 500 Internal Server Error"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "the webhook answers 302 Found",
        ),
    ] {
        let (_, carried) = tokio::join!(answer(&listener, said), Post.carry(&secret, &letter));
        assert_eq!(Chain(&carried.expect_err("refused")).to_string(), expected);
    }
    drop(listener);
    let refused = Chain(&Post.carry(&secret, &letter).await.expect_err("nobody there")).to_string();
    assert!(refused.starts_with("the webhook is not reached: ") && !refused.contains("s3cr3t"), "{refused}");
    for url in ["ftp://a/", "nothing", "http://"] {
        let refused = Post.carry(&address(url.to_owned()), &letter).await.expect_err("no URL").to_string();
        assert_eq!(refused, "the webhook's URL is none", "{url}");
    }
}
