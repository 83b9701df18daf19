//! Profiles as programs of the kernel's packet filter machine, bpf(4): the number is found by halving ranges, so that the
//! kernel, which runs a new filter once for every number, has little to do.

use std::collections::BTreeMap;

use super::table::{Arch, numbers};
use super::{Action, Compare, NOT_IMPLEMENTED, Profile, Rule, Test};

/// Where struct seccomp_data has what; both halves of an argument, on machines that store the low one first.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The kernel takes no longer program.
const INSTRUCTIONS_MAX: usize = 4096;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// One instruction. Jumps count what is left out: so many if the condition holds, so many if not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    code: u16,
    yes: u8,
    no: u8,
    value: u32,
}

const fn step(code: u16, value: u32) -> Step {
    Step { code, yes: 0, no: 0, value }
}

/// The program, eight bytes an instruction.
pub(super) fn compile(profile: &Profile) -> Result<Vec<u8>, String> {
    let mut program = vec![step(LOAD, ARCH)];
    for arch in &profile.arches {
        let own = of_arch(profile, *arch)?;
        program.push(Step { no: 1, ..step(JUMP_EQUAL, arch.audit()) });
        program.push(Step { yes: 0, ..step(JUMP, 1) });
        program.push(step(JUMP, length(&own)?));
        program.extend(own);
    }
    // A program of another architecture has numbers that mean something else.
    program.push(step(RETURN, Action::KILL_PROCESS.0));
    if program.len() > INSTRUCTIONS_MAX {
        return Err(format!("makes {} instructions, the kernel takes {INSTRUCTIONS_MAX}", program.len()));
    }
    Ok(program.iter().flat_map(bytes).collect())
}

fn length(steps: &[Step]) -> Result<u32, String> {
    u32::try_from(steps.len()).map_err(|error| error.to_string())
}

fn bytes(step: &Step) -> [u8; 8] {
    let (code, value) = (step.code.to_ne_bytes(), step.value.to_ne_bytes());
    [code[0], code[1], step.yes, step.no, value[0], value[1], value[2], value[3]]
}

fn of_arch(profile: &Profile, arch: Arch) -> Result<Vec<Step>, String> {
    let numbers = numbers(arch);
    let mut rules: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        for number in rule.names.iter().filter_map(|name| numbers.get(name.as_str())) {
            rules.entry(*number).or_default().push(rule);
        }
    }
    let mut ranges: Vec<(u32, Vec<Step>)> = Vec::new();
    for number in 0..=arch.newest() {
        let what = match rules.get(&number) {
            Some(rules) => decide(rules, profile.otherwise)?,
            None => vec![step(RETURN, profile.otherwise.0)],
        };
        add(&mut ranges, number, what);
    }
    let newer = match profile.otherwise {
        // Who lists what is allowed does not mean to forbid what did not exist then: programs try it and fall back.
        Action(value) if value & 0xffff_0000 == Action::errno(0).0 => Action::errno(NOT_IMPLEMENTED),
        other => other,
    };
    add(&mut ranges, arch.newest() + 1, vec![step(RETURN, newer.0)]);
    let mut program = vec![step(LOAD, NUMBER)];
    program.extend(halve(&ranges)?);
    Ok(program)
}

fn add(ranges: &mut Vec<(u32, Vec<Step>)>, first: u32, what: Vec<Step>) {
    if ranges.last().is_none_or(|(_, last)| *last != what) {
        ranges.push((first, what));
    }
}

/// Finds the range of the loaded number.
fn halve(ranges: &[(u32, Vec<Step>)]) -> Result<Vec<Step>, String> {
    if let [(_, what)] = ranges {
        return Ok(what.clone());
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (first, low) = (high.first().map_or(0, |(first, _)| *first), halve(low)?);
    let mut program = match u8::try_from(low.len()) {
        Ok(near) => vec![Step { yes: near, ..step(JUMP_GREATER_EQUAL, first) }],
        Err(_) => vec![Step { no: 1, ..step(JUMP_GREATER_EQUAL, first) }, step(JUMP, length(&low)?)],
    };
    program.extend(low);
    program.extend(halve(high)?);
    Ok(program)
}

/// What happens to one call.
fn decide(rules: &[&Rule], otherwise: Action) -> Result<Vec<Step>, String> {
    if let Some(plain) = rules.iter().find(|rule| rule.tests.is_empty()) {
        return Ok(vec![step(RETURN, plain.action.0)]);
    }
    let mut program = Vec::new();
    for rule in rules {
        program.extend(all_hold(&rule.tests, rule.action)?);
    }
    program.push(step(RETURN, otherwise.0));
    Ok(program)
}

/// A jump out of the tests, to be replaced by how far that is.
const OUT: u8 = u8::MAX;

fn all_hold(tests: &[Test], action: Action) -> Result<Vec<Step>, String> {
    let mut program: Vec<Step> = tests.iter().flat_map(holds).collect();
    program.push(step(RETURN, action.0));
    let end = program.len();
    for (index, step) in program.iter_mut().enumerate() {
        let far = u8::try_from(end - index - 1).ok().filter(|far| *far < OUT);
        let far = far.ok_or_else(|| "has too many conditions for one call".to_owned())?;
        for jump in [&mut step.yes, &mut step.no].into_iter().filter(|jump| **jump == OUT) {
            *jump = far;
        }
    }
    Ok(program)
}

/// Goes on behind these instructions if the test holds, else out.
fn holds(test: &Test) -> Vec<Step> {
    let place = ARGUMENTS + 8 * test.argument;
    let (load_low, load_high) = (step(LOAD, place), step(LOAD, place + 4));
    let (low, high) = ((test.value & 0xffff_ffff) as u32, (test.value >> 32) as u32);
    let jump = |code, value, yes, no| Step { code, value, yes, no };
    // Of the low half alone; the high ones are equal.
    let ordered = |code, invert: bool| {
        let (yes, no) = if invert { (OUT, 0) } else { (0, OUT) };
        vec![load_low, jump(code, low, yes, no)]
    };
    match test.compare {
        Compare::Equal => vec![load_high, jump(JUMP_EQUAL, high, 0, OUT), load_low, jump(JUMP_EQUAL, low, 0, OUT)],
        Compare::NotEqual => vec![load_high, jump(JUMP_EQUAL, high, 0, 2), load_low, jump(JUMP_EQUAL, low, OUT, 0)],
        Compare::Masked(mask) => vec![
            load_high,
            step(AND, (mask >> 32) as u32),
            jump(JUMP_EQUAL, high, 0, OUT),
            load_low,
            step(AND, (mask & 0xffff_ffff) as u32),
            jump(JUMP_EQUAL, low, 0, OUT),
        ],
        Compare::Greater => [above(load_high, high), ordered(JUMP_GREATER, false)].concat(),
        Compare::GreaterOrEqual => [above(load_high, high), ordered(JUMP_GREATER_EQUAL, false)].concat(),
        Compare::Less => [below(load_high, high), ordered(JUMP_GREATER_EQUAL, true)].concat(),
        Compare::LessOrEqual => [below(load_high, high), ordered(JUMP_GREATER, true)].concat(),
    }
}

/// Decides by the high half: larger leaves out the two instructions for the low half, smaller goes out.
fn above(load: Step, high: u32) -> Vec<Step> {
    vec![
        load,
        Step { code: JUMP_GREATER, value: high, yes: 3, no: 0 },
        Step { code: JUMP_EQUAL, value: high, yes: 0, no: OUT },
    ]
}

fn below(load: Step, high: u32) -> Vec<Step> {
    vec![
        load,
        Step { code: JUMP_GREATER, value: high, yes: OUT, no: 0 },
        Step { code: JUMP_EQUAL, value: high, yes: 0, no: 2 },
    ]
}

/// Does what the kernel does with a program.
#[cfg(test)]
pub(super) fn run(program: &[u8], arch: Arch, number: u32, arguments: [u64; 6]) -> Action {
    let mut data = number.to_ne_bytes().to_vec();
    data.extend(arch.audit().to_ne_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let steps = program.as_chunks::<8>().0;
    let (mut at, mut loaded) = (0, 0_u32);
    loop {
        let [a, b, yes, no, value @ ..] = steps[at];
        let (code, value) = (u16::from_ne_bytes([a, b]), u32::from_ne_bytes(value));
        at += 1;
        let holds = match code {
            LOAD => {
                loaded = u32::from_ne_bytes(data[value as usize..value as usize + 4].try_into().expect("four bytes"));
                continue;
            }
            AND => {
                loaded &= value;
                continue;
            }
            JUMP => {
                at += value as usize;
                continue;
            }
            RETURN => return Action(value),
            JUMP_EQUAL => loaded == value,
            JUMP_GREATER => loaded > value,
            JUMP_GREATER_EQUAL => loaded >= value,
            other => panic!("unknown instruction {other:x}"),
        };
        at += usize::from(if holds { yes } else { no });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_of_all_64_bits() {
        let edges = [0, 1, 5, 6, 1 << 32, 5 << 32 | 4, 5 << 32 | 5, 5 << 32 | 6, 6 << 32 | 1, u64::MAX];
        let mask = 0xff_0000_00ff;
        for value in edges {
            for argument in edges {
                let check = |compare, expected: bool| {
                    let tests = vec![Test { argument: 2, compare, value }];
                    let rule = Rule { names: vec!["read".to_owned()], tests, action: Action::ALLOW };
                    let otherwise = Action::errno(7);
                    let profile = Profile { rules: vec![rule], otherwise, arches: vec![Arch::X86_64] };
                    let program = compile(&profile).unwrap();
                    let outcome = run(&program, Arch::X86_64, 0, [9, 9, argument, 9, 9, 9]);
                    assert_eq!(outcome == Action::ALLOW, expected, "{argument:x} {compare:?} {value:x}");
                    assert_eq!(run(&program, Arch::X86_64, 1, [0; 6]), otherwise);
                    assert_eq!(run(&program, Arch::Aarch64, 0, [0; 6]), Action::KILL_PROCESS);
                };
                check(Compare::Equal, argument == value);
                check(Compare::NotEqual, argument != value);
                check(Compare::Less, argument < value);
                check(Compare::LessOrEqual, argument <= value);
                check(Compare::Greater, argument > value);
                check(Compare::GreaterOrEqual, argument >= value);
                check(Compare::Masked(mask), argument & mask == value);
            }
        }
    }
}
