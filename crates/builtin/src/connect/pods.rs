//! What a request about a pod's containers means to the node's server: the path and the query, or upstream's refusal.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;
use corten_apiserver::http::query::Query;

use super::encode;

const LOG_STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// `/containerLogs/…` for the options of `pods/log`.
pub(super) fn log(pod: &Value, query: &Query) -> Result<String, Status> {
    let name = pod.str_at(&["metadata", "name"]);
    let tail = integer(query, "tailLines")?;
    let limit = integer(query, "limitBytes")?;
    let since = integer(query, "sinceSeconds")?;
    let since_time = query.first("sinceTime").filter(|time| !time.is_empty());
    if let Some(time) = since_time {
        Time::parse(time).map_err(|error| Status::bad_request(error.to_string()))?;
    }
    let stream = query.first("stream").filter(|stream| !stream.is_empty()).unwrap_or("All");
    let mut errors = FieldErrors::default();
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        errors.invalid(&FieldPath::new("tailLines"), tail, "must be greater than or equal to 0");
    }
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        errors.invalid(&FieldPath::new("limitBytes"), limit, "must be greater than 0");
    }
    match since {
        Some(_) if since_time.is_some() => {
            errors.forbidden(&FieldPath::root(), "at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        Some(since) if since < 1 => {
            errors.invalid(&FieldPath::new("sinceSeconds"), since, "must be greater than 0");
        }
        _ => {}
    }
    if !LOG_STREAMS.contains(&stream) {
        errors.not_supported(&FieldPath::new("stream"), stream, &LOG_STREAMS);
    }
    if stream != "All" && tail.is_some() {
        let why = "`tailLines` and specific `stream` are mutually exclusive for now";
        errors.forbidden(&FieldPath::root(), why);
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "PodLogOptions", name, &errors));
    }
    let container = container(pod, query.first("container").unwrap_or_default())?;
    let mut parameters = Vec::new();
    for flag in ["follow", "previous", "timestamps"] {
        if query.flag(flag) {
            parameters.push(format!("{flag}=true"));
        }
    }
    for (key, value) in [("sinceSeconds", since), ("tailLines", tail), ("limitBytes", limit)] {
        parameters.extend(value.map(|value| format!("{key}={value}")));
    }
    parameters.extend(since_time.map(|time| format!("sinceTime={}", encode(time))));
    parameters.push(format!("stream={stream}"));
    Ok(path("containerLogs", pod, Some(&container), &parameters))
}

/// `/exec/…` or `/attach/…`.
pub(super) fn program(pod: &Value, query: &Query, what: &str) -> Result<String, Status> {
    let container = container(pod, query.first("container").unwrap_or_default())?;
    let mut parameters = Vec::new();
    for (from, to) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.flag(from) {
            parameters.push(format!("{to}=1"));
        }
    }
    if what == "exec" {
        parameters.extend(query.all("command").map(|part| format!("command={}", encode(part))));
    }
    Ok(path(what, pod, Some(&container), &parameters))
}

/// `/portForward/…`.
pub(super) fn forward(pod: &Value, query: &Query) -> Result<String, Status> {
    let ports: Vec<&str> = query.all("ports").filter(|ports| !ports.is_empty()).collect();
    let parameters: Vec<String> =
        (!ports.is_empty()).then(|| format!("port={}", encode(&ports.join(",")))).into_iter().collect();
    Ok(path("portForward", pod, None, &parameters))
}

fn path(what: &str, pod: &Value, container: Option<&str>, parameters: &[String]) -> String {
    let (namespace, name) = (pod.str_at(&["metadata", "namespace"]), pod.str_at(&["metadata", "name"]));
    let container = container.map(|container| format!("/{}", encode(container))).unwrap_or_default();
    let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    format!("/{what}/{}/{}{container}{query}", encode(namespace), encode(name))
}

/// The container that is meant: the one that is named, or the only one.
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let name = pod.str_at(&["metadata", "name"]);
    let list = |field: &str| pod.at(&["spec", field]).and_then(Value::as_array).unwrap_or_default();
    let all = ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(list);
    let all: Vec<&str> = all.map(|container| container.str_at(&["name"])).collect();
    if !asked.is_empty() {
        let known = all.contains(&asked);
        let unknown = || Status::bad_request(format!("container {asked} is not valid for pod {name}"));
        return known.then(|| asked.to_owned()).ok_or_else(unknown);
    }
    match list("containers") {
        [only] => Ok(only.str_at(&["name"]).to_owned()),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {name}"))),
        _ => {
            let names = all.join(" ");
            let text = format!("a container name must be specified for pod {name}, choose one of: [{names}]");
            Err(Status::bad_request(text))
        }
    }
}

fn integer(query: &Query, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = query.first(key).filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = text.parse().map(Some);
    number.map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}
