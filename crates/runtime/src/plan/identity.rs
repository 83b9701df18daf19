//! Who a container's process is: numbers, or names that the image's own /etc/passwd and /etc/group explain.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::host::{Host, overlay};
use crate::engine::EngineError;
use crate::spec::{ContainerSpec, PodSpec};

/// A longer file of users is not read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The numbers, and where the user is at home.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

impl Identity {
    /// Reads the files of the image's layers, as the container will see them.
    pub(crate) fn resolve(host: &Host, pod: &PodSpec, spec: &ContainerSpec) -> Result<Self, EngineError> {
        not_root(pod, spec)?;
        let failed = |error: io::Error| EngineError::Failed(format!("the image's users cannot be read: {error}"));
        let roots = roots(host, &spec.layers).map_err(failed)?;
        let read = |path| read_first(&roots, path).map_err(failed);
        Self::of(spec, &read("etc/passwd")?, &read("etc/group")?)
    }

    fn of(spec: &ContainerSpec, passwd: &str, group: &str) -> Result<Self, EngineError> {
        let (user, image_group) = match spec.user.image_user.split_once(':') {
            Some((user, group)) => (user, group),
            None => (spec.user.image_user.as_str(), ""),
        };
        let number = spec.user.uid.or_else(|| if user.is_empty() { Some(0) } else { user.parse().ok() });
        let row = match number {
            Some(uid) => users(passwd).find(|row| row.uid == uid),
            None => Some(users(passwd).find(|row| row.name == user).ok_or_else(|| unknown("user", user, "passwd"))?),
        };
        let uid = number.or_else(|| row.as_ref().map(|row| row.uid)).unwrap_or(0);
        // A group of the image belongs to the image's user.
        let image_group = if spec.user.uid.is_none() { image_group } else { "" };
        let gid = match spec.user.gid {
            Some(gid) => gid,
            None if !image_group.is_empty() => group_number(image_group, group)?,
            None => row.as_ref().map_or(0, |row| row.gid),
        };
        let mut all = vec![gid];
        if let Some(row) = row.as_ref().filter(|_| !spec.user.strict_groups) {
            all.extend(groups(group).filter(|group| group.has(row.name)).map(|group| group.gid));
        }
        all.extend(&spec.user.supplemental_groups);
        let mut seen = Vec::new();
        all.retain(|gid| {
            !seen.contains(gid) && {
                seen.push(*gid);
                true
            }
        });
        let home = row.map_or("/", |row| if row.home.is_empty() { "/" } else { row.home });
        Ok(Self { uid, gid, groups: all, home: home.to_owned() })
    }
}

/// Upstream's refusals, which also stand where its kubelet has looked already.
fn not_root(pod: &PodSpec, spec: &ContainerSpec) -> Result<(), EngineError> {
    if !spec.user.must_not_be_root {
        return Ok(());
    }
    let of = format!("(pod: \"{}_{}({})\", container: {})", pod.name, pod.namespace, pod.id, spec.name);
    let image_user = spec.user.image_user.split(':').next().unwrap_or("");
    let text = match (spec.user.uid, image_user.parse::<u32>()) {
        (Some(0), _) => format!("container's runAsUser breaks non-root policy {of}"),
        (Some(_), _) => return Ok(()),
        (None, Ok(0)) => format!("container has runAsNonRoot and image will run as root {of}"),
        (None, Ok(_)) => return Ok(()),
        (None, Err(_)) if image_user.is_empty() => {
            format!("container has runAsNonRoot and image will run as root {of}")
        }
        (None, Err(_)) => format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root {of}"
        ),
    };
    Err(EngineError::Invalid(text))
}

struct UserRow<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Rows of passwd(5); what is none is passed over, as the C library does.
fn users(passwd: &str) -> impl Iterator<Item = UserRow<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        Some(UserRow { name: fields[0], uid, gid, home: fields.get(5).copied().unwrap_or("") })
    })
}

struct GroupRow<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl GroupRow<'_> {
    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member == user)
    }
}

/// Rows of group(5).
fn groups(group: &str) -> impl Iterator<Item = GroupRow<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse().ok()?;
        Some(GroupRow { name: fields[0], gid, members: fields.get(3).copied().unwrap_or("") })
    })
}

fn group_number(name: &str, group: &str) -> Result<u32, EngineError> {
    let named = || groups(group).find(|row| row.name == name).map(|row| row.gid);
    name.parse().ok().or_else(named).ok_or_else(|| unknown("group", name, "group"))
}

fn unknown(what: &str, name: &str, file: &str) -> EngineError {
    EngineError::Invalid(format!("unable to find {what} {name}: no matching entries in {file} file"))
}

/// The image's files as one tree that nobody else sees, or layer by layer, topmost first, where the kernel makes no such tree
/// of any number of layers.
fn roots(host: &Host, layers: &[PathBuf]) -> io::Result<Vec<OwnedFd>> {
    if layers.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image has no layers"));
    }
    if layers.len() > 1 && host.layers_one_by_one {
        return Ok(vec![overlay(layers)?]);
    }
    let open = |layer| openat(CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    Ok(layers.iter().map(open).collect::<Result<_, _>>()?)
}

/// The file of the topmost layer that has one or has removed it.
fn read_first(roots: &[OwnedFd], path: &str) -> io::Result<String> {
    for root in roots {
        if let Some(text) = read_inside(root, path)? {
            return Ok(text);
        }
    }
    Ok(String::new())
}

/// A file inside a tree, which no link leads out of; none where there is none, empty where it is no file, such as the mark of
/// a removed one.
fn read_inside(root: &OwnedFd, path: &str) -> io::Result<Option<String>> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let open = |flags: OFlags| openat2(root, Path::new(path), flags | OFlags::CLOEXEC, Mode::empty(), inside);
    let place = match open(OFlags::PATH) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    // Looked at before it is opened: a device or a pipe could do something, or hold us up.
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
        return Ok(Some(String::new()));
    }
    let mut bytes = Vec::new();
    let file = open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::User;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34:web:/srv:/bin/false\nbare:x:5:6::";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:root,web\ndb:x:41:web\n";

    fn of(user: User) -> Result<(u32, u32, Vec<u32>, String), EngineError> {
        let spec = ContainerSpec { user, ..ContainerSpec::default() };
        Identity::of(&spec, PASSWD, GROUP).map(|found| (found.uid, found.gid, found.groups, found.home))
    }

    fn image(user: &str) -> User {
        User { image_user: user.to_owned(), ..User::default() }
    }

    #[test]
    fn names_are_looked_up_and_numbers_win() {
        let home = |path: &str| path.to_owned();
        assert_eq!(of(image("")), Ok((0, 0, vec![0, 40], home("/root"))));
        assert_eq!(of(image("web")), Ok((33, 34, vec![34, 40, 41], home("/srv"))));
        assert_eq!(of(image("33")), of(image("web")));
        assert_eq!(of(image("web:db")), Ok((33, 41, vec![41, 40], home("/srv"))));
        assert_eq!(of(image("77:78")), Ok((77, 78, vec![78], home("/"))));
        assert_eq!(of(image("bare")), Ok((5, 6, vec![6], home("/"))));
        let user = User { uid: Some(1000), supplemental_groups: vec![9, 0, 9], ..image("web:db") };
        assert_eq!(of(user), Ok((1000, 0, vec![0, 9], home("/"))));
        let strict = User { strict_groups: true, gid: Some(7), supplemental_groups: vec![8], ..image("web") };
        assert_eq!(of(strict), Ok((33, 7, vec![7, 8], home("/srv"))));
    }

    #[test]
    fn unknown_names_are_refused() {
        let text = |error: EngineError| error.to_string();
        let expected = "unable to find user none: no matching entries in passwd file";
        assert_eq!(of(image("none")).map_err(text), Err(expected.to_owned()));
        let expected = "unable to find group none: no matching entries in group file";
        assert_eq!(of(image("web:none")).map_err(text), Err(expected.to_owned()));
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        let pod = PodSpec { id: "u".to_owned(), namespace: "n".to_owned(), name: "p".to_owned(), ..PodSpec::default() };
        let check = |user: User| {
            let user = User { must_not_be_root: true, ..user };
            let spec = ContainerSpec { name: "c".to_owned(), user, ..ContainerSpec::default() };
            not_root(&pod, &spec).map_err(|error| error.to_string())
        };
        let end = "(pod: \"p_n(u)\", container: c)";
        let image_root = Err(format!("container has runAsNonRoot and image will run as root {end}"));
        assert_eq!(check(image("")), image_root);
        assert_eq!(check(image("0:7")), image_root);
        assert_eq!(check(image("8")), Ok(()));
        let uid = |uid| User { uid: Some(uid), ..image("web") };
        assert_eq!(check(uid(0)), Err(format!("container's runAsUser breaks non-root policy {end}")));
        assert_eq!(check(uid(1)), Ok(()));
        let why = "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root";
        assert_eq!(check(image("web")), Err(format!("{why} {end}")));
    }

    #[test]
    fn links_of_the_image_stay_inside_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("outside"), "inside").unwrap();
        std::os::unix::fs::symlink("/../outside", folder.path().join("etc/passwd")).unwrap();
        let roots = roots(&Host::default(), &[folder.path().to_owned()]).unwrap();
        assert_eq!(read_first(&roots, "etc/passwd").unwrap(), "inside");
        assert_eq!(read_first(&roots, "etc/group").unwrap(), "");
        assert_eq!(read_first(&roots, "etc").unwrap(), "");
    }

    #[test]
    fn the_topmost_layer_decides() {
        let folder = tempfile::tempdir().unwrap();
        let layers = ["top", "middle", "bottom"].map(|name| folder.path().join(name));
        for layer in &layers {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(layers[1].join("etc/passwd"), "middle").unwrap();
        std::fs::write(layers[2].join("etc/passwd"), "bottom").unwrap();
        std::fs::write(layers[2].join("etc/group"), "bottom").unwrap();
        // Anything but a file hides what is below; a socket needs no rights to be made.
        drop(std::os::unix::net::UnixListener::bind(layers[1].join("etc/group")).unwrap());
        let roots = roots(&Host::default(), &layers).unwrap();
        assert_eq!(read_first(&roots, "etc/passwd").unwrap(), "middle");
        assert_eq!(read_first(&roots, "etc/group").unwrap(), "");
    }
}
