//! The proxies: requests for a node's server, a pod's port or a Service's, below the path `…/proxy`. A name may carry a scheme
//! and a port: `https:web:8443`.

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::http::body::{self, Request, Response};
use http::Method;
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderMap, LOCATION};

use super::{Asked, Ground, Place, encode, raw_query, tunnel};
use crate::lookup::{Lookup, Resource, tree};

pub(crate) const SERVICES: Resource = Resource { group: "", plural: "services" };
const SLICES: Resource = Resource { group: "discovery.k8s.io", plural: "endpointslices" };

/// A name with its scheme and port.
#[derive(Debug, PartialEq, Eq)]
struct Name<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

/// `name`, `name:port`, `scheme:name:port`.
fn parse(text: &str) -> Option<Name<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let name = match parts.as_slice() {
        [name] => Name { tls: false, name, port: "" },
        [name, port] => Name { tls: false, name, port },
        ["" | "http", name, port] => Name { tls: false, name, port },
        ["https", name, port] => Name { tls: true, name, port },
        _ => return None,
    };
    (!name.name.is_empty()).then_some(name)
}

fn invalid(what: &str, name: &str) -> Status {
    Status::bad_request(format!("invalid {what} request {name:?}"))
}

pub(super) async fn node(ground: &Ground, call: &Asked, request: Request) -> Result<Response, Status> {
    let name = parse(&call.target.name).ok_or_else(|| invalid("node", &call.target.name))?;
    let mut place = ground.node_place(name.name).await?;
    if !name.port.is_empty() {
        place.port = name.port.parse().map_err(|_| invalid("node", &call.target.name))?;
    }
    if let Some(redirect) = redirect(call, &request) {
        return Ok(redirect);
    }
    let stream = ground.reach(&place).await?;
    carry(ground, stream, &place, call, request).await
}

pub(super) async fn pod(ground: &Ground, call: &Asked, request: Request) -> Result<Response, Status> {
    let name = parse(&call.target.name).ok_or_else(|| invalid("pod", &call.target.name))?;
    let pod = ground.pod(&call.target.namespace, name.name).await?;
    let port = if name.port.is_empty() { first_port(&pod) } else { name.port.parse().ok() };
    let port = port.ok_or_else(|| invalid("pod", &call.target.name))?;
    let host = pod.str_at(&["status", "podIP"]);
    if host.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    open(ground, Place { host: host.to_owned(), port }, name.tls, call, request).await
}

/// The first port that a container of the pod names, else HTTP's.
fn first_port(pod: &Value) -> Option<u16> {
    let containers = pod.at(&["spec", "containers"]).and_then(Value::as_array).unwrap_or_default();
    let ports = containers.iter().filter_map(|container| container.get("ports").and_then(Value::as_array)).flatten();
    let mut ports = ports.filter_map(|port| port.i64_at(&["containerPort"]));
    ports.find(|port| *port > 0).map_or(Some(80), |port| u16::try_from(port).ok())
}

pub(super) async fn service(ground: &Ground, call: &Asked, request: Request) -> Result<Response, Status> {
    let name = parse(&call.target.name).ok_or_else(|| invalid("service", &call.target.name))?;
    let service = ground.object(SERVICES, &call.target.namespace, name.name).await?;
    let port = port_name(&service, name.port);
    let port = port.ok_or_else(|| {
        Status::unavailable(format!("no service port {:?} found for service {:?}", name.port, name.name))
    })?;
    let places = endpoints(&*ground.lookup, &call.target.namespace, name.name, port).await?;
    let none = || Status::unavailable(format!("no endpoints available for service {:?}", name.name));
    // Which one does not matter, so long as it is not always the same: a name has no memory of the last one.
    let turn = usize::try_from(ground.random.next_u64() >> 33).unwrap_or_default();
    let place = places.get(turn % places.len().max(1)).cloned().ok_or_else(none)?;
    open(ground, place, name.tls, call, request).await
}

/// The ready endpoints of a Service's port, by the port's name.
pub(crate) async fn endpoints(
    lookup: &dyn Lookup,
    namespace: &str,
    service: &str,
    port: &str,
) -> Result<Vec<Place>, Status> {
    let mut places = Vec::new();
    for slice in lookup.list(SLICES).await? {
        let own = slice.head.label("kubernetes.io/service-name").is_none_or(|name| name == service);
        if own && slice.head.namespace == namespace {
            places.extend(ready(&tree(&slice)?, service, port));
        }
    }
    Ok(places)
}

/// The name of the Service's port that is meant, by name or number; the only one where none is.
fn port_name<'a>(service: &'a Value, asked: &str) -> Option<&'a str> {
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default();
    let found = match ports {
        [only] if asked.is_empty() => Some(only),
        ports => ports.iter().find(|port| {
            let number = port.i64_at(&["port"]).is_some_and(|port| port.to_string() == asked);
            number || (!asked.is_empty() && port.str_at(&["name"]) == asked)
        }),
    };
    found.map(|port| port.str_at(&["name"]))
}

/// Ready endpoints of a slice, if it is the Service's.
fn ready(slice: &Value, service: &str, port: &str) -> Vec<Place> {
    if slice.str_at(&["metadata", "labels", "kubernetes.io/service-name"]) != service {
        return Vec::new();
    }
    let list = |field: &str| slice.get(field).and_then(Value::as_array).unwrap_or_default();
    let number = list("ports").iter().find(|own| own.str_at(&["name"]) == port).and_then(|own| own.i64_at(&["port"]));
    let Some(port) = number.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    let ready = |endpoint: &&Value| endpoint.at(&["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true);
    let addresses = list("endpoints").iter().filter(ready);
    let addresses = addresses.filter_map(|endpoint| endpoint.get("addresses")?.as_array()?.first()?.as_str());
    addresses.map(|host| Place { host: host.to_owned(), port }).collect()
}

async fn open(ground: &Ground, place: Place, tls: bool, call: &Asked, request: Request) -> Result<Response, Status> {
    if let Some(redirect) = redirect(call, &request) {
        return Ok(redirect);
    }
    let stream = ground.dial.pod(&place.host, place.port, tls).await.map_err(|error| {
        Status::unavailable(format!("error trying to reach service: dial tcp {}:{}: {error}", place.host, place.port))
    })?;
    carry(ground, stream, &place, call, request).await
}

/// `…/proxy` itself is a folder: relative links of what is below it need the slash.
fn redirect(call: &Asked, request: &Request) -> Option<Response> {
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    if !read || !call.path.is_empty() || request.uri().path().ends_with('/') {
        return None;
    }
    let mut response = body::respond(301, "text/plain", "");
    body::set(&mut response, LOCATION, &format!("{}/{}", request.uri().path(), raw_query(request)));
    Some(response)
}

async fn carry(
    ground: &Ground,
    stream: super::BoxStream,
    place: &Place,
    call: &Asked,
    mut request: Request,
) -> Result<Response, Status> {
    let slash = if request.uri().path().ends_with('/') && !call.path.ends_with('/') { "/" } else { "" };
    let path: Vec<String> = call.path.split('/').map(encode).collect();
    let path = format!("{}{slash}{}", path.join("/"), raw_query(&request));
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let headers = headers(request.headers());
    let body = std::mem::replace(request.body_mut(), body::full(""));
    let to = tunnel::request(request.method().clone(), place, &path, headers, body)?;
    let response = tunnel::send(ground, stream, to).await?;
    Ok(tunnel::join(ground, &mut request, response))
}

/// All but what is between the client and this server: who it is, and the connection itself.
fn headers(from: &HeaderMap) -> HeaderMap {
    let mut headers = from.clone();
    let upgrade = headers.contains_key("upgrade");
    for name in [AUTHORIZATION, HOST] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"] {
        headers.remove(name);
    }
    if !upgrade {
        headers.remove(CONNECTION);
    }
    let impersonation: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    for name in impersonation {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn names_carry_scheme_and_port() {
        assert_eq!(parse("web"), Some(Name { tls: false, name: "web", port: "" }));
        assert_eq!(parse("web:80"), Some(Name { tls: false, name: "web", port: "80" }));
        assert_eq!(parse("https:web:http"), Some(Name { tls: true, name: "web", port: "http" }));
        assert_eq!(parse("ftp:web:21"), None);
        assert_eq!(parse(":80"), None);
    }

    #[test]
    fn ready_endpoints_of_the_port_are_found() {
        let slice = value!({
            "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}}
            ]
        });
        assert_eq!(ready(&slice, "web", "http"), [Place { host: "10.0.0.1".to_owned(), port: 8080 }]);
        assert!(ready(&slice, "other", "http").is_empty() && ready(&slice, "web", "x").is_empty());
        let service = value!({"spec": {"ports": [{"name": "http", "port": 80}]}});
        assert_eq!(port_name(&service, ""), Some("http"));
        assert_eq!(port_name(&service, "80"), Some("http"));
        assert_eq!(port_name(&service, "81"), None);
    }
}
