//! Files that every container of a pod gets: `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, as text.

use std::net::IpAddr;

use corten_apimachinery::value::Value;

use crate::pod::Pod;

/// Search domains that a resolver may have (resolv.conf(5) of today's libraries).
const SEARCH_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;
const NAMESERVERS_MAX: usize = 3;

/// What host names mean in the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'a> {
    pub cluster_domain: &'a str,
    pub cluster_dns: &'a [IpAddr],
}

/// The pod's host name and, for a pod with a subdomain, its domain.
pub fn hostname(pod: Pod<'_>, cluster_domain: &str) -> (String, String) {
    let overriding = pod.spec_str("hostnameOverride");
    if !overriding.is_empty() {
        return (truncated(overriding), String::new());
    }
    let own = pod.spec_str("hostname");
    let name = truncated(if own.is_empty() { pod.name() } else { own });
    let subdomain = pod.spec_str("subdomain");
    let domain = if subdomain.is_empty() {
        String::new()
    } else {
        format!("{subdomain}.{}.svc.{cluster_domain}", pod.namespace())
    };
    (name, domain)
}

/// A host name has 63 characters at most.
fn truncated(name: &str) -> String {
    let end = name.len().min(63);
    name.get(..end).unwrap_or(name).trim_end_matches(['-', '.']).to_owned()
}

/// `/etc/hosts`. A pod in the node's network has the node's.
pub fn hosts(pod: Pod<'_>, addresses: &[IpAddr], cluster_domain: &str, of_node: &str) -> String {
    let mut text = String::new();
    if pod.is_host_network() {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(of_node);
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n");
        text.push_str("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n");
        text.push_str("fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (name, domain) = hostname(pod, cluster_domain);
        for address in addresses {
            let line = if domain.is_empty() {
                format!("{address}\t{name}\n")
            } else {
                format!("{address}\t{name}.{domain}\t{name}\n")
            };
            text.push_str(&line);
        }
    }
    let aliases = pod.spec_list("hostAliases");
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = texts(alias.get("hostnames"));
        text.push_str(&format!("{}\t{}\n", alias.str_at(&["ip"]), names.join("\t")));
    }
    text
}

/// `/etc/resolv.conf` by the pod's policy; `of_node` is the node's.
pub fn resolv_conf(pod: Pod<'_>, naming: Naming<'_>, of_node: &str) -> String {
    let host = Resolver::parse(of_node);
    let mut resolver = match pod.spec_str("dnsPolicy") {
        "None" => Resolver::default(),
        "Default" => host,
        "ClusterFirstWithHostNet" => cluster(pod, naming, host),
        _ if pod.is_host_network() => host,
        _ => cluster(pod, naming, host),
    };
    if let Some(config) = pod.spec("dnsConfig").filter(|config| !config.is_null()) {
        resolver.add(config);
    }
    resolver.text()
}

fn cluster(pod: Pod<'_>, naming: Naming<'_>, host: Resolver) -> Resolver {
    let domain = naming.cluster_domain;
    let mut search = vec![format!("{}.svc.{domain}", pod.namespace()), format!("svc.{domain}"), domain.to_owned()];
    search.extend(host.search.into_iter().filter(|name| name != "."));
    Resolver {
        nameservers: naming.cluster_dns.iter().map(ToString::to_string).collect(),
        search: without_repeats(search),
        options: vec!["ndots:5".to_owned()],
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolver {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => found.nameservers.extend(words.next().map(str::to_owned)),
                Some("search") => found.search = words.map(|name| trim_dot(name).to_owned()).collect(),
                Some("options") => found.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        found
    }

    fn add(&mut self, config: &Value) {
        self.nameservers.extend(texts(config.get("nameservers")));
        self.nameservers = without_repeats(std::mem::take(&mut self.nameservers));
        self.search.extend(texts(config.get("searches")));
        self.search = without_repeats(std::mem::take(&mut self.search));
        for option in config.get("options").and_then(Value::as_array).unwrap_or_default() {
            let name = option.str_at(&["name"]);
            let known = |text: &String| text.split(':').next() == Some(name);
            self.options.retain(|text| !known(text));
            let value = option.str_at(&["value"]);
            self.options.push(if value.is_empty() { name.to_owned() } else { format!("{name}:{value}") });
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if !self.search.is_empty() {
            let mut line = String::new();
            for name in self.search.iter().take(SEARCH_MAX) {
                if line.len() + name.len() < SEARCH_CHARS_MAX {
                    line.push(' ');
                    line.push_str(name);
                }
            }
            text.push_str(&format!("search{line}\n"));
        }
        for address in self.nameservers.iter().take(NAMESERVERS_MAX) {
            text.push_str(&format!("nameserver {address}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn trim_dot(name: &str) -> &str {
    if name == "." { name } else { name.trim_end_matches('.') }
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn without_repeats(names: Vec<String>) -> Vec<String> {
    let mut seen: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    const OF_NODE: &str = "# mine\nnameserver 192.0.2.53\nsearch lan. cluster.local\noptions edns0\n";

    #[track_caller]
    fn check(spec: Value, expect: &str) {
        let pod = value!({"metadata": {"name": "a", "namespace": "shop"}, "spec": spec});
        let dns = ["10.96.0.10".parse().expect("an address")];
        let naming = Naming { cluster_domain: "cluster.local", cluster_dns: &dns };
        assert_eq!(resolv_conf(Pod(&pod), naming, OF_NODE).replace('\n', "; "), expect);
    }

    #[test]
    fn names_are_resolved_by_policy() {
        let cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local lan; nameserver 10.96.0.10; options ndots:5; ";
        let host = "search lan cluster.local; nameserver 192.0.2.53; options edns0; ";
        check(value!({"dnsPolicy": "ClusterFirst"}), cluster);
        check(value!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}), host);
        check(value!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster);
        check(value!({"dnsPolicy": "Default"}), host);
        let config =
            value!({"nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]});
        check(
            value!({"dnsPolicy": "None", "dnsConfig": (config.clone())}),
            "search x; nameserver 1.1.1.1; options ndots:2; ",
        );
        check(
            value!({"dnsPolicy": "Default", "dnsConfig": config}),
            "search lan cluster.local x; nameserver 192.0.2.53; nameserver 1.1.1.1; options edns0 ndots:2; ",
        );
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let alias = value!({"ip": "192.0.2.1", "hostnames": ["x", "y"]});
        let spec = value!({"subdomain": "web", "hostAliases": [alias]});
        let pod = value!({"metadata": {"name": "a", "namespace": "shop"}, "spec": spec});
        let text = hosts(Pod(&pod), &["10.244.0.2".parse().expect("an address")], "cluster.local", "");
        let end = "fe00::2\tip6-allrouters\n10.244.0.2\ta.web.shop.svc.cluster.local\ta\n\n# Entries added by HostAliases.\n192.0.2.1\tx\ty\n";
        assert!(
            text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n") && text.ends_with(end),
            "{text}"
        );
    }

    #[test]
    fn a_host_name_is_short() {
        let pod = value!({"metadata": {"name": ("a".repeat(62) + "-" + "b"), "namespace": "shop"}});
        assert_eq!(hostname(Pod(&pod), "x").0, "a".repeat(62));
    }
}
