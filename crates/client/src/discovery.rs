//! What a server serves, by aggregated discovery (KEP-3352): two requests for everything.

use corten_apimachinery::value::{Str, Value};

use crate::client::Client;
use crate::error::Error;
use crate::resource::Resource;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One resource, in the version that its group prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub resource: Resource,
    pub kind: Str,
    pub namespaced: bool,
    pub verbs: Vec<Str>,
}

/// Everything that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    pub served: Vec<Served>,
    /// Group versions whose server could not be asked (`apps/v1`).
    pub stale: Vec<String>,
}

impl Served {
    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

impl Client {
    /// Every resource once, in the first of its group's versions that has it.
    pub async fn discover(&self) -> Result<Discovered, Error> {
        let mut discovered = Discovered::default();
        for path in ["/api", "/apis"] {
            let groups = self.get_path(path, AGGREGATED).await?;
            for group in list(&groups, "items") {
                discovered.add_group(group);
            }
        }
        Ok(discovered)
    }
}

impl Discovered {
    fn add_group(&mut self, group: &Value) {
        let name = group.str_at(&["metadata", "name"]);
        for version in list(group, "versions") {
            let text = version.str_at(&["version"]);
            if version.str_at(&["freshness"]) == "Stale" {
                self.stale.push(corten_apimachinery::kind::api_version(name, text).into());
            }
            for resource in list(version, "resources") {
                self.add(name, text, resource);
            }
        }
    }

    fn add(&mut self, group: &str, version: &str, found: &Value) {
        let plural = found.str_at(&["resource"]);
        if self.served.iter().any(|known| known.resource.group == group && known.resource.plural == plural) {
            return;
        }
        self.served.push(Served {
            resource: Resource { group: group.into(), version: version.into(), plural: plural.into() },
            kind: found.str_at(&["responseKind", "kind"]).into(),
            namespaced: found.str_at(&["scope"]) == "Namespaced",
            verbs: list(found, "verbs").iter().filter_map(Value::as_str).map(Str::from).collect(),
        });
    }
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn a_resource_is_known_once_in_its_first_version() {
        let resource = |verbs: Vec<&str>| value!({"resource": "things", "scope": "Namespaced", "verbs": verbs, "responseKind": {"kind": "Thing"}});
        let group = value!({"metadata": {"name": "shop"}, "versions": [
            {"version": "v2", "resources": [(resource(vec!["list"]))]},
            {"version": "v1", "freshness": "Stale", "resources": [(resource(vec!["get"]))]},
        ]});
        let mut discovered = Discovered::default();
        discovered.add_group(&group);
        assert_eq!(discovered.stale, ["shop/v1"]);
        let [thing] = discovered.served.as_slice() else { panic!("{discovered:?}") };
        assert_eq!(thing.resource, Resource::new("shop", "v2", "things"));
        assert!(thing.namespaced && thing.can("list") && !thing.can("get") && thing.kind == "Thing");
    }
}
