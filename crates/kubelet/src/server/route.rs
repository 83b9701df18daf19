//! Paths and queries, as upstream's kubelet has them.

use corten_apimachinery::time::Time;
use corten_streaming::remote::Wanted;
use http::Uri;

use super::answer::Refusal;

/// A pod, and for most routes a container of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Empty where the path does not name it.
    pub(super) uid: String,
    pub(super) container: String,
}

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) since_seconds: Option<i64>,
    /// As RFC 3339.
    pub(super) since_time: Option<String>,
    pub(super) tail_lines: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    /// `stdout` or `stderr` alone.
    pub(super) stream: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Healthz,
    Pods,
    Summary,
    Metrics,
    Resource,
    Logs {
        target: Target,
        options: Result<LogOptions, Refusal>,
    },
    Exec {
        target: Target,
        wanted: Result<Wanted, Refusal>,
        command: Vec<String>,
    },
    Attach {
        target: Target,
        wanted: Result<Wanted, Refusal>,
    },
    PortForward {
        target: Target,
        ports: Result<Vec<u16>, Refusal>,
    },
    /// `registry.example/team/app`, and a tag or digest.
    Manifest {
        repository: String,
        version: String,
    },
    Blob {
        digest: String,
    },
}

impl Route {
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let query = Query::parse(uri.query().unwrap_or_default());
        let parts: Vec<String> =
            uri.path().split('/').skip(1).map(|part| decode(part, false)).collect::<Option<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Some(match parts.as_slice() {
            ["healthz" | "healthz/"] => Self::Healthz,
            ["pods"] => Self::Pods,
            ["metrics"] => Self::Metrics,
            ["metrics", "resource"] => Self::Resource,
            ["stats", "summary"] => Self::Summary,
            ["containerLogs", namespace, pod, container] => {
                Self::Logs { target: target(namespace, pod, "", container), options: query.log_options() }
            }
            ["exec", namespace, pod, container] => query.exec(target(namespace, pod, "", container)),
            ["exec", namespace, pod, uid, container] => query.exec(target(namespace, pod, uid, container)),
            ["attach", namespace, pod, container] => query.attach(target(namespace, pod, "", container)),
            ["attach", namespace, pod, uid, container] => query.attach(target(namespace, pod, uid, container)),
            ["portForward", namespace, pod] => query.forward(target(namespace, pod, "", "")),
            ["portForward", namespace, pod, uid] => query.forward(target(namespace, pod, uid, "")),
            ["v2", path @ .., "manifests", version] => {
                let repository = format!("{}/{}", query.first("ns")?, path.join("/"));
                Self::Manifest { repository, version: (*version).to_owned() }
            }
            ["v2", .., "blobs", digest] => Self::Blob { digest: (*digest).to_owned() },
            _ => return None,
        })
    }
}

fn target(namespace: &str, pod: &str, uid: &str, container: &str) -> Target {
    let [namespace, pod, uid, container] = [namespace, pod, uid, container].map(str::to_owned);
    Target { namespace, pod, uid, container }
}

struct Query(Vec<(String, String)>);

impl Query {
    fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        });
        Self(pairs.collect())
    }

    fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    fn first<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).next()
    }

    fn flag(&self, key: &str) -> bool {
        self.first(key).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    fn wanted(&self) -> Result<Wanted, Refusal> {
        let is = |key| self.first(key) == Some("1");
        let tty = is("tty");
        // A terminal has one stream of output.
        let wanted = Wanted { stdin: is("input"), stdout: is("output"), stderr: is("error") && !tty, tty };
        if !wanted.stdin && !wanted.stdout && !wanted.stderr {
            return Err(Refusal::bad("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(wanted)
    }

    fn exec(&self, target: Target) -> Route {
        let command = self.all("command").map(str::to_owned).collect();
        Route::Exec { target, wanted: self.wanted(), command }
    }

    fn attach(&self, target: Target) -> Route {
        Route::Attach { target, wanted: self.wanted() }
    }

    /// Ports may come one by one or with commas.
    fn forward(&self, target: Target) -> Route {
        let ports = self.all("port").flat_map(|ports| ports.split(',')).filter(|port| !port.is_empty());
        let port = |text: &str| {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            port.ok_or_else(|| Refusal::bad(format!("unable to parse {text:?} as a port")))
        };
        Route::PortForward { target, ports: ports.map(port).collect() }
    }

    fn log_options(&self) -> Result<LogOptions, Refusal> {
        let invalid = || Refusal::new(http::StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#);
        let tail = self.first("tail").filter(|tail| *tail != "all").or_else(|| self.first("tailLines"));
        let stream = match self.first("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(_) => return Err(invalid()),
        };
        let since_time = self.first("sinceTime").filter(|time| !time.is_empty()).map(str::to_owned);
        let options = LogOptions {
            follow: self.flag("follow"),
            previous: self.flag("previous"),
            timestamps: self.flag("timestamps"),
            since_seconds: number(self.first("sinceSeconds"))?,
            since_time,
            tail_lines: number(tail)?.map(|lines| u64::try_from(lines).map_err(|_| invalid())).transpose()?,
            limit_bytes: number(self.first("limitBytes"))?
                .map(|bytes| u64::try_from(bytes).map_err(|_| invalid()))
                .transpose()?,
            stream,
        };
        let since = options.since_seconds.is_some_and(|seconds| seconds < 1);
        let both = options.since_seconds.is_some() && options.since_time.is_some();
        let tail_of_one = options.stream.is_some() && options.tail_lines.is_some();
        if since || both || tail_of_one || options.limit_bytes == Some(0) {
            return Err(invalid());
        }
        if options.since_time.as_ref().is_some_and(|time| Time::parse(time).is_err()) {
            return Err(undecodable());
        }
        Ok(options)
    }
}

fn undecodable() -> Refusal {
    Refusal::bad(r#"{"message": "Unable to decode query."}"#)
}

fn number(text: Option<&str>) -> Result<Option<i64>, Refusal> {
    let number = text.filter(|text| !text.is_empty()).map(str::parse);
    number.transpose().map_err(|_| undecodable())
}

/// Percent-decoding; in a query a plus is a blank.
fn decode(text: &str, query: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(bytes.next()?)? << 4 | digit(bytes.next()?)?;
                u8::try_from(value).ok()?
            }
            b'+' if query => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(uri: &str) -> Option<Route> {
        Route::of(&uri.parse().expect("a URI"))
    }

    #[test]
    fn paths_name_pods_and_containers() {
        let Some(Route::Exec { target, wanted, command }) =
            route("/exec/default/web/c?input=1&output=1&error=1&tty=1&command=sh&command=-c&command=a+%26b")
        else {
            panic!("no exec")
        };
        assert_eq!(target, super::target("default", "web", "", "c"));
        assert_eq!(wanted, Ok(Wanted { stdin: true, stdout: true, stderr: false, tty: true }));
        assert_eq!(command, ["sh", "-c", "a &b"]);
        assert!(
            matches!(route("/attach/a/b/uid/c?output=1"), Some(Route::Attach { target, wanted: Ok(_) }) if target.uid == "uid")
        );
        assert!(matches!(route("/attach/a/b/c"), Some(Route::Attach { wanted: Err(_), .. })));
        assert_eq!(route("/run/a/b/c"), None);
        assert_eq!(route("/healthz"), Some(Route::Healthz));
    }

    #[test]
    fn ports_come_alone_or_together() {
        let ports = |uri: &str| match route(uri) {
            Some(Route::PortForward { ports, .. }) => ports.ok(),
            other => panic!("{other:?}"),
        };
        assert_eq!(ports("/portForward/a/b?port=80&port=81,82"), Some(vec![80, 81, 82]));
        assert_eq!(ports("/portForward/a/b"), Some(vec![]));
        assert_eq!(ports("/portForward/a/b?port=0"), None);
    }

    #[test]
    fn log_options_are_checked() {
        let code = |query: &str| match route(&format!("/containerLogs/a/b/c?{query}")) {
            Some(Route::Logs { options, .. }) => options.map_err(|refusal| refusal.code.as_u16()),
            other => panic!("{other:?}"),
        };
        let all =
            code("follow=true&timestamps=1&tailLines=3&limitBytes=9&sinceTime=2026-01-02T03:04:05Z").expect("good");
        assert!(all.follow && all.timestamps && !all.previous);
        assert_eq!((all.tail_lines, all.limit_bytes), (Some(3), Some(9)));
        assert_eq!(code("stream=Stderr").expect("good").stream, Some("stderr"));
        for (query, expect) in [
            ("tailLines=-1", 422),
            ("limitBytes=0", 422),
            ("sinceSeconds=0", 422),
            ("sinceSeconds=5&sinceTime=2026-01-02T03:04:05Z", 422),
            ("stream=Stdout&tailLines=1", 422),
            ("stream=both", 422),
            ("tailLines=x", 400),
            ("sinceTime=yesterday", 400),
        ] {
            assert_eq!(code(query), Err(expect), "{query}");
        }
    }
}
