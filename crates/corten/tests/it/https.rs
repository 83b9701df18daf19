//! The client over HTTPS, with nothing but the kubeconfig.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value;
use corten_client::client::{Delete, Patch};
use corten_client::https::{Https, Server as Remote};
use corten_client::informer::Scope;
use corten_client::{Client, Informers, Resource};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::process::Server;

const MAPS: Resource = Resource::new("", "v1", "configmaps");

#[tokio::test]
async fn requests_and_informers_work_over_the_network() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let tasks = Tasks::new();
    let remote = Remote::from_kubeconfig(&dir.path().join("admin.kubeconfig")).expect("a kubeconfig");
    let client = Client::new(Arc::new(Https::new(&remote, tasks.clone()).expect("a transport")), "test");
    let informers = Informers::new(client.clone(), Clock::system(), Random::system(), tasks.clone());
    let maps = informers.of::<()>(Scope { namespace: "default".into(), ..Scope::metadata(MAPS) });
    maps.synced().await;

    let map = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "labels": {"x": "1"}}});
    let made = client.create(&MAPS, "default", &map).await.expect("made");
    maps.caught_up(made.str_at(&["metadata", "resourceVersion"]), &Clock::system()).await.expect("seen");
    assert_eq!(maps.cache().get("default", "a").map(|held| held.head.labels.len()), Some(1));

    let again = client.create(&MAPS, "default", &map).await.expect_err("it is there");
    assert!(again.is_already_exists(), "{again}");
    let patch = Patch::Merge(value!({"data": {"k": "v"}}));
    client.patch(&MAPS, "default", "a", "", &patch).await.expect("patched");
    let old = client.update(&MAPS, "", &made).await.expect_err("it has changed");
    assert!(old.is_conflict(), "{old}");
    let other = client.delete(&MAPS, "default", "a", &Delete::of("other")).await.expect_err("another object");
    assert_eq!(other.code(), 409);
    client.delete(&MAPS, "default", "a", &Delete::of(made.str_at(&["metadata", "uid"]))).await.expect("deleted");
    assert!(client.get(&MAPS, "default", "a").await.expect_err("it is gone").is_not_found());
    let gone = async {
        while maps.cache().get("default", "a").is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the cache follows");
    // An informer holds the connection; it ends with the family.
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
    assert_eq!(server.stop(), Some(0));
}
