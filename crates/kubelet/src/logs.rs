//! The files that hold what containers print: a large one is set aside and a new one begun; few are kept
//! (`pkg/kubelet/logs`, `containerLogMaxSize` and `containerLogMaxFiles`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::time::Time;
use corten_runtime::engine::{ContainerId, Engine};
use corten_stdx::clock::Clock;
use corten_stdx::task::Stopped;

use crate::deed::blocking;
use crate::reading::Reading;

const BYTES_MAX: u64 = 10 << 20;
/// The current one included.
const FILES_MAX: usize = 5;
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Looks at the logs of all running containers until the end.
pub(crate) async fn rotate(reading: Reading, engine: Arc<dyn Engine>, clock: Clock, mut stopped: Stopped) {
    loop {
        tokio::select! {
            () = stopped.wait() => return,
            () = clock.sleep(LOOK_EVERY) => {}
        }
        for (uid, pod) in reading.all() {
            for container in pod.containers.into_iter().filter(|container| container.running) {
                let Some(attempt) = container.attempt else { continue };
                let id = ContainerId { pod: uid.to_string(), name: container.name, attempt };
                if let Err(error) = rotate_one(&*engine, &id, container.log, clock.now_ms()).await {
                    tracing::warn!(container = ?id, error, "a log grows on");
                }
            }
        }
    }
}

async fn rotate_one(engine: &dyn Engine, id: &ContainerId, log: PathBuf, now_ms: i64) -> Result<(), String> {
    let path = log.clone();
    let aside = blocking(move || set_aside(&path, BYTES_MAX, now_ms)).await.map_err(|error| error.to_string())?;
    if aside {
        engine.reopen_log(id).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Renames a log that is too large and removes the oldest of those set aside. False where it is not too large.
fn set_aside(log: &Path, bytes_max: u64, now_ms: i64) -> io::Result<bool> {
    match std::fs::metadata(log) {
        Ok(meta) if meta.len() > bytes_max => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let mut older = set_aside_before(log)?;
    older.sort();
    while older.len() + 2 > FILES_MAX {
        std::fs::remove_file(older.remove(0))?;
    }
    // 2026-01-02T03:04:05Z as 20260102-030405
    let time = Time::from_millis(now_ms).to_rfc3339();
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    let (date, clock) = digits.split_at(8);
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{date}-{clock}"));
    std::fs::rename(log, name)?;
    Ok(true)
}

fn set_aside_before(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str())) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(&prefix)) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Removes the log of an attempt, with what was set aside of it.
pub(crate) fn remove(dir: &Path, attempt: u32) {
    let log = dir.join(format!("{attempt}.log"));
    let older = set_aside_before(&log).unwrap_or_default();
    for path in older.into_iter().chain([log]) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "an old log stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_files_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("0.log");
        for second in 0..9 {
            std::fs::write(&log, "12345").expect("a file");
            assert!(!set_aside(&log, 5, second * 1000).expect("looked at"));
            assert!(set_aside(&log, 4, second * 1000).expect("set aside"));
        }
        std::fs::write(&log, "1").expect("a file");
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).expect("a directory").map(|one| one.expect("one").file_name()).collect();
        names.sort();
        let expect = [
            "0.log",
            "0.log.19700101-000005",
            "0.log.19700101-000006",
            "0.log.19700101-000007",
            "0.log.19700101-000008",
        ];
        assert_eq!(names, expect);
        remove(dir.path(), 0);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }
}
