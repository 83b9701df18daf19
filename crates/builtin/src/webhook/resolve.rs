//! Where a Service's webhook is: one of the Service's ready endpoints, as the API's own objects tell.

use corten_apimachinery::status::Status;

use super::Ground;
use crate::connect::proxy::{SERVICES, endpoints};
use crate::lookup::tree;

/// The host and port to connect to.
pub(super) async fn service(ground: &Ground, namespace: &str, name: &str, port: u16) -> Result<(String, u16), Status> {
    let found = ground.lookup.get(SERVICES, namespace, name).await?;
    let service = tree(&*found.ok_or_else(|| Status::not_found("", SERVICES.plural, name))?)?;
    match service.str_at(&["spec", "type"]) {
        "ExternalName" => return Ok((service.str_at(&["spec", "externalName"]).to_owned(), port)),
        "" | "ClusterIP" | "NodePort" | "LoadBalancer" => {}
        other => return Err(Status::unavailable(format!("unsupported service type {other:?}"))),
    }
    let ports = service.at(&["spec", "ports"]).and_then(|ports| ports.as_array()).unwrap_or_default();
    let own = ports.iter().find(|own| own.i64_at(&["port"]) == Some(i64::from(port)));
    let own = own.ok_or_else(|| Status::unavailable(format!("no service port {port} found for service {name:?}")))?;
    let mut places = endpoints(&*ground.lookup, namespace, name, own.str_at(&["name"])).await?;
    if places.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {name:?}")));
    }
    // Which one does not matter, so long as it is not always the same.
    let turn = usize::try_from(ground.random.next_u64() >> 33).unwrap_or_default() % places.len();
    let place = places.swap_remove(turn);
    Ok((place.host, place.port))
}
