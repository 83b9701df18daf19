//! The routes in the form in which requests look them up. A table never changes: a new configuration makes a new one, and
//! requests that began with the old one end with it.

use std::net::SocketAddr;
use std::sync::Arc;

use ahash::{HashMap, HashMapExt as _};

use crate::access::Member;
use crate::backend::{Backend, Endpoint};
use crate::config::{self, NodeConfig, Settings};

/// All that a request needs to know.
#[derive(Debug, Default)]
pub struct Table {
    pub generation: u64,
    /// Where plain requests are sent on to; 0 for the usual one.
    pub https_port: u16,
    exact: HashMap<Vec<u8>, Paths>,
    /// By what follows the asterisk's dot.
    wildcards: HashMap<Vec<u8>, Paths>,
    /// For what no host takes.
    rest: Option<Paths>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
}

#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Vec<u8>, Route>,
    /// By the prefix without its last slash.
    prefixes: HashMap<Vec<u8>, Route>,
}

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) backend: Arc<Backend>,
    /// The backend's name, for the log.
    pub(crate) member: Member,
    /// Bytes of the path that the route matches, for rewriting.
    pub(crate) matched: usize,
    pub(crate) settings: Settings,
}

impl Table {
    /// A table for a configuration. Endpoints that `before` knows go on with what is known of them.
    pub fn new(config: &NodeConfig, before: &Self) -> Self {
        let mut table = Self { generation: config.generation, https_port: config.https_port, ..Self::default() };
        let mut backends = HashMap::new();
        for (name, backend) in &config.backends {
            backends.insert(name.as_str(), Arc::new(table.backend(backend, before)));
        }
        for host in &config.hosts {
            let paths = paths(host, &backends);
            let known = match host.name.strip_prefix("*.") {
                _ if host.name.is_empty() => table.rest.get_or_insert_default(),
                Some(parent) => table.wildcards.entry(parent.as_bytes().to_ascii_lowercase()).or_default(),
                None => table.exact.entry(host.name.as_bytes().to_ascii_lowercase()).or_default(),
            };
            for (path, route) in paths.exact {
                known.exact.entry(path).or_insert(route);
            }
            for (path, route) in paths.prefixes {
                known.prefixes.entry(path).or_insert(route);
            }
        }
        table
    }

    fn backend(&mut self, backend: &config::Backend, before: &Self) -> Backend {
        // Those that are draining take something new only where nobody else can.
        let ready = |endpoint: &&config::Endpoint| !endpoint.draining;
        let any_ready = backend.endpoints.iter().any(|endpoint| ready(&endpoint));
        let chosen = backend.endpoints.iter().filter(|endpoint| !any_ready || ready(endpoint));
        let endpoints = chosen.map(|endpoint| {
            let known = self.endpoints.get(&endpoint.address).or_else(|| before.endpoints.get(&endpoint.address));
            let shared = known.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(endpoint.address)));
            self.endpoints.insert(endpoint.address, shared.clone());
            shared
        });
        Backend { endpoints: endpoints.collect() }
    }

    /// Says to endpoints whether they are in use: those that `before` had and this table has not are left.
    pub fn take_over(&self, before: &Self) {
        before.endpoints.values().for_each(|endpoint| endpoint.retire(true));
        self.endpoints.values().for_each(|endpoint| endpoint.retire(false));
    }

    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// The route of a host, in lower case, and a path. A host by its name goes before one by an asterisk, and a longer path
    /// before a shorter one; where a host has no route for a path, those of no host are asked.
    pub(crate) fn route(&self, host: &[u8], path: &[u8]) -> Option<&Route> {
        let parent = || host.iter().position(|byte| *byte == b'.').map(|dot| &host[dot + 1..]);
        let wildcard = || parent().and_then(|parent| self.wildcards.get(parent));
        let paths = self.exact.get(host).or_else(wildcard);
        paths.and_then(|paths| paths.route(path)).or_else(|| self.rest.as_ref()?.route(path))
    }
}

impl Paths {
    fn route(&self, path: &[u8]) -> Option<&Route> {
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        let mut prefix = path.strip_suffix(b"/").unwrap_or(path);
        loop {
            if let Some(route) = self.prefixes.get(prefix) {
                return Some(route);
            }
            let slash = prefix.iter().rposition(|byte| *byte == b'/')?;
            prefix = &prefix[..slash];
        }
    }
}

fn paths(host: &config::Host, backends: &HashMap<&str, Arc<Backend>>) -> Paths {
    let mut paths = Paths::default();
    for route in &host.routes {
        let Some(backend) = backends.get(route.backend.as_str()) else { continue };
        let path = route.path.as_bytes();
        let key = if route.exact { path } else { path.strip_suffix(b"/").unwrap_or(path) };
        let made = Route {
            backend: backend.clone(),
            member: Member::new("backend", &route.backend),
            matched: key.len(),
            settings: route.settings.clone(),
        };
        let known = if route.exact { &mut paths.exact } else { &mut paths.prefixes };
        known.entry(key.to_vec()).or_insert(made);
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Host;

    fn table(hosts: &[(&str, &[&str])]) -> Table {
        let mut config = NodeConfig::default();
        for (name, paths) in hosts {
            let route = |path: &&str| {
                let backend = format!("{name} {path}");
                let (exact, path) = path.strip_prefix('=').map_or((false, *path), |path| (true, path));
                config.backends.insert(backend.clone(), config::Backend::default());
                config::Route { path: path.to_owned(), exact, backend, ..config::Route::default() }
            };
            let routes = paths.iter().map(route).collect();
            config.hosts.push(Host { name: (*name).to_owned(), routes });
        }
        Table::new(&config, &Table::default())
    }

    #[track_caller]
    fn check(table: &Table, host: &str, path: &str, expected: Option<&str>) {
        let route = table.route(host.as_bytes(), path.as_bytes());
        let expected = expected.map(|name| Member::new("backend", name));
        assert_eq!(route.map(|route| &route.member), expected.as_ref(), "{host}{path}");
    }

    /// The table of examples of the API's documentation, `networking.k8s.io/v1`.
    #[test]
    fn prefixes_match_whole_elements() {
        let one = |path: &'static str| table(&[("h", &[path])]);
        for (rule, path, matches) in [
            ("/", "/anything", true),
            ("=/foo", "/foo", true),
            ("=/foo", "/bar", false),
            ("=/foo", "/foo/", false),
            ("=/foo/", "/foo", false),
            ("/foo", "/foo", true),
            ("/foo", "/foo/", true),
            ("/foo/", "/foo", true),
            ("/foo/", "/foo/", true),
            ("/aaa/bb", "/aaa/bbb", false),
            ("/aaa/bbb", "/aaa/bbb", true),
            ("/aaa/bbb/", "/aaa/bbb", true),
            ("/aaa/bbb", "/aaa/bbb/", true),
            ("/aaa/bbb", "/aaa/bbb/ccc", true),
            ("/aaa/bbb", "/aaa/bbbxyz", false),
        ] {
            assert_eq!(one(rule).route(b"h", path.as_bytes()).is_some(), matches, "{rule} {path}");
        }
    }

    #[test]
    fn the_longest_path_wins_and_a_whole_one_before_a_prefix() {
        let table = table(&[("h", &["/", "/aaa", "/aaa/bbb", "=/aaa/bbb"])]);
        check(&table, "h", "/aaa/ccc", Some("h /aaa"));
        check(&table, "h", "/aaa/bbb/c", Some("h /aaa/bbb"));
        check(&table, "h", "/aaa/bbb", Some("h =/aaa/bbb"));
        check(&table, "h", "/ccc", Some("h /"));
    }

    #[test]
    fn hosts_go_by_name_then_asterisk_then_rest() {
        let table = table(&[("a.test", &["/"]), ("*.test", &["/"]), ("", &["/rest"])]);
        check(&table, "a.test", "/", Some("a.test /"));
        check(&table, "b.test", "/", Some("*.test /"));
        check(&table, "c.b.test", "/rest", Some(" /rest"));
        check(&table, "test", "/rest", Some(" /rest"));
        check(&table, "other", "/", None);
    }

    #[test]
    fn endpoints_go_on_in_a_new_table() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        let with = |draining: bool| {
            let endpoints = vec![config::Endpoint { address, draining }];
            let backends = [("b".to_owned(), config::Backend { endpoints })].into();
            NodeConfig { backends, ..NodeConfig::default() }
        };
        let first = Table::new(&with(false), &Table::default());
        let second = Table::new(&with(true), &first);
        assert!(Arc::ptr_eq(&first.endpoints[&address], &second.endpoints[&address]));
        let third = Table::new(&NodeConfig::default(), &second);
        third.take_over(&second);
        assert!(first.endpoints[&address].is_retired());
    }
}
