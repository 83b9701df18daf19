//! Gives `corten_fuzz::run("cel")` to libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| corten_fuzz::run("cel", bytes));
