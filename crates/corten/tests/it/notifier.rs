//! Somebody is told: a notifier of the real server, with a webhook that keeps what it gets. Pods are told of by hand, as a node would.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use corten_apimachinery::json;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::Client;
use crate::process::{Server, purge};

const NOTIFIERS: &str = "/apis/corten.dev/v1alpha1/namespaces/kube-system/notifiers";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A webhook that takes everything.
struct Webhook {
    address: SocketAddr,
    taken: Arc<Mutex<VecDeque<Value>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Webhook {
    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let taken: Arc<Mutex<VecDeque<Value>>> = Arc::default();
        let kept = taken.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's server ends with the test")]
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let message = take(stream).await;
                kept.lock().expect("whole").push_back(message);
            }
        });
        Self { address, taken, serving }
    }

    /// The next message, as `wrong CrashLoop pod/web`.
    async fn next(&self) -> Vec<String> {
        let looks = async {
            loop {
                if let Some(message) = self.taken.lock().expect("whole").pop_front() {
                    return message;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let message = tokio::time::timeout(Duration::from_secs(30), looks).await.expect("a message");
        let news = message.get("news").and_then(Value::as_array).expect("news");
        let one = |news: &Value| {
            let object = |field| news.str_at(&["object", field]).to_owned();
            format!("{} {} {}/{}", news.str_at(&["state"]), news.str_at(&["fact"]), object("kind"), object("name"))
        };
        news.iter().map(one).collect()
    }

    fn count(&self) -> usize {
        self.taken.lock().expect("whole").len()
    }

    fn leave(self) -> SocketAddr {
        self.serving.abort();
        self.address
    }
}

async fn take(mut stream: TcpStream) -> Value {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut part).await.expect("bytes");
        request.extend_from_slice(&part[..read]);
        let body = request.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &request[at + 4..]);
        if let Some(Ok(body)) = body.filter(|body| !body.is_empty()).map(json::parse) {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("taken");
            return body.value;
        }
        assert!(read > 0, "the request ends early");
    }
}

/// A pod that no node takes.
async fn pod(client: &Client, name: &str) {
    // A new namespace has its account a moment after the server is ready, and no pod is taken before.
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    until(client, account, "an account", |account| account.str_at(&["metadata", "name"]) == "default").await;
    let pod = value!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"nodeSelector": {"example.com/none": ""}, "containers": [{"name": "app", "image": "i:1"}]}
    });
    let (code, made) = client.post(PODS, &pod).await;
    assert_eq!(code, 201, "{made:?}");
}

/// Tells of a pod as its node would: it keeps dying, or takes requests.
async fn tell(client: &Client, name: &str, dies: bool) {
    let state = match dies {
        true => value!({"waiting": {"reason": "CrashLoopBackOff"}}),
        false => value!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}),
    };
    let ready = if dies { "False" } else { "True" };
    let ended = value!({"terminated": {"exitCode": 3, "reason": "Error", "startedAt": null, "finishedAt": null}});
    let status = value!({"status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [{"name": "app", "image": "i:1", "imageID": "", "ready": (!dies), "restartCount": 4,
            "state": state, "lastState": ended}]
    }});
    let (code, told) = client.merge(&format!("{PODS}/{name}/status"), &status).await;
    assert_eq!(code, 200, "{told:?}");
}

async fn notifier(client: &Client, name: &str, address: SocketAddr) {
    let notifier = value!({
        "kind": "Notifier", "apiVersion": "corten.dev/v1alpha1", "metadata": {"name": name},
        "spec": {"webhook": {"url": (format!("http://{address}/"))}, "facts": ["CrashLoop"]}
    });
    let (code, made) = client.post(NOTIFIERS, &notifier).await;
    assert_eq!(code, 201, "{made:?}");
}

async fn until(client: &Client, path: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let looks = async {
        loop {
            let (_, value) = client.get(path).await;
            if wanted(&value) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looks).await.unwrap_or_else(|_| panic!("never: {what}"))
}

fn delivering(notifier: &Value) -> &str {
    let conditions = notifier.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.first().map_or("", |condition| condition.str_at(&["status"]))
}

#[tokio::test]
async fn each_fact_is_told_once_over_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let webhook = Webhook::at("127.0.0.1:0").await;
    let server = Server::start(dir.path());
    notifier(&server.client, "ops", webhook.address).await;
    pod(&server.client, "web").await;
    tell(&server.client, "web", true).await;
    assert_eq!(webhook.next().await, ["wrong CrashLoop pod/web"]);
    let path = format!("{NOTIFIERS}/ops");
    until(&server.client, &path, "it says so", |notifier| delivering(notifier) == "True").await;
    server.kill();

    let server = Server::start(dir.path());
    // Behind this second fact, the first one would have been told again.
    pod(&server.client, "mail").await;
    tell(&server.client, "mail", true).await;
    assert_eq!(webhook.next().await, ["wrong CrashLoop pod/mail"]);
    tell(&server.client, "web", false).await;
    assert_eq!(webhook.next().await, ["well CrashLoop pod/web"]);
    // The status says what was sent a moment after it was taken.
    let sent = |notifier: &Value| notifier.i64_at(&["status", "ledger", "sent"]) == Some(3);
    let told = until(&server.client, &path, "three were sent", sent).await;
    assert_eq!((told.i64_at(&["status", "open"]), webhook.count()), (Some(1), 0));
    assert_eq!(server.stop(), Some(0));
    purge(dir.path());
}

#[tokio::test]
async fn a_target_that_is_away_gets_everything_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let address = Webhook::at("127.0.0.1:0").await.leave();
    let server = Server::start(dir.path());
    let client = &server.client;
    notifier(client, "ops", address).await;
    pod(client, "web").await;
    tell(client, "web", true).await;
    let path = format!("{NOTIFIERS}/ops");
    let told = until(client, &path, "it says that it cannot", |notifier| delivering(notifier) == "False").await;
    let message = told.at(&["status", "conditions"]).and_then(Value::as_array).expect("one")[0].str_at(&["message"]);
    assert!(message.starts_with("the webhook is not reached: "), "{message}");
    let events = "/api/v1/namespaces/kube-system/events?fieldSelector=involvedObject.name%3Dops,reason%3DNotDelivered";
    until(client, events, "an event says it", |list| {
        list.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty())
    })
    .await;
    tell(client, "web", false).await;
    until(client, &path, "both wait", |notifier| notifier.i64_at(&["status", "waiting"]) == Some(2)).await;

    let webhook = Webhook::at(&address.to_string()).await;
    assert_eq!(webhook.next().await, ["wrong CrashLoop pod/web", "well CrashLoop pod/web"]);
    until(client, &path, "it is well again", |notifier| delivering(notifier) == "True").await;
    assert_eq!(server.stop(), Some(0));
    purge(dir.path());
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_silences_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let webhook = Webhook::at("127.0.0.1:0").await;
    let server = Server::start(dir.path());
    let secret = value!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "lost"}, "data": {"a": "Yg=="}});
    assert_eq!(server.client.post("/api/v1/namespaces/default/secrets", &secret).await.0, 201);
    assert_eq!(server.stop(), Some(0));
    std::fs::remove_file(dir.path().join("keys")).expect("removed");
    let server = Server::start(dir.path());
    notifier(&server.client, "ops", webhook.address).await;
    pod(&server.client, "web").await;
    tell(&server.client, "web", true).await;
    assert_eq!(webhook.next().await, ["wrong CrashLoop pod/web"]);
    assert_eq!(server.stop(), Some(0));
    purge(dir.path());
}

#[tokio::test]
async fn silence_is_kept_and_what_is_no_notifier_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let webhook = Webhook::at("127.0.0.1:0").await;
    let server = Server::start(dir.path());
    let client = &server.client;
    notifier(client, "ops", webhook.address).await;
    pod(client, "quiet").await;
    let silence = value!({"metadata": {"annotations": {"corten.dev/silence-until": "2999-01-01T00:00:00Z"}}});
    assert_eq!(client.merge(&format!("{PODS}/quiet"), &silence).await.0, 200);
    tell(client, "quiet", true).await;
    pod(client, "web").await;
    tell(client, "web", true).await;
    assert_eq!(webhook.next().await, ["wrong CrashLoop pod/web"]);
    let heard = value!({"metadata": {"annotations": {"corten.dev/silence-until": null}}});
    assert_eq!(client.merge(&format!("{PODS}/quiet"), &heard).await.0, 200);
    assert_eq!(webhook.next().await, ["wrong CrashLoop pod/quiet"]);

    for spec in
        [value!({}), value!({"webhook": {"url": "file:///etc"}}), value!({"webhook": {"url": "http://a"}, "email": {}})]
    {
        let notifier = value!({
            "kind": "Notifier", "apiVersion": "corten.dev/v1alpha1", "metadata": {"name": "wrong"}, "spec": spec
        });
        let (code, refused) = client.post(NOTIFIERS, &notifier).await;
        assert_eq!(code, 422, "{refused:?}");
    }
    assert_eq!(server.stop(), Some(0));
    purge(dir.path());
}
