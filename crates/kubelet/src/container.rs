//! From a container of a pod and its image to what the engine starts: program, user, rights, mounts, limits
//! (`pkg/kubelet/kuberuntime`, `pkg/securitycontext`).

use std::path::PathBuf;

use corten_apimachinery::value::Value;
use corten_image::Image;
use corten_runtime::spec::{ContainerSpec, Mount, Propagation, Seccomp, Security, User};

use crate::allowance::{Allowance, AllowanceError};
use crate::env::expand;
use crate::pod::{Container, Pod};
use crate::qos;
use crate::settings::Settings;

/// Why a container cannot be made as it is described. The texts are upstream's.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RootByNumber { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    RootByImage { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    NameByImage { user: String, pod: String, container: String },
    #[error("no command specified")]
    NoCommand,
    #[error(transparent)]
    Allowance(#[from] AllowanceError),
}

/// Everything that decides how a container is started.
pub struct Making<'a> {
    pub settings: &'a Settings,
    pub pod: Pod<'a>,
    pub container: Container<'a>,
    pub attempt: u32,
    pub image: &'a Image,
    /// What the specification and Services give; the image's comes before it.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub memory_bytes: i64,
}

/// The specification for the engine.
pub fn spec(making: Making<'_>) -> Result<ContainerSpec, ConfigError> {
    let Making { settings, pod, container, attempt, image, env, mounts, memory_bytes } = making;
    let args = args(container, image, &env);
    if args.is_empty() {
        return Err(ConfigError::NoCommand);
    }
    let own_cwd = container.value.str_at(&["workingDir"]);
    let mut all = image_env(image);
    all.extend(env);
    Ok(ContainerSpec {
        name: container.name().to_owned(),
        attempt,
        layers: image.layers.clone(),
        readonly_root: is(container.security(pod, "readOnlyRootFilesystem")),
        args,
        env: all,
        cwd: if own_cwd.is_empty() { image.config.working_dir.clone() } else { own_cwd.to_owned() },
        user: user(pod, container, image)?,
        mounts,
        devices: Vec::new(),
        security: security(settings, pod, container),
        limits: qos::container_limits(pod, container, Allowance::of(pod)?),
        oom_score_adj: qos::oom_score(pod, container, memory_bytes),
        log_path: settings.log_path(pod, container.name(), attempt),
        tty: container.is("tty"),
        stdin: container.is("stdin"),
        stdin_once: container.is("stdinOnce"),
    })
}

fn is(value: Option<&Value>) -> bool {
    value.and_then(Value::as_bool).unwrap_or_default()
}

fn number(value: Option<&Value>) -> Option<u32> {
    value.and_then(Value::as_i64).and_then(|number| u32::try_from(number).ok())
}

fn texts(values: &[Value]) -> impl Iterator<Item = &str> {
    values.iter().filter_map(Value::as_str)
}

fn image_env(image: &Image) -> Vec<(String, String)> {
    let split = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    image.config.env.iter().filter_map(split).collect()
}

/// The program and its arguments: what the container says, and where it says nothing, the image.
fn args(container: Container<'_>, image: &Image, env: &[(String, String)]) -> Vec<String> {
    let find = |name: &str| env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let given = |field: &str| texts(container.list(field)).map(|text| expand(text, &find)).collect::<Vec<String>>();
    let (command, args) = (given("command"), given("args"));
    match (command.is_empty(), args.is_empty()) {
        (false, _) => [command, args].concat(),
        (true, false) => [image.config.entrypoint.clone(), args].concat(),
        (true, true) => [image.config.entrypoint.clone(), image.config.cmd.clone()].concat(),
    }
}

fn user(pod: Pod<'_>, container: Container<'_>, image: &Image) -> Result<User, ConfigError> {
    let uid = number(container.security(pod, "runAsUser"));
    let must_not_be_root = is(container.security(pod, "runAsNonRoot"));
    if must_not_be_root {
        check_not_root(pod, container, uid, &image.config.user)?;
    }
    let mut supplemental_groups: Vec<u32> = pod
        .security("supplementalGroups")
        .and_then(Value::as_array)
        .unwrap_or_default()
        .iter()
        .filter_map(|group| number(Some(group)))
        .collect();
    supplemental_groups.extend(number(pod.security("fsGroup")));
    Ok(User {
        uid,
        gid: number(container.security(pod, "runAsGroup")),
        image_user: image.config.user.clone(),
        supplemental_groups,
        strict_groups: pod.security("supplementalGroupsPolicy").and_then(Value::as_str) == Some("Strict"),
        must_not_be_root,
    })
}

fn check_not_root(pod: Pod<'_>, container: Container<'_>, uid: Option<u32>, of_image: &str) -> Result<(), ConfigError> {
    let (long_name, container) = (pod.long_name(), container.name().to_owned());
    let name = of_image.split(':').next().unwrap_or_default();
    match uid {
        Some(0) => Err(ConfigError::RootByNumber { pod: long_name, container }),
        Some(_) => Ok(()),
        None if name.is_empty() || name == "0" || name == "root" => {
            Err(ConfigError::RootByImage { pod: long_name, container })
        }
        None if name.parse::<u32>().is_err() => {
            Err(ConfigError::NameByImage { user: name.to_owned(), pod: long_name, container })
        }
        None => Ok(()),
    }
}

fn security(settings: &Settings, pod: Pod<'_>, container: Container<'_>) -> Security {
    let own = |field: &str| container.value.at(&["securityContext", field]);
    let capabilities = |list: &str| -> Vec<String> {
        let names = own("capabilities").and_then(|capabilities| capabilities.get(list)).and_then(Value::as_array);
        texts(names.unwrap_or_default()).map(|name| name.trim_start_matches("CAP_").to_owned()).collect()
    };
    let privileged = is(own("privileged"));
    let add_capabilities = capabilities("add");
    // These rights are worth nothing to a process that can gain none.
    let powerful = privileged || add_capabilities.iter().any(|name| name == "SYS_ADMIN" || name == "ALL");
    Security {
        privileged,
        no_new_privileges: !powerful && !is(own("allowPrivilegeEscalation")),
        drop_capabilities: capabilities("drop"),
        add_capabilities,
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(settings, pod, container) },
        unmasked_proc: own("procMount").and_then(Value::as_str) == Some("Unmasked"),
    }
}

fn seccomp(settings: &Settings, pod: Pod<'_>, container: Container<'_>) -> Seccomp {
    let profile = container.security(pod, "seccompProfile").unwrap_or(&Value::Null);
    match profile.str_at(&["type"]) {
        "Unconfined" => Seccomp::Unconfined,
        "Localhost" => Seccomp::File(settings.dir.join("seccomp").join(profile.str_at(&["localhostProfile"]))),
        _ => Seccomp::RuntimeDefault,
    }
}

/// Sysctls of the pod.
pub fn sysctls(pod: Pod<'_>) -> impl Iterator<Item = (String, String)> {
    let list = pod.security("sysctls").and_then(Value::as_array).unwrap_or_default();
    list.iter().map(|sysctl| (sysctl.str_at(&["name"]).to_owned(), sysctl.str_at(&["value"]).to_owned()))
}

/// How mounts made on one side are seen on the other.
pub fn propagation(mount: &Value) -> Propagation {
    match mount.str_at(&["mountPropagation"]) {
        "HostToContainer" => Propagation::HostToContainer,
        "Bidirectional" => Propagation::Bidirectional,
        _ => Propagation::Private,
    }
}

/// A mount of a file that the node writes for the pod.
pub fn file_mount(source: PathBuf, target: &str, readonly: bool) -> Mount {
    Mount { source, target: PathBuf::from(target), readonly, propagation: Propagation::Private }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_image::Config;

    use super::*;
    use crate::testing::settings;

    fn image(user: &str) -> Image {
        let config = Config {
            user: user.to_owned(),
            env: vec!["PATH=/bin".to_owned()],
            entrypoint: vec!["/app".to_owned()],
            cmd: vec!["serve".to_owned()],
            working_dir: "/srv".to_owned(),
            ..Config::default()
        };
        Image { config, ..Image::default() }
    }

    fn make(container: Value, user: &str) -> Result<ContainerSpec, ConfigError> {
        let pod = value!({"metadata": {"name": "a", "namespace": "shop", "uid": "1"}, "spec": {
            "securityContext": {"fsGroup": 7, "supplementalGroups": [5], "runAsGroup": 3}, "containers": [container]}});
        let pod = Pod(&pod);
        let env = vec![("N".to_owned(), "1".to_owned())];
        let (settings, image) = (settings("/d".as_ref()), image(user));
        let container = pod.main_containers().next().expect("one");
        let (mounts, memory_bytes) = (Vec::new(), 1 << 30);
        spec(Making { settings: &settings, pod, container, attempt: 2, image: &image, env, mounts, memory_bytes })
    }

    #[track_caller]
    fn check_args(container: Value, expect: &str) {
        assert_eq!(make(container, "").expect("a spec").args.join(" "), expect);
    }

    #[test]
    fn command_and_args_go_before_the_image() {
        check_args(value!({"name": "c"}), "/app serve");
        check_args(value!({"name": "c", "args": ["x$(N)"]}), "/app x1");
        check_args(value!({"name": "c", "command": ["/bin/sh"]}), "/bin/sh");
        check_args(value!({"name": "c", "command": ["/bin/sh"], "args": ["-c", "$(NO)"]}), "/bin/sh -c $(NO)");
    }

    #[test]
    fn users_and_rights() {
        let made = make(value!({"name": "c", "securityContext": {"runAsUser": 9}}), "web").expect("a spec");
        assert_eq!((made.user.uid, made.user.gid, made.user.supplemental_groups), (Some(9), Some(3), vec![5, 7]));
        assert!(made.security.no_new_privileges && made.cwd == "/srv");
        assert_eq!(made.log_path, PathBuf::from("/d/logs/pods/shop_a_1/c/2.log"));
        let powerful =
            value!({"name": "c", "securityContext": {"capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}}});
        let security = make(powerful, "").expect("a spec").security;
        assert_eq!((security.no_new_privileges, security.drop_capabilities), (false, vec!["ALL".to_owned()]));
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let refused = |user: &str, own: Value| make(own, user).expect_err("refused").to_string();
        let must = value!({"name": "c", "securityContext": {"runAsNonRoot": true}});
        let of = "(pod: \"a_shop(1)\", container: c)";
        let by_image = format!("container has runAsNonRoot and image will run as root {of}");
        assert_eq!(refused("", must.clone()), by_image);
        let by_name = "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root";
        assert_eq!(refused("web:web", must.clone()), format!("{by_name} {of}"));
        let number = value!({"name": "c", "securityContext": {"runAsNonRoot": true, "runAsUser": 0}});
        assert_eq!(refused("", number), format!("container's runAsUser breaks non-root policy {of}"));
        assert!(make(must, "9:9").is_ok());
    }
}
