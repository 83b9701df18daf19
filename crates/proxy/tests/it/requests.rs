//! The corpus against the codec: what could be understood in two ways is refused, its well-formed neighbours are read.

use corten_proxy::codec::Limits;

use crate::corpus::{Outcome, cases};
use crate::stream::read;

#[test]
fn the_corpus_has_its_outcomes() {
    let mut wrong = Vec::new();
    for case in cases() {
        let read = read([&case.bytes[..]], Limits::default());
        let outcome = match read.refused {
            Some(refused) => Outcome::Refused(refused.status()),
            None => Outcome::Forwarded(read.requests.len()),
        };
        let smuggled = matches!(outcome, Outcome::Refused(_)) && !read.requests.is_empty();
        let cut = read.refused.is_none() && read.unfinished.is_some();
        if outcome != case.outcome || smuggled || cut {
            wrong.push(format!("{}: expected {:?}, got {outcome:?}: {read:?}", case.name, case.outcome));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_corpus_is_large_and_names_are_unique() {
    let cases = cases();
    let refused = cases.iter().filter(|case| matches!(case.outcome, Outcome::Refused(_))).count();
    assert!(refused >= 40, "{refused} refused cases");
    assert!(cases.len() - refused >= 20, "{} neighbours", cases.len() - refused);
    let mut names: Vec<_> = cases.iter().map(|case| &case.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), cases.len());
}
