//! What the tests need of the machine, beyond Rust. Missing means: not run, said loudly, and a failure.

use anyhow::{Result, bail};

use crate::step::output;

/// A tool, how to see that it is there, and how to get it.
pub(crate) struct Requirement {
    pub(crate) what: &'static str,
    pub(crate) probe: (&'static str, &'static [&'static str]),
    /// The least version, as it is printed, where one matters.
    pub(crate) least: Option<(u32, u32)>,
    pub(crate) get: &'static str,
}

pub(crate) const TEST: [Requirement; 16] = [
    Requirement {
        what: "a C compiler (the TLS library is compiled from source)",
        probe: ("cc", &["--version"]),
        least: None,
        get: "apt-get install -y build-essential",
    },
    Requirement {
        what: "Go (golden objects and the real Kubernetes come as Go modules)",
        probe: ("go", &["env", "GOVERSION"]),
        least: Some((1, 26)),
        get: "install Go 1.26 or newer from https://go.dev/dl/ and put its bin folder on PATH",
    },
    Requirement {
        what: "Python with virtual environments (its Kubernetes client is one of the judges)",
        probe: ("python3", &["-m", "venv", "--help"]),
        least: None,
        get: "apt-get install -y python3-venv",
    },
    Requirement {
        what: "a mail server in Debian's Python (e-mails of notifiers go there)",
        probe: ("/usr/bin/python3", &["-c", "import aiosmtpd; print(aiosmtpd.__version__)"]),
        least: None,
        get: "apt-get install -y python3-aiosmtpd",
    },
    Requirement {
        what: "busybox, linked statically (the files of test containers)",
        probe: ("busybox", &["true"]),
        least: None,
        get: "apt-get install -y busybox-static",
    },
    Requirement {
        what: "e2fsprogs (the file systems of persistent volumes)",
        probe: ("mkfs.ext4", &["-V"]),
        least: None,
        get: "apt-get install -y e2fsprogs",
    },
    Requirement {
        what: "runc (our runtime is compared with it)",
        probe: ("runc", &["--version"]),
        least: None,
        get: "apt-get install -y runc",
    },
    Requirement {
        what: "mmdebstrap (the base of an example's image)",
        probe: ("mmdebstrap", &["--version"]),
        least: None,
        get: "apt-get install -y mmdebstrap",
    },
    Requirement {
        what: "Chromium (a browser is to show the example)",
        probe: ("chromium", &["--version"]),
        least: None,
        get: "apt-get install -y chromium",
    },
    Requirement {
        what: "nft (what is left in the kernel is listed by it)",
        probe: ("nft", &["--version"]),
        least: None,
        get: "apt-get install -y nftables",
    },
    Requirement {
        what: "ip (networks of tests are made by it)",
        probe: ("ip", &["-V"]),
        least: None,
        get: "apt-get install -y iproute2",
    },
    Requirement {
        what: "curl (the story's scripts ask for pages by it)",
        probe: ("curl", &["--version"]),
        least: None,
        get: "apt-get install -y curl",
    },
    Requirement {
        what: "openssl (a certificate of the story)",
        probe: ("openssl", &["version"]),
        least: None,
        get: "apt-get install -y openssl",
    },
    Requirement {
        what: "time zones (schedules of cron jobs name them)",
        probe: ("test", &["-e", "/usr/share/zoneinfo/Europe/Berlin"]),
        least: None,
        get: "apt-get install -y tzdata",
    },
    Requirement {
        what: "systemd (it runs a server of the tests; here it need not run)",
        probe: ("/lib/systemd/systemd", &["--version"]),
        least: None,
        get: "apt-get install -y --no-install-recommends systemd",
    },
    Requirement {
        what: "qemu (an emulated server has control groups of v2 alone)",
        probe: ("qemu-system-x86_64", &["--version"]),
        least: None,
        get: "apt-get install -y --no-install-recommends qemu-system-x86",
    },
];

/// What the edge is measured with.
pub(crate) const EDGE_BENCH: [Requirement; 2] = [
    Requirement {
        what: "nginx (the edge's peer)",
        probe: ("nginx", &["-v"]),
        least: None,
        get: "apt-get install -y nginx",
    },
    Requirement { what: "wrk (the load)", probe: ("which", &["wrk"]), least: None, get: "apt-get install -y wrk" },
];

/// An error that lists everything that is missing and how to get it.
pub(crate) fn check(requirements: &[Requirement]) -> Result<()> {
    let missing: Vec<String> = requirements.iter().filter_map(Requirement::missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks what the tests need:\n{}", missing.join("\n"));
}

impl Requirement {
    fn missing(&self) -> Option<String> {
        let found = output(self.probe.0, self.probe.1);
        let enough = |text: &String| self.least.is_none_or(|least| version(text) >= Some(least));
        if found.as_ref().is_some_and(enough) {
            return None;
        }
        let found = found.map_or("not found".to_owned(), |text| format!("found {text}"));
        Some(format!("  - {}: {found}. {}", self.what, self.get))
    }
}

/// The first `N.M` in a version text.
fn version(text: &str) -> Option<(u32, u32)> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version("go1.26.8"), Some((1, 26)));
        assert!(version("go1.9") < Some((1, 26)));
        assert!(version("Python 3.11.7") >= Some((3, 9)));
        assert_eq!(version("devel"), None);
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let absent = Requirement { what: "a tool", probe: ("no-such-tool", &[]), least: None, get: "make it" };
        let old = Requirement { what: "echo", probe: ("echo", &["1.2"]), least: Some((1, 3)), get: "update it" };
        let error = check(&[absent, old]).unwrap_err().to_string();
        assert!(error.ends_with("  - a tool: not found. make it\n  - echo: found 1.2. update it"), "{error}");
        let new = Requirement { what: "echo", probe: ("echo", &["1.2"]), least: Some((1, 2)), get: "" };
        assert!(check(&[new]).is_ok());
    }
}
