//! The annotations of ingress-nginx that its users rely on most, as settings of a route. The project ended in March 2026; the
//! annotations live on. One that is not known or not understood changes nothing.

use corten_apimachinery::value::Str;
use corten_proxy::config::Settings;

/// How ingress-nginx's users write "everything behind this prefix": the second capture is the rest.
const REST: &str = "(/|$)(.*)";

/// What annotations say of every route of an Ingress.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    pub(super) redirect: Redirect,
    pub(super) rewrite_target: Option<String>,
    settings: Settings,
}

/// Whether plain requests are sent on to TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Where the host has TLS.
    #[default]
    WithTls,
    Always,
    Never,
}

impl Annotations {
    pub(super) fn read(annotations: &[(Str, Str)]) -> Self {
        let mut read = Self::default();
        for (name, value) in annotations {
            read.one(name, value.trim());
        }
        read
    }

    fn one(&mut self, name: &str, value: &str) {
        let settings = &mut self.settings;
        match name {
            "ssl-redirect" if value == "false" && self.redirect != Redirect::Always => self.redirect = Redirect::Never,
            "force-ssl-redirect" if value == "true" => self.redirect = Redirect::Always,
            "rewrite-target" if value.starts_with('/') => self.rewrite_target = Some(value.to_owned()),
            "proxy-body-size" => settings.body_bytes_max = bytes(value).unwrap_or(settings.body_bytes_max),
            "proxy-connect-timeout" => {
                settings.connect_timeout_ms = milliseconds(value).unwrap_or(settings.connect_timeout_ms);
            }
            "proxy-read-timeout" => settings.read_timeout_ms = milliseconds(value).unwrap_or(settings.read_timeout_ms),
            _ => {}
        }
    }

    /// The path and the settings of one route.
    pub(super) fn route(&self, path: &str, host_has_tls: bool) -> (String, Settings) {
        let redirect_to_https = match self.redirect {
            Redirect::WithTls => host_has_tls,
            Redirect::Always => true,
            Redirect::Never => false,
        };
        let settings = Settings { redirect_to_https, ..self.settings.clone() };
        let Some(target) = &self.rewrite_target else { return (path.to_owned(), settings) };
        match (path.strip_suffix(REST), target.strip_suffix("$2")) {
            (Some(prefix), Some(target)) => {
                let prefix = if prefix.is_empty() { "/" } else { prefix };
                (prefix.to_owned(), Settings { rewrite_prefix: Some(target.to_owned()), ..settings })
            }
            _ if target.contains('$') => (path.to_owned(), settings),
            _ => (path.to_owned(), Settings { rewrite_path: Some(target.clone()), ..settings }),
        }
    }
}

/// A size as nginx writes it: `8m`, `1024k`, `0` for any.
fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Seconds, with or without an `s`.
fn milliseconds(text: &str) -> Option<u64> {
    let seconds: u64 = text.strip_suffix('s').unwrap_or(text).parse().ok()?;
    (1..=86_400).contains(&seconds).then_some(seconds * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Annotations {
        let annotations: Vec<_> = annotations.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Annotations::read(&annotations)
    }

    #[test]
    fn plain_requests_are_sent_on_where_there_is_tls() {
        let redirects = |annotations: &[(&str, &str)], tls| read(annotations).route("/", tls).1.redirect_to_https;
        assert!(redirects(&[], true) && !redirects(&[], false));
        assert!(!redirects(&[("ssl-redirect", "false")], true));
        assert!(redirects(&[("force-ssl-redirect", "true")], false));
        assert!(redirects(&[("force-ssl-redirect", "true"), ("ssl-redirect", "false")], true));
    }

    #[test]
    fn rewrites() {
        let rewritten = |path: &str, target: &str| {
            let (path, settings) = read(&[("rewrite-target", target)]).route(path, false);
            (path, settings.rewrite_prefix, settings.rewrite_path)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(rewritten("/api(/|$)(.*)", "/$2"), ("/api".to_owned(), some("/"), None));
        assert_eq!(rewritten("/api(/|$)(.*)", "/v1/$2"), ("/api".to_owned(), some("/v1/"), None));
        assert_eq!(rewritten("/api", "/"), ("/api".to_owned(), None, some("/")));
        assert_eq!(rewritten("/a(b)c", "/$1"), ("/a(b)c".to_owned(), None, None));
    }

    #[test]
    fn limits() {
        let settings = read(&[("proxy-body-size", "8m"), ("proxy-read-timeout", "120")]).route("/", false).1;
        assert_eq!((settings.body_bytes_max, settings.read_timeout_ms), (8 << 20, 120_000));
        let settings = read(&[("proxy-body-size", "lots"), ("proxy-read-timeout", "-1")]).route("/", false).1;
        assert_eq!(settings, Settings::default());
    }
}
