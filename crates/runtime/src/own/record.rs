//! Files: what must be known of pods and containers when this process is another one. A record is replaced as a whole, by
//! renaming; it need not survive the machine, since no pod does.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use corten_podspec::{Exec, Request};
use corten_stdx::file::replace;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::engine::{ContainerId, EngineError, Exit};
use crate::spec::PodSpec;

/// What is known of a container, beside what its pod process knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ContainerRecord {
    /// By which the pod process knows it.
    pub(super) key: u64,
    pub(super) started_ns: i64,
    pub(super) exit: Option<Exit>,
}

#[derive(Debug, Clone)]
pub(super) struct Files {
    pods: PathBuf,
    sockets: PathBuf,
}

fn failed(path: &Path, error: &io::Error) -> EngineError {
    EngineError::Failed(format!("{}: {error}", path.display()))
}

/// Makes a folder that only root enters, with those above it.
fn private_folder(path: &Path) -> Result<(), EngineError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(path, &error))
}

/// Names come from outside and become parts of paths.
pub(super) fn check_name(name: &str) -> Result<(), EngineError> {
    let fits = !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && !name.contains(['/', '\0']);
    if fits { Ok(()) } else { Err(EngineError::Invalid(format!("{name:?} is no name of a pod or container"))) }
}

impl Files {
    pub(super) fn open(pods: PathBuf, sockets: PathBuf) -> Result<Self, EngineError> {
        private_folder(&pods)?;
        private_folder(&sockets)?;
        Ok(Self { pods, sockets })
    }

    pub(super) fn socket(&self, pod: &str) -> PathBuf {
        self.sockets.join(format!("{pod}.sock"))
    }

    pub(super) fn upper(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("upper")
    }

    pub(super) fn work(&self, id: &ContainerId) -> PathBuf {
        self.container(id).join("work")
    }

    fn pod(&self, pod: &str) -> PathBuf {
        self.pods.join(pod).join("containers")
    }

    fn container(&self, id: &ContainerId) -> PathBuf {
        self.pod(&id.pod).join(&id.name).join(id.attempt.to_string())
    }

    fn exec_file(&self, id: &ContainerId) -> PathBuf {
        self.sockets.join(format!("{}.{}.{}.exec", id.pod, id.name, id.attempt))
    }

    pub(super) fn write_pod(&self, spec: &PodSpec) -> Result<(), EngineError> {
        private_folder(&self.pod(&spec.id))?;
        write_record(&self.pod(&spec.id).join("pod.json"), spec)
    }

    /// Makes the container's folders, empty, and its record.
    pub(super) fn make_container(&self, id: &ContainerId, record: &ContainerRecord) -> Result<(), EngineError> {
        self.remove_container(id)?;
        private_folder(&self.container(id))?;
        for folder in [self.upper(id), self.work(id)] {
            // The upper layer's root is the container's root folder, which every user of it must be able to read.
            DirBuilder::new().mode(0o755).create(&folder).map_err(|error| failed(&folder, &error))?;
        }
        self.write_container(id, record)
    }

    pub(super) fn write_container(&self, id: &ContainerId, record: &ContainerRecord) -> Result<(), EngineError> {
        write_record(&self.container(id).join("container.json"), record)
    }

    /// What an exec is made from.
    pub(super) fn write_exec(&self, id: &ContainerId, template: Exec) -> Result<(), EngineError> {
        let bytes = Request::from(template).encode(0);
        let bytes = bytes.map_err(|error| EngineError::Invalid(format!("arguments and environment: {error}")))?;
        write(&self.exec_file(id), &bytes)
    }

    pub(super) fn read_exec(&self, id: &ContainerId) -> Result<Exec, EngineError> {
        let path = self.exec_file(id);
        let bytes = fs::read(&path).map_err(|error| failed(&path, &error))?;
        match Request::decode(&bytes) {
            Ok((_, Request::Exec(template))) => Ok(template),
            other => Err(EngineError::Failed(format!("{} holds {other:?}", path.display()))),
        }
    }

    /// What lies elsewhere first: of a folder that is half removed nobody knows what belonged to it.
    pub(super) fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        remove_file(&self.exec_file(id))?;
        remove_tree(&self.container(id))?;
        remove_if_empty(&self.pod(&id.pod).join(&id.name))
    }

    /// All of a pod; what others keep in its folder stays.
    pub(super) fn remove_pod(&self, pod: &str) -> Result<(), EngineError> {
        for (id, _) in self.containers(pod)? {
            remove_file(&self.exec_file(&id))?;
        }
        remove_file(&self.socket(pod))?;
        remove_tree(&self.pod(pod))?;
        remove_if_empty(&self.pods.join(pod))
    }

    /// Every pod that has a record, by its id.
    pub(super) fn pods(&self) -> Result<Vec<(String, Result<PodSpec, EngineError>)>, EngineError> {
        let mut found = Vec::new();
        for name in names(&self.pods)? {
            let path = self.pod(&name).join("pod.json");
            match read_record::<PodSpec>(&path).transpose() {
                Some(Ok(spec)) if spec.id != name => {
                    let error = EngineError::Failed(format!("{} is of pod {}", path.display(), spec.id));
                    found.push((name, Err(error)));
                }
                Some(spec) => found.push((name, spec)),
                None => {}
            }
        }
        Ok(found)
    }

    /// Pods whose record is not there, and other things of them are: they were being made or removed when a process of ours
    /// ended.
    pub(super) fn remains(&self) -> Result<Vec<String>, EngineError> {
        let mut found = names(&self.pods)?;
        found.retain(|name| self.pod(name).is_dir() && !self.pod(name).join("pod.json").exists());
        Ok(found)
    }

    /// Removes sockets of pods, and files with the environment of containers, that are not there any more. Such a file lies in
    /// memory beside the folder that it belongs to, so no removal takes both at once.
    pub(super) fn sweep(&self) -> Result<(), EngineError> {
        let entries = fs::read_dir(&self.sockets).map_err(|error| failed(&self.sockets, &error))?;
        for entry in entries {
            let path = entry.map_err(|error| failed(&self.sockets, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let parts: Vec<&str> = name.split('.').collect();
            let belongs = match parts.as_slice() {
                [pod, "sock"] => self.pod(pod).join("pod.json").exists(),
                [pod, container, attempt, "exec"] => {
                    self.pod(pod).join(container).join(attempt).join("container.json").exists()
                }
                _ => false,
            };
            if !belongs {
                remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Every container of a pod that has a record. One that cannot be read is told and passed over: a machine that lost its
    /// power leaves such, and no container of it runs.
    pub(super) fn containers(&self, pod: &str) -> Result<Vec<(ContainerId, ContainerRecord)>, EngineError> {
        let mut found = Vec::new();
        let folder = self.pod(pod);
        for name in names(&folder)? {
            for attempt in names(&folder.join(&name))?.iter().filter_map(|attempt| attempt.parse().ok()) {
                let id = ContainerId { pod: pod.to_owned(), name: name.clone(), attempt };
                match read_record(&self.container(&id).join("container.json")) {
                    Ok(Some(record)) => found.push((id, record)),
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "record of a container is passed over"),
                }
            }
        }
        Ok(found)
    }
}

/// Folders in a folder; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, EngineError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(|error| failed(folder, &error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        if entry.path().is_dir() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn write_record(path: &Path, record: &impl Serialize) -> Result<(), EngineError> {
    let bytes = serde_json::to_vec(record);
    write(path, &bytes.map_err(|error| EngineError::Failed(format!("{}: {error}", path.display())))?)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
    replace(path, bytes).map_err(|error| failed(path, &error))
}

fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EngineError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| failed(path, &error))?,
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|error| EngineError::Failed(format!("{}: {error}", path.display())))
}

fn remove_tree(path: &Path) -> Result<(), EngineError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

fn remove_if_empty(path: &Path) -> Result<(), EngineError> {
    match fs::remove_dir(path) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(failed(path, &error))
        }
        _ => Ok(()),
    }
}
