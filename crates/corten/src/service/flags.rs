//! The flags that a user has given, as words in one order: what was left at its default is left out, and paths are whole, since a
//! service starts elsewhere.

use std::path::Path;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

/// Flags that name a file or folder.
const PATHS: [&str; 1] = ["data_dir"];

/// Given once and then of no use.
const ONCE: [&str; 1] = ["token"];

/// What `matches` has of the command's own flags.
pub(super) fn given(command: &Command, matches: &ArgMatches) -> anyhow::Result<Vec<String>> {
    let mut words = Vec::new();
    for flag in command.get_arguments() {
        let (id, Some(long)) = (flag.get_id().as_str(), flag.get_long()) else { continue };
        let is_given = matches.value_source(id) == Some(ValueSource::CommandLine);
        if !is_given || ONCE.contains(&id) {
            continue;
        }
        if !flag.get_action().takes_values() {
            words.push(format!("--{long}"));
            continue;
        }
        for value in matches.get_raw(id).into_iter().flatten() {
            let value = value.to_str().with_context(|| format!("--{long} is not text"))?;
            let value = if PATHS.contains(&id) { whole(value)? } else { value.to_owned() };
            words.extend([format!("--{long}"), value]);
        }
    }
    Ok(words)
}

fn whole(path: &str) -> anyhow::Result<String> {
    let whole = std::path::absolute(Path::new(path)).with_context(|| format!("the path {path:?}"))?;
    Ok(whole.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Arguments;

    fn words(line: &str) -> String {
        let mut command = Arguments::command();
        command.build();
        let matches = command.clone().try_get_matches_from(line.split(' ')).expect("they parse");
        let (mut command, mut matches) = (&command, &matches);
        while let Some((name, below)) = matches.subcommand() {
            command = command.find_subcommand(name).expect("it was parsed");
            matches = below;
        }
        given(command, matches).expect("text").join(" ")
    }

    #[test]
    fn what_is_given_is_kept_in_one_order() {
        assert_eq!(words("corten install"), "");
        let one = words("corten install --https-port 0 --data-dir /srv/d --http-port=8080");
        assert_eq!(one, "--data-dir /srv/d --http-port 8080 --https-port 0");
        assert_eq!(words("corten install --http-port 8080 --https-port 0 --data-dir /srv/d"), one);
    }

    #[test]
    fn a_token_is_not_kept_and_a_folder_is_whole() {
        let text = words("corten install node --server https://192.0.2.2:6443 --token a.b --data-dir d");
        let here = std::env::current_dir().expect("somewhere");
        assert_eq!(text, format!("--data-dir {}/d --server https://192.0.2.2:6443", here.display()));
    }
}
