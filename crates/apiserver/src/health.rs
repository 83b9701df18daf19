//! `/healthz`, `/livez`, `/readyz` with named checks, and `/version`.

use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use futures_core::future::BoxFuture;

use crate::http::body::{self, Response};
use crate::http::query::Query;

/// What `/version` says. Clients parse `major`, `minor` and `git_version`.
#[derive(Clone, Debug, Default)]
pub struct VersionInfo {
    pub major: String,
    pub minor: String,
    /// `v1.36.3` with what identifies the build behind it.
    pub git_version: String,
    pub git_commit: String,
    pub git_tree_state: String,
    pub build_date: String,
    pub compiler: String,
    pub platform: String,
}

impl VersionInfo {
    pub fn to_value(&self) -> Value {
        let text = |text: &String| Value::from(text.as_str());
        let mut info = value!({
            "major": (text(&self.major)), "minor": (text(&self.minor)),
            "emulationMajor": (text(&self.major)), "emulationMinor": (text(&self.minor)),
            "gitVersion": (text(&self.git_version)), "gitCommit": (text(&self.git_commit)),
            "gitTreeState": (text(&self.git_tree_state)), "buildDate": (text(&self.build_date)),
            "goVersion": "", "compiler": (text(&self.compiler)), "platform": (text(&self.platform)),
        });
        let minor_before = self.minor.parse::<u32>().unwrap_or(1).saturating_sub(1).to_string();
        let map = info.as_object_mut().expect("made an object above");
        map.insert("minCompatibilityMajor", self.major.as_str());
        map.insert("minCompatibilityMinor", minor_before);
        info
    }
}

/// One thing that has to be in order.
pub trait Check: Send + Sync {
    fn check(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// The checks by name. `ping` is always among them.
#[derive(Clone, Default)]
pub struct Checks(Vec<Named>);

#[derive(Clone)]
struct Named {
    name: String,
    /// Part of `/livez` too: a failure means that only a restart helps.
    live: bool,
    check: Arc<dyn Check>,
}

impl Checks {
    /// Registers a check for `/readyz` and `/healthz`, and where `live` for `/livez`.
    pub fn register(&mut self, name: &str, live: bool, check: Arc<dyn Check>) {
        self.0.push(Named { name: name.to_owned(), live, check });
    }

    /// The paths of all checks, for the index.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for endpoint in ["healthz", "livez", "readyz"] {
            paths.push(format!("/{endpoint}"));
            paths.push(format!("/{endpoint}/ping"));
            let of_endpoint = self.0.iter().filter(|named| endpoint != "livez" || named.live);
            paths.extend(of_endpoint.map(|named| format!("/{endpoint}/{}", named.name)));
        }
        paths
    }

    /// Answers a health path; `None`: it is none, or names no check.
    pub async fn serve(&self, path: &str, query: &Query) -> Option<Response> {
        let (endpoint, only) =
            path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        if !matches!(endpoint, "healthz" | "livez" | "readyz") {
            return None;
        }
        let of_endpoint = self.0.iter().filter(|named| endpoint != "livez" || named.live);
        if !only.is_empty() {
            if only == "ping" {
                return Some(body::text(200, "ok"));
            }
            let named = of_endpoint.into_iter().find(|named| named.name == only)?;
            return Some(match named.check.check().await {
                Ok(()) => body::text(200, "ok"),
                Err(why) => body::text(500, &format!("internal server error: {why}\n")),
            });
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let mut report = String::from("[+]ping ok\n");
        let mut failed = Vec::new();
        for named in of_endpoint {
            let name = &named.name;
            let line = if excluded.contains(&name.as_str()) {
                format!("[+]{name} excluded: ok\n")
            } else if let Err(why) = named.check.check().await {
                tracing::warn!(check = name, why, "health check failed");
                failed.push(name.clone());
                // The cause may be nobody's business on an open port.
                format!("[-]{name} failed: reason withheld\n")
            } else {
                format!("[+]{name} ok\n")
            };
            report.push_str(&line);
        }
        Some(match (failed.is_empty(), query.first("verbose").is_some()) {
            (true, false) => body::text(200, "ok"),
            (true, true) => body::text(200, &format!("{report}{endpoint} check passed\n")),
            (false, _) => body::text(500, &format!("{report}{endpoint} check failed\n")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Result<(), String>);

    impl Check for Fixed {
        fn check(&self) -> BoxFuture<'_, Result<(), String>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    async fn check(checks: &Checks, path: &str, query: &str, expect: Option<(u16, &str)>) {
        let seen = match checks.serve(path, &Query::parse(query)).await {
            None => None,
            Some(response) => {
                let code = response.status().as_u16();
                let bytes = body::read(response.into_body()).await.unwrap();
                Some((code, String::from_utf8(bytes.to_vec()).unwrap()))
            }
        };
        assert_eq!(seen.as_ref().map(|(code, text)| (*code, text.as_str())), expect, "{path}?{query}");
    }

    #[tokio::test]
    async fn endpoints() {
        let mut checks = Checks::default();
        checks.register("store", true, Arc::new(Fixed(Ok(()))));
        check(&checks, "/readyz", "", Some((200, "ok"))).await;
        check(&checks, "/readyz", "verbose", Some((200, "[+]ping ok\n[+]store ok\nreadyz check passed\n"))).await;
        check(&checks, "/livez/store", "", Some((200, "ok"))).await;
        check(&checks, "/livez/none", "", None).await;
        check(&checks, "/metrics", "", None).await;

        checks.register("cache", false, Arc::new(Fixed(Err("not filled".to_owned()))));
        let failed = "[+]ping ok\n[+]store ok\n[-]cache failed: reason withheld\nreadyz check failed\n";
        check(&checks, "/readyz", "", Some((500, failed))).await;
        check(&checks, "/livez", "", Some((200, "ok"))).await;
        check(&checks, "/readyz", "exclude=cache", Some((200, "ok"))).await;
        check(&checks, "/readyz/cache", "", Some((500, "internal server error: not filled\n"))).await;
    }
}
