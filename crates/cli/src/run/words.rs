//! What stands behind the options of `run`: ports, variables, volumes and amounts. Each refusal says what would be right.

use corten_apimachinery::name::dns1123_label;
use corten_apimachinery::quantity::Quantity;

/// `8080`, or `80:8080`: where the Service takes connections, and where the container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) service: u16,
    pub(crate) container: u16,
}

/// `K=V`; a name alone takes its value from the environment of this command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// `data:/var/lib/x[:size=5Gi]` or `/host:/path[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) source: Source,
    /// Inside the container.
    pub(crate) target: String,
    pub(crate) readonly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Kept by the cluster under this name; how large, where that was said.
    Named { name: String, size: Option<String> },
    /// A folder of the server that the pod runs on.
    Host(String),
}

pub(crate) fn port(text: &str) -> Result<Port, String> {
    let number = |text: &str| match text.parse() {
        Ok(number @ 1..) => Ok(number),
        _ => Err(format!("{text:?} is no port; write 8080, or 80:8080 for port 80 of the Service")),
    };
    let (service, container) = text.split_once(':').unwrap_or((text, text));
    Ok(Port { service: number(service)?, container: number(container)? })
}

pub(crate) fn variable(text: &str) -> Result<Variable, String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(text);
            (text, value.map_err(|_| format!("{text} is not set here; write {text}=VALUE"))?)
        }
    };
    if name.is_empty() {
        return Err("a variable has a name; write NAME=VALUE".to_owned());
    }
    Ok(Variable { name: name.to_owned(), value })
}

pub(crate) fn volume(text: &str) -> Result<Volume, String> {
    let shape =
        || format!("{text:?} is no volume; write data:/var/lib/x for one that is kept, /host/dir:/path for a folder");
    let mut parts = text.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(shape)?);
    if source.is_empty() || !target.starts_with('/') {
        return Err(shape());
    }
    let (mut readonly, mut size) = (false, None);
    for option in parts.next().into_iter().flat_map(|options| options.split(',')) {
        match option.split_once('=') {
            None if option == "ro" => readonly = true,
            None if option == "rw" => readonly = false,
            Some(("size", amount)) => size = Some(bytes(amount)?),
            _ => return Err(format!("{option:?} is no option of a volume; there are ro and size=5Gi")),
        }
    }
    let source = if source.starts_with('/') {
        if size.is_some() {
            return Err("a folder of the server has no size of its own; leave size= out".to_owned());
        }
        Source::Host(source.to_owned())
    } else {
        if !dns1123_label(source).is_empty() {
            let next = "letters, digits and dashes, or begin with / for a folder of the server";
            return Err(format!("{source:?} cannot be a volume's name; use {next}"));
        }
        Source::Named { name: source.to_owned(), size }
    };
    Ok(Volume { source, target: target.to_owned(), readonly })
}

/// An amount of bytes, as it was written. Docker's `256m` would be a quarter of a byte in Kubernetes, and is not guessed at.
pub(crate) fn bytes(text: &str) -> Result<String, String> {
    let amount = Quantity::parse(text).map_err(|_| format!("{text:?} is no amount of bytes; write 256Mi or 2Gi"))?;
    if text.ends_with('m') {
        return Err(format!("{text} means thousandths; write {}Mi", text.trim_end_matches('m')));
    }
    if amount.value() <= 0 {
        return Err(format!("{text} is not more than nothing; write 256Mi or 2Gi"));
    }
    Ok(text.to_owned())
}

/// Bytes a second.
pub(crate) fn rate(text: &str) -> Result<String, String> {
    bytes(text).map_err(|said| said.replace("256Mi or 2Gi", "5M or 512Ki"))
}

/// Processors, such as `0.5` or `500m`.
pub(crate) fn processors(text: &str) -> Result<String, String> {
    let said = || format!("{text:?} is no number of processors; write 0.5, 2 or 500m");
    let amount = Quantity::parse(text).map_err(|_| said())?;
    if amount.milli_value() > 0 { Ok(text.to_owned()) } else { Err(said()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let check = |text: &str, expect: Option<(u16, u16)>| {
            assert_eq!(port(text).ok().map(|port| (port.service, port.container)), expect, "{text}");
        };
        check("8080", Some((8080, 8080)));
        check("80:8080", Some((80, 8080)));
        for bad in ["", "0", "80:", "a", "65536", "1:2:3"] {
            check(bad, None);
        }
    }

    #[test]
    fn variables() {
        let check = |text: &str, name: &str, value: &str| {
            assert_eq!(variable(text), Ok(Variable { name: name.to_owned(), value: value.to_owned() }));
        };
        check("A=1", "A", "1");
        check("A=b=c", "A", "b=c");
        check("A=", "A", "");
        assert!(variable("CORTEN_NOT_SET_ANYWHERE").is_err() && variable("=1").is_err());
    }

    #[test]
    fn volumes() {
        let named =
            |name: &str, size: Option<&str>| Source::Named { name: name.to_owned(), size: size.map(str::to_owned) };
        let check = |text: &str, source: Source, target: &str, readonly: bool| {
            assert_eq!(volume(text), Ok(Volume { source, target: target.to_owned(), readonly }));
        };
        check("data:/var/lib/x", named("data", None), "/var/lib/x", false);
        check("data:/x:size=5Gi,ro", named("data", Some("5Gi")), "/x", true);
        check("/srv/site:/www:ro", Source::Host("/srv/site".to_owned()), "/www", true);
        for bad in ["", "data", "data:x", ":/x", "Data:/x", "data:/x:z", "/a:/b:size=1Gi", "data:/x:size=1m"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts() {
        for good in ["256Mi", "1G", "5M", "1000000"] {
            assert_eq!(bytes(good).as_deref(), Ok(good));
        }
        assert_eq!(bytes("256m"), Err("256m means thousandths; write 256Mi".to_owned()));
        assert_eq!(rate("fast"), Err("\"fast\" is no amount of bytes; write 5M or 512Ki".to_owned()));
        for bad in ["", "0", "-1", "lots"] {
            assert!(bytes(bad).is_err() && rate(bad).is_err() && processors(bad).is_err(), "{bad}");
        }
        for good in ["0.5", "2", "500m"] {
            assert_eq!(processors(good).as_deref(), Ok(good));
        }
    }
}
