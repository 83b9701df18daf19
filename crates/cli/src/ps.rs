//! `corten ps`: what `corten run` has made, a row each.

use anyhow::Context as _;
use clap::Args;
use corten_apimachinery::duration::human;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;
use corten_client::{Resource, Select};

use crate::app::{DEPLOYMENTS, INGRESSES, NAME, PODS, REPLICA_SETS, ours};
use crate::connect::{Session, Target, refused};
use crate::option::Output;
use crate::state::{Objects, State};
use crate::table::table;
use crate::url::url;

#[derive(Debug, Args)]
pub struct Ps {
    #[command(flatten)]
    target: Target,
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    image: String,
    ready: i64,
    wanted: i64,
    state: String,
    restarts: i64,
    age: String,
    url: String,
}

/// Lists the applications of a namespace.
///
/// # Errors
/// When the cluster does not answer.
pub fn run(ps: &Ps) -> anyhow::Result<()> {
    ps.target.with(async |session| {
        let rows = read(&session).await?;
        match ps.output {
            Output::Json => println!("{}", serde_json::to_string_pretty(&json(&rows))?),
            Output::Text if rows.is_empty() => println!("nothing runs; `corten run IMAGE` starts something"),
            Output::Text => print!("{}", text(&rows)),
        }
        Ok(())
    })
}

async fn read(session: &Session) -> anyhow::Result<Vec<Row>> {
    let select = Select { labels: ours(), ..Select::default() };
    let list = async |resource: &Resource| {
        let listed = session.client.list(resource, &session.namespace, &select).await;
        listed.map(|listed| listed.items).context(refused())
    };
    let (deployments, sets) = (list(&DEPLOYMENTS).await?, list(&REPLICA_SETS).await?);
    let (pods, ingresses) = (list(&PODS).await?, list(&INGRESSES).await?);
    let now_s = session.clock.wall_s();
    let row = |deployment: &Value| {
        let name = Meta::of(deployment).name();
        let of = |objects: &[Value]| -> Vec<Value> {
            objects.iter().filter(|object| Meta::of(object).label(NAME) == Some(name)).cloned().collect()
        };
        let objects = Objects { deployment, sets: &of(&sets), pods: &of(&pods) };
        row(objects, of(&ingresses).first(), now_s)
    };
    Ok(deployments.iter().map(row).collect())
}

fn row(objects: Objects<'_>, ingress: Option<&Value>, now_s: i64) -> Row {
    let (deployment, meta) = (objects.deployment, Meta::of(objects.deployment));
    let number = |path: &[&str]| deployment.i64_at(path).unwrap_or_default();
    let containers = deployment.at(&["spec", "template", "spec", "containers"]).and_then(Value::as_array);
    let image = containers.and_then(|list| list.first()).map(|one| one.str_at(&["image"])).unwrap_or_default();
    let restarts = |pod: &Value| -> i64 {
        let statuses = pod.at(&["status", "containerStatuses"]).and_then(Value::as_array).unwrap_or_default();
        statuses.iter().filter_map(|status| status.i64_at(&["restartCount"])).sum()
    };
    let created = Time::parse(meta.creation_timestamp()).map_or(now_s, |time| time.seconds);
    Row {
        name: meta.name().to_owned(),
        image: image.to_owned(),
        ready: number(&["status", "readyReplicas"]),
        wanted: number(&["spec", "replicas"]),
        state: match objects.state() {
            State::Ready => "Running".to_owned(),
            State::Waiting(told) | State::Stuck(told) => told.brief,
        },
        restarts: objects.pods.iter().map(restarts).sum(),
        age: human(now_s - created).to_string(),
        url: ingress.and_then(url).unwrap_or_default(),
    }
}

fn json(rows: &[Row]) -> serde_json::Value {
    let one = |row: &Row| {
        serde_json::json!({
            "name": row.name, "image": row.image, "ready": row.ready, "replicas": row.wanted, "state": row.state,
            "restarts": row.restarts, "age": row.age, "url": row.url,
        })
    };
    rows.iter().map(one).collect()
}

fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let ready = format!("{}/{}", row.ready, row.wanted);
        let (name, image, state) = (row.name.clone(), row.image.clone(), row.state.clone());
        [name, image, ready, state, row.restarts.to_string(), row.age.clone(), row.url.clone()]
    });
    table(["NAME", "IMAGE", "READY", "STATE", "RESTARTS", "AGE", "URL"], cells)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn a_row_says_how_it_is() {
        let deployment = value!({
            "metadata": {"name": "web", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": "localhost/www:1"}]}}},
            "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
        });
        let pods = [value!({"status": {"containerStatuses": [{"restartCount": 3}]}})];
        let ingress = value!({
            "spec": {"rules": [{"host": "web.localhost"}]}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
        });
        let objects = Objects { deployment: &deployment, sets: &[], pods: &pods };
        let now_s = Time::parse("2026-01-01T00:05:10Z").expect("a time").seconds;
        let row = row(objects, Some(&ingress), now_s);
        let expected = "\
NAME   IMAGE             READY   STATE     RESTARTS   AGE     URL
web    localhost/www:1   2/2     Running   3          5m10s   http://web.localhost/
";
        assert_eq!(text(&[row]), expected);
    }
}
