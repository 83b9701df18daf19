//! The start of a container, from its image to its postStart hook.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use corten_apimachinery::value::{Str, Value};
use corten_image::Image;
use corten_runtime::engine::{ContainerId, EngineError};
use corten_runtime::spec::Mount;
use corten_stdx::error::Chain;
use tokio::sync::watch;

use super::{NAME_FILES, Subjected, blocking, make_dir, mend_files};
use crate::container::{self, Making, file_mount};
use crate::env::{ServiceView, environment};
use crate::hook;
use crate::observed::{Ended, Instance};
use crate::pod::{Container, Pod};
use crate::sources::of_environment;
use crate::volumes;

/// Where a container may leave a message when no other path is asked for.
const MESSAGE_PATH: &str = "/dev/termination-log";

/// A container that runs, or has run.
pub(crate) struct Started {
    pub(crate) instance: Instance,
    /// Its postStart hook failed: it is to be stopped.
    pub(crate) hook_failed: bool,
}

/// Why there is no container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotStarted {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// A volume that had been made is not there any more. The start is to be tried again when it is.
    pub(crate) volumes_lost: bool,
}

impl NotStarted {
    pub(crate) fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), volumes_lost: false }
    }

    pub(crate) fn without_volumes() -> Self {
        Self { volumes_lost: true, ..Self::new("ContainerCreating", "") }
    }
}

/// Starts a container. `cancelled` gives up what takes long: a pull, a hook.
pub(crate) async fn start(
    of: Subjected,
    name: Str,
    attempt: u32,
    mut cancelled: watch::Receiver<bool>,
) -> Result<Started, NotStarted> {
    let container =
        of.pod().container(&name).ok_or_else(|| NotStarted::new("CreateContainerError", "it is not there"))?;
    let image = tokio::select! {
        image = super::image::image(&of, container) => image?,
        _ = cancelled.wait_for(|cancelled| *cancelled) => return Err(NotStarted::new("ContainerCreating", "")),
    };
    if volumes_lost(&of, &name).await {
        tracing::warn!(pod = of.pod().long_name(), container = %name, "a volume is lost and made anew");
        return Err(NotStarted::without_volumes());
    }
    let tell = |normal, reason: &str, note: &str| of.ground.tell(of.pod(), Some(container), normal, reason, note);
    let fails = |reason, message: String| {
        tell(false, "Failed", &format!("Error: {message}"));
        NotStarted::new(reason, message)
    };
    let made = spec(&of, container, attempt, &image).await;
    let spec = made.map_err(|(reason, message)| fails(reason, message))?;
    tell(true, "Created", "Container created");
    let instance = |started_ns, end| Instance {
        attempt,
        started_ns,
        image: shown_image(container, &image),
        image_id: image.digests.first().cloned().unwrap_or_else(|| image.id.clone()).into(),
        wanted_image: container.image().into(),
        end,
    };
    match of.ground.parts.engine.start(of.pod().uid(), &spec).await {
        Ok(state) => {
            tell(true, "Started", "Container started");
            let instance = instance(state.started_ns, None);
            let hook_failed = post_start(&of, container, attempt, &mut cancelled).await;
            Ok(Started { instance, hook_failed })
        }
        Err(EngineError::NotRun { code, text }) => {
            tell(false, "Failed", &format!("Error: {text}"));
            // Nobody is helped by a start in the year 1, which is what kubectl shows for want of one.
            let now_ns = of.ground.parts.clock.now_ms() * 1_000_000;
            let (started_ns, finished_ns) = (now_ns, now_ns);
            let reason = Str::const_new("StartError");
            let end = Ended { attempt, code, signal: 0, reason, message: text, started_ns, finished_ns };
            Ok(Started { instance: instance(started_ns, Some(end)), hook_failed: false })
        }
        Err(EngineError::Invalid(text)) => Err(fails("CreateContainerError", text)),
        Err(error) => Err(fails("RunContainerError", error.to_string())),
    }
}

/// Whether a volume that the container mounts has gone since it was made.
async fn volumes_lost(of: &Subjected, name: &Str) -> bool {
    let (of, name) = (of.clone(), name.clone());
    let lost = blocking(move || {
        let settings = &of.ground.parts.settings;
        Ok(of.pod().container(&name).is_some_and(|container| volumes::are_lost(settings, of.pod(), container)))
    });
    // Work that cannot even begin fails again where it matters.
    lost.await.unwrap_or_default()
}

/// The reference that the status shows: the full one, where the image has it.
fn shown_image(container: Container<'_>, image: &Image) -> Str {
    let asked = container.image();
    let full = image.tags.iter().chain(&image.digests).find(|tag| tag.ends_with(asked));
    full.map_or_else(|| asked.into(), |tag| tag.as_str().into())
}

/// Whether the hook failed.
async fn post_start(
    of: &Subjected,
    container: Container<'_>,
    attempt: u32,
    cancelled: &mut watch::Receiver<bool>,
) -> bool {
    let Some(action) = container.hook("postStart") else { return false };
    let id = ContainerId { pod: of.pod().uid().to_owned(), name: container.name().to_owned(), attempt };
    let ran = tokio::select! {
        ran = hook::run(of, container, &id, action) => ran,
        _ = cancelled.wait_for(|cancelled| *cancelled) => return false,
    };
    if let Err(error) = ran {
        tracing::info!(pod = of.pod().long_name(), container = container.name(), error, "a postStart hook failed");
        of.ground.tell(of.pod(), Some(container), false, "FailedPostStartHook", "PostStartHook failed");
        return true;
    }
    false
}

async fn spec(
    of: &Subjected,
    container: Container<'_>,
    attempt: u32,
    image: &Arc<Image>,
) -> Result<corten_runtime::spec::ContainerSpec, (&'static str, String)> {
    let config = |error: String| ("CreateContainerConfigError", error);
    let sources = of.sources(of_environment(container)).await;
    let sources = sources.map_err(|error| config(Chain(&error).to_string()))?;
    let services = services(of).await;
    let services: Vec<&ServiceView> = services.iter().map(|held| &held.view).collect();
    let env = environment(of.subject(), container, &sources, &services).map_err(|error| config(error.to_string()))?;
    let (for_files, name, env_of) = (of.clone(), container.name().to_owned(), env.clone());
    let mounts = blocking(move || {
        let container = for_files.pod().container(&name).expect("it was there before");
        Ok(mounts(&for_files, container, attempt, &env_of))
    });
    let mounts = mounts.await.unwrap_or_else(|error| Err(error.to_string())).map_err(config)?;
    let (pod, settings, memory_bytes) = (of.pod(), &of.ground.parts.settings, of.ground.memory_bytes);
    container::spec(Making { settings, pod, container, attempt, image, env, mounts, memory_bytes }).map_err(|error| {
        let reason = match error {
            container::ConfigError::NoCommand => "CreateContainerError",
            _ => "CreateContainerConfigError",
        };
        (reason, error.to_string())
    })
}

/// The Services that the containers of a pod are told of.
async fn services(of: &Subjected) -> Vec<Arc<corten_client::cache::Held<ServiceView>>> {
    let informer = &of.ground.services;
    informer.synced().await;
    let pod = of.pod();
    let links = pod.spec("enableServiceLinks").and_then(Value::as_bool).unwrap_or(true);
    let mut found = if links { informer.cache().in_namespace(pod.namespace()) } else { Vec::new() };
    let api = informer.cache().get("default", "kubernetes");
    found.retain(|service| service.name != "kubernetes" || pod.namespace() != "default");
    found.extend(api);
    found
}

fn mounts(
    of: &Subjected,
    container: Container<'_>,
    attempt: u32,
    env: &[(String, String)],
) -> Result<Vec<Mount>, String> {
    let settings = &of.ground.parts.settings;
    let own = volumes::mounts(settings, of.subject(), container, env).map_err(|error| Chain(&error).to_string())?;
    let dir = settings.pod_dir(of.pod().uid());
    let mut mounts = Vec::new();
    mend_files(of).map_err(|error| format!("cannot write the pod's files: {error}"))?;
    for (file, target) in NAME_FILES {
        if !own.iter().any(|mount| mount.target == Path::new(target)) {
            mounts.push(file_mount(dir.join(file), target, false));
        }
    }
    let message = settings.message_path(of.pod().uid(), container.name(), attempt);
    make_message(&message).map_err(|error| format!("cannot make {}: {error}", message.display()))?;
    mounts.push(file_mount(message, message_target(container), false));
    // In their own order: a mount may lie within an earlier one.
    mounts.extend(own);
    Ok(mounts)
}

fn message_target(container: Container<'_>) -> &str {
    match container.value.str_at(&["terminationMessagePath"]) {
        "" => MESSAGE_PATH,
        path => path,
    }
}

/// An empty file that every user of the container may write.
fn make_message(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    std::fs::write(path, "")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
}

/// Characters of a message of the container's own, and of one from its log.
const MESSAGE_MAX: usize = 4096;
const LOG_MESSAGE_MAX: usize = 2048;
const LOG_LINES_MAX: usize = 80;

/// What a container has left behind to be told of its end.
pub(crate) fn message(
    settings: &crate::Settings,
    pod: Pod<'_>,
    container: Container<'_>,
    attempt: u32,
    code: i32,
) -> String {
    let path = settings.message_path(pod.uid(), container.name(), attempt);
    // A container that left nothing has no message.
    let own = read_end(&path, MESSAGE_MAX).unwrap_or_default();
    let from_log = container.value.str_at(&["terminationMessagePolicy"]) == "FallbackToLogsOnError";
    if !own.is_empty() || !from_log || code == 0 {
        return own;
    }
    let text = read_end(&settings.log_path(pod, container.name(), attempt), 16 * LOG_MESSAGE_MAX).unwrap_or_default();
    // `time stream tag text`
    let lines: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let last = lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n");
    let ended = if last.is_empty() { last } else { last + "\n" };
    last_bytes(&ended, LOG_MESSAGE_MAX).to_owned()
}

fn read_end(path: &Path, limit: usize) -> io::Result<String> {
    use std::io::{Read as _, Seek as _};
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let limit = limit as u64;
    if length > limit {
        file.seek(io::SeekFrom::Start(length - limit))?;
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_bytes(text: &str, limit: usize) -> &str {
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
