//! From what is asked ([`ContainerSpec`]) to what the pod process does ([`Start`]): every decision is taken here, the pod
//! process only executes. The defaults are those of containerd, so that images find what they expect.

mod capabilities;
pub(crate) mod devices;
mod failure;
mod host;
mod identity;
mod mounts;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corten_podspec::{Credentials, Output, Root, Setup, Start, Sysctl};

pub(crate) use capabilities::bit as capability;
pub(crate) use failure::{not_run, refused};
pub(crate) use host::Host;
pub(crate) use identity::Identity;

use crate::engine::EngineError;
use crate::spec::{ContainerSpec, PodSpec};

/// Where programs are looked for when nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes of a pod's /dev/shm, as every runtime gives.
const SHM_BYTES: u64 = 64 << 20;

/// Where a container's own files and groups are.
pub(crate) struct Places {
    pub(crate) key: u64,
    pub(crate) upper: CString,
    pub(crate) work: CString,
    /// The group of v2 that it is born in, or empty.
    pub(crate) cgroup2: CString,
    pub(crate) cgroup_joins: Vec<CString>,
}

/// What the pod process is asked first.
pub(crate) fn setup(spec: &PodSpec, cgroup_joins: Vec<CString>) -> Result<Setup, EngineError> {
    let sysctl = |(name, value): (&String, &String)| {
        Ok(Sysctl { path: c_string(name.replace('.', "/"))?, value: c_string(value.as_str())? })
    };
    Ok(Setup {
        cgroup_joins,
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        host_uts: spec.host_network,
        hostname: c_string(spec.hostname.as_str())?,
        sysctls: spec.sysctls.iter().map(sysctl).collect::<Result<_, EngineError>>()?,
        shm_bytes: SHM_BYTES,
        oom_score_adj: Some(-998),
        share_processes: spec.share_processes && !spec.host_pid,
    })
}

/// What the pod process is asked for a container.
pub(crate) fn start(
    host: &Host,
    pod: &PodSpec,
    spec: &ContainerSpec,
    identity: &Identity,
    places: Places,
) -> Result<Start, EngineError> {
    // Nothing is made in a folder of the host.
    let is_own = |folder: &str| !spec.mounts.iter().any(|mount| Path::new(folder).starts_with(&mount.target));
    let own_dev = is_own("/dev");
    let mut symlinks = if own_dev { devices::links() } else { Vec::new() };
    if is_own("/sys/fs/cgroup") {
        symlinks.extend(mounts::control_group_links(host)?);
    }
    Ok(Start {
        key: places.key,
        root: Root {
            lowers: spec.layers.iter().map(c_path).collect::<Result<_, _>>()?,
            upper: places.upper,
            work: places.work,
            readonly: spec.readonly_root,
            as_list: !host.layers_one_by_one,
        },
        mounts: mounts::mounts(host, pod, spec)?,
        devices: if own_dev { devices::nodes(spec)? } else { Vec::new() },
        masked: if is_shown_whole(spec) { Vec::new() } else { host.masked.clone() },
        readonly: if is_shown_whole(spec) { Vec::new() } else { mounts::readonly_paths() },
        output: Output { log_path: c_path(&spec.log_path)? },
        credentials: credentials(host, pod, spec, identity)?,
        cgroup2: places.cgroup2,
        cgroup_joins: places.cgroup_joins,
        host_pid: pod.host_pid,
        symlinks,
        terminal: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
    })
}

const fn is_shown_whole(spec: &ContainerSpec) -> bool {
    spec.security.privileged || spec.security.unmasked_proc
}

fn credentials(
    host: &Host,
    pod: &PodSpec,
    spec: &ContainerSpec,
    identity: &Identity,
) -> Result<Credentials, EngineError> {
    let capabilities = capabilities::chosen(&spec.security)? & host.capabilities;
    Ok(Credentials {
        args: spec.args.iter().map(|arg| c_string(arg.as_str())).collect::<Result<_, _>>()?,
        env: environment(pod, spec, identity)?,
        cwd: c_string(spec.cwd.as_str())?,
        uid: identity.uid,
        gid: identity.gid,
        groups: identity.groups.clone(),
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
        // Nothing is inherited or ambient: what a user other than root may do is decided by files alone.
        inheritable: 0,
        ambient: 0,
        no_new_privs: spec.security.no_new_privileges,
        seccomp: if spec.security.privileged {
            Box::default()
        } else {
            host.filters.program(&spec.security.seccomp, capabilities)?
        },
        oom_score_adj: Some(spec.oom_score_adj),
        ..Credentials::default()
    })
}

/// The variables as given, the last of a name, and those that every container has.
fn environment(pod: &PodSpec, spec: &ContainerSpec, identity: &Identity) -> Result<Vec<CString>, EngineError> {
    let mut chosen: Vec<(&str, &str)> = vec![("PATH", PATH), ("HOSTNAME", &pod.hostname), ("HOME", &identity.home)];
    if spec.tty {
        chosen.push(("TERM", "xterm"));
    }
    chosen.retain(|(name, value)| !value.is_empty() && !spec.env.iter().any(|(given, _)| given == name));
    for (name, value) in &spec.env {
        match chosen.iter_mut().find(|(known, _)| known == name) {
            Some(known) => known.1 = value,
            None => chosen.push((name, value)),
        }
    }
    chosen.into_iter().map(|(name, value)| c_string(format!("{name}={value}"))).collect()
}

pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> Result<CString, EngineError> {
    CString::new(text).map_err(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).into_owned();
        EngineError::Invalid(format!("{text:?} holds a zero byte"))
    })
}

pub(crate) fn c_path(path: impl AsRef<Path>) -> Result<CString, EngineError> {
    c_string(path.as_ref().as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_variable_of_a_name_wins_and_defaults_fill_gaps() {
        let pod = PodSpec { hostname: "web-0".to_owned(), ..PodSpec::default() };
        let identity = Identity { home: "/root".to_owned(), ..Identity::default() };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let env = vec![pair("A", "1"), pair("HOME", "/srv"), pair("A", "2")];
        let spec = ContainerSpec { env, ..ContainerSpec::default() };
        let expected = [&format!("PATH={PATH}"), "HOSTNAME=web-0", "A=2", "HOME=/srv"];
        let texts: Vec<_> = environment(&pod, &spec, &identity).unwrap();
        let texts: Vec<_> = texts.iter().map(|text| text.to_str().unwrap()).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn nothing_is_made_where_the_host_is_mounted() {
        let (host, pod) = (Host { cgroup1: vec!["cpu,cpuacct".to_owned()], ..Host::default() }, PodSpec::default());
        let made = |targets: &[&str]| {
            let mount = |target: &&str| crate::spec::Mount {
                source: "/x".into(),
                target: target.into(),
                readonly: false,
                propagation: crate::spec::Propagation::Private,
            };
            let mounts = targets.iter().map(mount).collect();
            let spec = ContainerSpec { mounts, ..ContainerSpec::default() };
            let (upper, work, cgroup2) = Default::default();
            let places = Places { key: 1, upper, work, cgroup2, cgroup_joins: Vec::new() };
            let plan = start(&host, &pod, &spec, &Identity::default(), places).unwrap();
            let links = plan.symlinks.iter().filter(|link| link.path.to_bytes().starts_with(b"/sys/")).count();
            (plan.devices.is_empty(), plan.symlinks.len() - links > 0, links)
        };
        assert_eq!(made(&["/dev/shm", "/sys/fs/cgroup/cpu"]), (false, true, 2));
        assert_eq!(made(&["/dev"]), (true, false, 2));
        assert_eq!(made(&["/sys"]), (false, true, 0));
    }

    #[test]
    fn a_zero_byte_is_refused() {
        let error = c_string("a\0b").unwrap_err();
        assert_eq!(error, EngineError::Invalid("\"a\\0b\" holds a zero byte".to_owned()));
    }
}
