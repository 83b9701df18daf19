//! Protobuf bodies over the request path, as client-go's typed clients send them.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use corten_apiserver::http::{Api, body};

use crate::published::server;

/// A length-delimited field; all of these tests' fields are short.
pub(crate) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
    bytes.extend_from_slice(content);
    bytes
}

pub(crate) fn envelope(kind: &str, message: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &type_meta), field(2, message)].concat()
}

async fn send(api: &Arc<Api>, method: &str, path: &str, bytes: Vec<u8>) -> (u16, Value) {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/vnd.kubernetes.protobuf");
    let request = request.header("accept", "application/vnd.kubernetes.protobuf,application/json");
    let response = api.call(request.body(body::full(bytes)).unwrap(), Arc::new(User::default())).await;
    let code = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    (code, json::parse(&body::collect(response).await.unwrap()).unwrap().value)
}

#[tokio::test]
async fn objects_and_delete_options() {
    let api = server();
    let metadata = field(1, &field(1, b"a"));
    let data = field(2, &[field(1, b"key"), field(2, b"value")].concat());
    let map = envelope("ConfigMap", &[metadata, data].concat());
    let path = "/api/v1/namespaces/n/configmaps";
    let (code, created) = send(&api, "POST", path, map.clone()).await;
    assert_eq!((code, created.str_at(&["data", "key"])), (201, "value"), "{created:?}");

    let (code, refused) = send(&api, "POST", path, b"no protobuf".to_vec()).await;
    assert_eq!(code, 400, "{refused:?}");
    let (code, refused) = send(&api, "POST", path, map[..map.len() - 1].to_vec()).await;
    assert_eq!(code, 400, "{refused:?}");
    let (code, refused) = send(&api, "POST", path, envelope("Secret", &field(1, &field(1, b"a")))).await;
    assert_eq!(code, 400, "{refused:?}");

    let one = format!("{path}/a");
    let other = envelope("DeleteOptions", &field(2, &field(1, b"another-uid")));
    let (code, refused) = send(&api, "DELETE", &one, other).await;
    assert_eq!((code, refused.str_at(&["reason"])), (409, "Conflict"), "{refused:?}");
    let own = envelope("DeleteOptions", &field(2, &field(1, created.str_at(&["metadata", "uid"]).as_bytes())));
    let (code, deleted) = send(&api, "DELETE", &one, own).await;
    assert_eq!((code, deleted.str_at(&["status"])), (200, "Success"), "{deleted:?}");
}
