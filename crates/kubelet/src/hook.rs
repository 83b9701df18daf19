//! Lifecycle hooks: what runs when a container has started and before it stops (`pkg/kubelet/lifecycle`).

use std::time::Duration;

use corten_apimachinery::value::Value;
use corten_runtime::engine::ContainerId;

use crate::deed::Subjected;
use crate::http_get;
use crate::pod::Container;
use crate::program;

/// Runs a hook to its end. The error says how it failed; it goes to the log alone, as it may hold secrets.
pub(crate) async fn run(
    of: &Subjected,
    container: Container<'_>,
    id: &ContainerId,
    action: &Value,
) -> Result<(), String> {
    let given = |field: &str| action.get(field).filter(|action| !action.is_null());
    if let Some(exec) = given("exec") {
        let args = exec.get("command").and_then(Value::as_array).unwrap_or_default();
        let args = args.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let output = program::run(&*of.ground.parts.engine, id, args, None).await?;
        let failed = || format!("command exited with {}: {}", output.code, output.text);
        return if output.code == 0 { Ok(()) } else { Err(failed()) };
    }
    if let Some(get) = given("httpGet") {
        let request = http_get::Request::of(get, container, of, "kube-lifecycle/1.36");
        // Whatever answers has been told.
        return request?.send().await.map(|_| ());
    }
    if let Some(sleep) = given("sleep") {
        let seconds = sleep.i64_at(&["seconds"]).unwrap_or_default();
        of.ground.parts.clock.sleep(Duration::from_secs(u64::try_from(seconds).unwrap_or_default())).await;
        return Ok(());
    }
    Err("invalid handler".to_owned())
}
