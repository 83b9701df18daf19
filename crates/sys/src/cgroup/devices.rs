//! Which devices the processes of a group may use: a list of files in v1, a small program of the kernel's in v2, bpf(2).

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::{Error, Group, Write, apply};

/// Something that may be done. Without a number it holds for every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Of blocks, such as a disk, instead of characters.
    pub block: bool,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Make nodes of it, and nothing else; otherwise everything.
    pub only_nodes: bool,
}

/// As v1 writes it.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let (kind, access) = (if self.block { 'b' } else { 'c' }, if self.only_nodes { "m" } else { "rwm" });
        write!(f, "{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

impl Group<'_> {
    /// Allows these devices and no others. A machine without either kind of rules has none.
    ///
    /// # Errors
    /// What the kernel refuses; the path is the group's.
    pub fn allow_devices(&self, allowed: &[Device]) -> Result<(), Error> {
        if let Some(root) = self.hierarchies.v1.get("devices") {
            let folder = root.join(&self.name);
            let write = |file: &str, value: String| Write { path: folder.join(file), value };
            let mut plan = vec![write("devices.deny", "a".to_owned())];
            plan.extend(allowed.iter().map(|device| write("devices.allow", device.to_string())));
            return apply(&plan);
        }
        let Some(folder) = self.v2_folder() else { return Ok(()) };
        let attached = File::open(&folder).and_then(|group| attach(group, &program(allowed)));
        attached.map_err(|source| Error { path: folder, source })
    }
}

/// One instruction as the kernel reads it: code, registers, jump, value.
type Step = [u8; 8];

const LOAD: u8 = 0x61;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Registers: the verdict, the question, and what it asks for.
const VERDICT: u8 = 0;
const QUESTION: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE_NODE: i32 = 1;

const fn step(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Step {
    let (offset, value) = (offset.to_ne_bytes(), value.to_ne_bytes());
    [code, from << 4 | to, offset[0], offset[1], value[0], value[1], value[2], value[3]]
}

/// Looks through the list; the first that fits allows it. The question is type and access in one word, major, minor.
fn program(allowed: &[Device]) -> Vec<Step> {
    let mut program = vec![
        step(LOAD, KIND, QUESTION, 0, 0),
        step(COPY, ACCESS, KIND, 0, 0),
        step(AND, KIND, 0, 0, 0xffff),
        step(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        step(LOAD, MAJOR, QUESTION, 4, 0),
        step(LOAD, MINOR, QUESTION, 8, 0),
    ];
    for device in allowed {
        program.extend(allow(device));
    }
    program.extend([step(SET, VERDICT, 0, 0, 0), step(EXIT, 0, 0, 0, 0)]);
    program
}

fn allow(device: &Device) -> Vec<Step> {
    let mut tests = vec![(KIND, if device.block { BLOCK } else { CHARACTER })];
    tests.extend(device.only_nodes.then_some((ACCESS, MAKE_NODE)));
    tests.extend(device.major.map(|number| (MAJOR, number.cast_signed())));
    tests.extend(device.minor.map(|number| (MINOR, number.cast_signed())));
    let left_out = |index: usize| i16::try_from(tests.len() - index + 1).expect("there are four tests at most");
    let jump = |(index, (register, value)): (usize, &(u8, i32))| {
        step(JUMP_UNLESS_EQUAL, *register, 0, left_out(index), *value)
    };
    let mut steps: Vec<Step> = tests.iter().enumerate().map(jump).collect();
    steps.extend([step(SET, VERDICT, 0, 0, 1), step(EXIT, 0, 0, 0, 0)]);
    steps
}

const PROGRAM_LOAD: libc::c_int = 5;
const PROGRAM_ATTACH: libc::c_int = 8;
const PROGRAM_OF_DEVICES: u32 = 15;
const ATTACH_TO_DEVICES: u32 = 6;
/// Programs of groups above and below hold too.
const BESIDE_OTHERS: u32 = 2;

/// The first fields of the kernel's union for loading.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    steps: u64,
    license: u64,
    rest: [u64; 12],
}

#[repr(C)]
struct Attach {
    group: u32,
    program: u32,
    place: u32,
    flags: u32,
}

/// The program lives as long as the group.
fn attach(group: impl AsFd, steps: &[Step]) -> io::Result<()> {
    let count = u32::try_from(steps.len()).map_err(io::Error::other)?;
    let license = c"Apache-2.0";
    let (steps, license) = (steps.as_ptr() as u64, license.as_ptr() as u64);
    let load = Load { kind: PROGRAM_OF_DEVICES, count, steps, license, rest: [0; 12] };
    let raw = bpf(PROGRAM_LOAD, &load)?;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    let program = unsafe { OwnedFd::from_raw_fd(raw) };
    let attach = Attach {
        group: group.as_fd().as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        place: ATTACH_TO_DEVICES,
        flags: BESIDE_OTHERS,
    };
    bpf(PROGRAM_ATTACH, &attach).map(drop)
}

fn bpf<T>(command: libc::c_int, argument: &T) -> io::Result<i32> {
    // SAFETY: the argument, and what it points to, is borrowed across the call, with its size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(argument), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(result).map_err(io::Error::other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_written_as_v1_does() {
        let null = Device { block: false, major: Some(1), minor: Some(3), only_nodes: false };
        assert_eq!(null.to_string(), "c 1:3 rwm");
        let nodes = Device { block: true, major: None, minor: None, only_nodes: true };
        assert_eq!(nodes.to_string(), "b *:* m");
        assert_eq!(program(&[null]).len(), 6 + 5 + 2);
        assert_eq!(step(JUMP_UNLESS_EQUAL, MAJOR, 0, 3, 136), [0x55, 4, 3, 0, 136, 0, 0, 0]);
    }
}
