//! What is fuzzed. Each target is a function of bytes that panics where a property does not hold; `fuzz/` gives them to
//! libFuzzer, and a test here runs every seed of `fuzz/seeds` and everything that was once found, on the stable toolchain.

mod body;
mod cel;
mod dns;
mod http;
mod layer;
mod patch;
mod records;
mod spdy;

/// A target by its name, which is that of its folder of seeds and of its file in `fuzz/fuzz_targets`.
pub type Target = fn(&[u8]);

pub const TARGETS: [(&str, Target); 11] = [
    ("cel", cel::expression),
    ("dns", dns::message),
    ("http_request", http::requests),
    ("http_response", http::response),
    ("json", body::json_text),
    ("layer", layer::tar),
    ("patch", patch::all),
    ("protobuf", body::protobuf_message),
    ("records", records::payload),
    ("spdy", spdy::frames),
    ("yaml", body::yaml_text),
];

/// Runs a target by its name.
///
/// # Panics
/// When there is no such target, or a property does not hold.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect("a target's name");
    target(bytes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn below(folder: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(folder)
    }

    fn names(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("listed").map(|entry| entry.expect("read").path());
        entries.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn every_target_has_seeds_and_is_given_to_the_fuzzer() {
        let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names(&below("seeds")), known);
        assert_eq!(names(&below("fuzz_targets")), known);
    }

    #[test]
    fn seeds_and_what_was_found_once_pass() {
        let mut runs = 0;
        for (name, target) in TARGETS {
            for file in fs::read_dir(below("seeds").join(name)).expect("listed") {
                let path = file.expect("read").path();
                let bytes = fs::read(&path).expect("readable");
                println!("{}", path.display());
                target(&bytes);
                // What is cut off, too: most faults lie at an end.
                for end in [0, bytes.len() / 2, bytes.len().saturating_sub(1)] {
                    target(&bytes[..end]);
                }
                runs += 1;
            }
        }
        assert!(runs >= TARGETS.len());
    }
}
