//! What a request asks for, told from its method, path and query alone: the resource grammar of the Kubernetes API.
//! Authorization, limits, metrics and routing all look at this one answer.

use crate::http::query::Query;

/// The path segment that opens a namespaced path. It is grammar here: the kind of that name is served like any other.
const NAMESPACES: &str = "namespaces";

/// What may follow a namespace's name and is not a resource inside the namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

/// A parsed request line. Texts are empty where the request names nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Below `/api` or `/apis` with at least a resource.
    pub is_resource: bool,
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for other paths the
    /// lower-case method.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// From the resource on, undecoded grammar behind it included: `["pods", "a", "proxy", "x", "y"]`.
    pub parts: Vec<String>,
    pub field_selector: String,
    pub label_selector: String,
    /// The verb stood in the path (`/api/v1/watch/…`).
    pub verb_in_path: bool,
    /// The path goes on inside the namespace, rather than naming the namespace itself.
    pub in_namespace: bool,
}

/// A path that ends where a resource should stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to determine kind and namespace from url, {0}")]
pub struct PathError(pub String);

impl RequestInfo {
    /// Parses the decoded path and the query of a request.
    pub fn parse(method: &http::Method, path: &str, query: &Query) -> Result<Self, PathError> {
        let mut info = Self { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let Some(parts) = info.take_version(path) else { return Ok(info) };
        let parts = info.take_verb(method, parts).ok_or_else(|| PathError(path.to_owned()))?;
        info.take_resource(parts);
        info.refine_verb(query);
        Ok(info)
    }

    /// The name of the group and version as URLs and `apiVersion` carry it.
    pub fn api_version(&self) -> String {
        corten_apimachinery::kind::api_version(&self.group, &self.version).into()
    }

    /// Consumes `/api/V` or `/apis/G/V`; `None` if no resource follows.
    fn take_version<'a>(&mut self, path: &'a str) -> Option<Vec<&'a str>> {
        let trimmed = path.trim_matches('/');
        let parts: Vec<&str> = trimmed.split('/').collect();
        let consumed = match *parts.first()? {
            "api" if parts.len() >= 3 => 2,
            "apis" if parts.len() >= 4 => 3,
            _ => return None,
        };
        if consumed == 3 {
            parts[1].clone_into(&mut self.group);
        }
        parts[consumed - 1].clone_into(&mut self.version);
        self.is_resource = true;
        Some(parts[consumed..].to_vec())
    }

    /// Sets the verb; consumes a leading `watch` or `proxy`. `None`: nothing follows it.
    fn take_verb<'a>(&mut self, method: &http::Method, parts: Vec<&'a str>) -> Option<Vec<&'a str>> {
        if matches!(parts[0], "proxy" | "watch") {
            parts[0].clone_into(&mut self.verb);
            self.verb_in_path = true;
            return (parts.len() > 1).then(|| parts[1..].to_vec());
        }
        let verb = match *method {
            http::Method::POST => "create",
            http::Method::GET | http::Method::HEAD => "get",
            http::Method::PUT => "update",
            http::Method::PATCH => "patch",
            http::Method::DELETE => "delete",
            _ => "",
        };
        verb.clone_into(&mut self.verb);
        Some(parts)
    }

    fn take_resource(&mut self, mut parts: Vec<&str>) {
        if parts[0] == NAMESPACES && parts.len() > 1 {
            parts[1].clone_into(&mut self.namespace);
            if parts.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&parts[2]) {
                parts.drain(..2);
                self.in_namespace = true;
            }
        }
        parts[0].clone_into(&mut self.resource);
        if let Some(name) = parts.get(1) {
            (*name).clone_into(&mut self.name);
        }
        if let Some(subresource) = parts.get(2).filter(|_| self.verb != "proxy") {
            (*subresource).clone_into(&mut self.subresource);
        }
        self.parts = parts.into_iter().map(str::to_owned).collect();
    }

    /// Without a name, get is list or watch and delete is deletecollection; selectors count only for those.
    fn refine_verb(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            let watch = query.flag("watch");
            (if watch { "watch" } else { "list" }).clone_into(&mut self.verb);
            if let Some(name) = selected_name(query.first("fieldSelector").unwrap_or_default()) {
                name.clone_into(&mut self.name);
            }
        }
        if self.name.is_empty() && self.verb == "delete" {
            "deletecollection".clone_into(&mut self.verb);
        }
        if !self.verb_in_path && matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            query.first("fieldSelector").unwrap_or_default().clone_into(&mut self.field_selector);
            query.first("labelSelector").unwrap_or_default().clone_into(&mut self.label_selector);
        }
    }
}

/// The name that a field selector pins (`metadata.name=a`), where it can be a path segment.
fn selected_name(selector: &str) -> Option<&str> {
    let term = selector.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="))?;
    let name = term.strip_prefix('=').unwrap_or(term);
    let is_segment = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%', '\\']);
    is_segment.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version namespace resource subresource name`, with `-` for what is empty.
    fn check(method: &str, target: &str, expect: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let method = http::Method::from_bytes(method.as_bytes()).unwrap();
        let info = RequestInfo::parse(&method, path, &Query::parse(query)).unwrap();
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let texts =
            [&info.verb, &info.group, &info.version, &info.namespace, &info.resource, &info.subresource, &info.name];
        let seen: Vec<String> = texts.iter().map(|text| dash(text)).collect();
        assert_eq!(seen.join(" "), expect, "{method} {target}");
        assert_eq!(info.is_resource, !info.resource.is_empty(), "{target}");
    }

    #[test]
    fn resources() {
        check("GET", "/api/v1/namespaces", "list - v1 - namespaces - -");
        check("GET", "/api/v1/namespaces/other", "get - v1 other namespaces - other");
        check("PUT", "/api/v1/namespaces/other/finalize", "update - v1 other namespaces finalize other");
        check("PATCH", "/api/v1/namespaces/other/status", "patch - v1 other namespaces status other");
        check("GET", "/api/v1/namespaces/other/pods", "list - v1 other pods - -");
        check("GET", "/api/v1/namespaces/other/pods/foo", "get - v1 other pods - foo");
        check("HEAD", "/api/v1/namespaces/other/pods/foo", "get - v1 other pods - foo");
        check("GET", "/api/v1/pods", "list - v1 - pods - -");
        check("POST", "/api/v1/namespaces/other/pods", "create - v1 other pods - -");
        check("POST", "/api/v1/namespaces/o/pods/a/eviction", "create - v1 o pods eviction a");
        check("DELETE", "/api/v1/namespaces/o/pods", "deletecollection - v1 o pods - -");
        check("DELETE", "/apis/apps/v1/namespaces/o/deployments/a", "delete apps v1 o deployments - a");
        check("GET", "/apis/a.example/v1/widgets/w/scale", "get a.example v1 - widgets scale w");
        check("OPTIONS", "/api/v1/nodes", "- - v1 - nodes - -");
        check("GET", "/api/v1/namespaces/o/pods/a/proxy/x/y", "get - v1 o pods proxy a");
    }

    #[test]
    fn watches_and_names_in_selectors() {
        check("GET", "/api/v1/pods?watch=true", "watch - v1 - pods - -");
        check("GET", "/api/v1/pods?watch=1", "watch - v1 - pods - -");
        check("GET", "/api/v1/pods?watch=", "watch - v1 - pods - -");
        check("GET", "/api/v1/pods?watch=false", "list - v1 - pods - -");
        check("GET", "/api/v1/pods?watch=0", "list - v1 - pods - -");
        check("GET", "/api/v1/namespaces/o/pods?fieldSelector=metadata.name%3Da", "list - v1 o pods - a");
        check("GET", "/api/v1/pods?fieldSelector=spec.x=1,metadata.name==b&watch=1", "watch - v1 - pods - b");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name=..", "list - v1 - pods - -");
        check("GET", "/api/v1/namespaces/o/pods/a?watch=true", "get - v1 o pods - a");
        check("GET", "/api/v1/watch/namespaces/o/pods", "watch - v1 o pods - -");
        check("GET", "/api/v1/watch/pods/a", "watch - v1 - pods - a");
        check("GET", "/api/v1/proxy/namespaces/o/pods/a/x", "proxy - v1 o pods - a");
    }

    #[test]
    fn what_is_no_resource() {
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/x/y/z", "/version"] {
            let info = RequestInfo::parse(&http::Method::GET, path, &Query::default()).unwrap();
            assert!(!info.is_resource, "{path}");
            assert_eq!(info.verb, "get");
        }
        assert!(RequestInfo::parse(&http::Method::GET, "/api/v1/watch", &Query::default()).is_err());
    }

    #[test]
    fn selectors_only_for_many() {
        let query = Query::parse("labelSelector=a%3Db&fieldSelector=spec.x%3D1");
        let info = |method, path| RequestInfo::parse(&method, path, &query).unwrap();
        let list = info(http::Method::GET, "/api/v1/pods");
        assert_eq!((list.label_selector.as_str(), list.field_selector.as_str()), ("a=b", "spec.x=1"));
        assert_eq!(info(http::Method::GET, "/api/v1/watch/pods").label_selector, "");
        assert_eq!(info(http::Method::PUT, "/api/v1/namespaces/o/pods/a").label_selector, "");
    }
}
