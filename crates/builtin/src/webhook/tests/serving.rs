//! A webhook of the tests: TLS on a port of its own, and an answer by the path.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use corten_apimachinery::json;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_stdx::task::Tasks;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The Service that the certificate is of too.
pub(super) const SERVICE: (&str, &str) = ("shop", "hook");

pub(super) struct Webhook {
    pub(super) address: SocketAddr,
    /// `caBundle`.
    pub(super) bundle: String,
    /// Requests as they came: the path, and the review.
    pub(super) asked: Mutex<Vec<(String, Value)>>,
    pub(super) connections: AtomicUsize,
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// The bundle of an authority that has signed nothing here.
pub(super) fn stranger() -> String {
    STANDARD.encode(authority("stranger").pem())
}

impl Webhook {
    pub(super) async fn start(tasks: &Tasks) -> Arc<Self> {
        let authority = authority("hooks");
        let service = format!("{}.{}.svc", SERVICE.1, SERVICE.0);
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), service]).expect("names");
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &authority).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("a server");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let webhook = Arc::new(Self {
            address: listener.local_addr().expect("bound"),
            bundle: STANDARD.encode(authority.pem()),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let (own, family) = (webhook.clone(), tasks.clone());
        tasks.spawn_endless("webhook", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (own, acceptor) = (own.clone(), acceptor.clone());
                family.spawn_endless("webhook-connection", async move {
                    // Clients that do not trust it go away here.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    own.connections.fetch_add(1, Ordering::SeqCst);
                    let service = service_fn(|request| own.answer(request));
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection ended");
                    }
                });
            }
        });
        webhook
    }

    /// The reviews that came for a path, since the last time.
    pub(super) fn took(&self, path: &str) -> Vec<Value> {
        let mut asked = self.asked.lock().expect("no test has panicked with it");
        let (own, others) = asked.drain(..).partition(|(to, _)| to == path);
        *asked = others;
        own.into_iter().map(|(_, review)| review).collect()
    }

    /// How many wait at a path, or have been answered.
    pub(super) fn count(&self, path: &str) -> usize {
        self.asked.lock().expect("no test has panicked with it").iter().filter(|(to, _)| to == path).count()
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let review = json::parse(&body).expect("a review").value;
        let uid = review.str_at(&["request", "uid"]).to_owned();
        self.asked.lock().expect("no test has panicked with it").push((path.clone(), review));
        if path == "/hang" {
            std::future::pending::<()>().await;
        }
        if path == "/broken" {
            return Ok(Response::builder().status(500).body("no luck".into()).expect("a response"));
        }
        let mut response = said(&path);
        if path != "/stranger" {
            response.as_object_mut().expect("made as one").insert("uid", uid);
        }
        let review = value!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
        Ok(Response::new(json::to_vec(&review).into()))
    }
}

/// What a path answers.
fn said(path: &str) -> Value {
    let patched = |patch: &str| value!({"allowed": true, "patchType": "JSONPatch", "patch": (STANDARD.encode(patch))});
    let mark = |key: &str| patched(&format!(r#"[{{"op": "add", "path": "/data/{key}", "value": "yes"}}]"#));
    match path {
        "/deny" => value!({
            "allowed": false, "warnings": ["think twice"],
            "status": {"message": "not today", "code": 403, "reason": "Forbidden"}
        }),
        "/init" => patched(
            r#"[{"op": "add", "path": "/spec/initContainers", "value": [{"name": "first", "image": "i", "bogus": 1}]},
                {"op": "add", "path": "/metadata/uid", "value": "mine"}]"#,
        ),
        "/label" => patched(r#"[{"op": "add", "path": "/metadata/labels", "value": {"by": "hook"}}]"#),
        "/size" => patched(r#"[{"op": "add", "path": "/spec/size", "value": 7}]"#),
        "/replicas" => patched(r#"[{"op": "replace", "path": "/spec/replicas", "value": 3}]"#),
        "/bad-patch" => patched(r#"[{"op": "remove", "path": "/data/absent"}]"#),
        "/no-patch" => value!({"allowed": true, "patchType": "JSONPatch", "patch": "bm8="}),
        _ => match path.strip_prefix("/mark/") {
            Some(key) => mark(key),
            None => value!({"allowed": true, "warnings": ["looked at"], "auditAnnotations": {"seen": "yes"}}),
        },
    }
}
