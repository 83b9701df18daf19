//! A kind whose objects a connector makes when somebody asks.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use futures_core::future::BoxFuture;

use super::{ask, with};
use crate::connect::{self, Call, Connector, Connectors};
use crate::http::pipeline::RequestLimits;
use crate::testing::kinds;

const ALL: &str = "/apis/test.corten.dev/v1/gauges";

/// Two in one namespace and one in another.
struct Gauges;

impl Connector for Gauges {
    fn connect(&self, _: Call) -> BoxFuture<'_, Result<connect::Answer, Status>> {
        let gauge = |namespace: &str, name: &str, color: &str| {
            value!({
                "kind": "Gauge", "apiVersion": "test.corten.dev/v1",
                "metadata": {"name": name, "namespace": namespace, "labels": {"color": color}}, "spec": {"color": color}
            })
        };
        let all = vec![gauge("n", "b", "red"), gauge("n", "a", "blue"), gauge("other", "a", "red")];
        Box::pin(std::future::ready(Ok(connect::Answer::Objects(all))))
    }
}

fn names(list: &Value) -> Vec<String> {
    let items = list.at(&["items"]).and_then(Value::as_array).unwrap();
    let name =
        |item: &Value| [&["metadata", "namespace"], &["metadata", "name"]].map(|path| item.str_at(path)).join("/");
    items.iter().map(name).collect()
}

#[tokio::test]
async fn objects_of_no_store_are_selected_and_shown_like_all_others() {
    let mut connectors = Connectors::default();
    connectors.register("test.corten.dev", "gauges", "", Arc::new(Gauges));
    let (api, bench) = with(RequestLimits::default(), connectors);
    bench.registry.install([kinds::gauge()]);
    let list = async |query: &str| {
        let answer = ask(&api, &format!("GET {query}"), &[], "").await;
        assert_eq!(answer.code, 200, "{query}: {}", answer.text);
        answer.value()
    };
    let all = list(ALL).await;
    assert_eq!((names(&all), all.str_at(&["kind"])), (vec!["n/a".into(), "n/b".into(), "other/a".into()], "GaugeList"));
    assert_eq!(all.at(&["metadata"]), Some(&Value::object()), "no revision");
    assert_eq!(names(&list(&format!("{ALL}?labelSelector=color%3Dred")).await), ["n/b", "other/a"]);
    assert_eq!(names(&list(&format!("{ALL}?fieldSelector=metadata.name%3Da")).await), ["n/a", "other/a"]);
    assert_eq!(names(&list(&format!("{ALL}?fieldSelector=metadata.namespace%3Dn,spec.color%3Dred")).await), ["n/b"]);
    let own = "/apis/test.corten.dev/v1/namespaces/n/gauges";
    assert_eq!(names(&list(own).await), ["n/a", "n/b"]);
    let one = list(&format!("{own}/b")).await;
    assert_eq!(one.str_at(&["spec", "color"]), "red");
    assert!(one.at(&["metadata", "resourceVersion"]).is_none());
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = ask(&api, &format!("GET {own}"), &table, "").await.value();
    assert_eq!(table.at(&["rows"]).and_then(Value::as_array).map(<[Value]>::len), Some(2));

    let absent = ask(&api, &format!("GET {own}/c"), &[], "").await;
    assert_eq!((absent.code, absent.value().str_at(&["reason"])), (404, "NotFound"), "{}", absent.text);
    assert_eq!(ask(&api, &format!("DELETE {own}/b"), &[], "").await.code, 405);
    assert_eq!(ask(&api, &format!("GET {ALL}?watch=1"), &[], "").await.code, 405);
    assert_eq!(ask(&api, &format!("GET {ALL}?labelSelector=%21%21"), &[], "").await.code, 400);
}
