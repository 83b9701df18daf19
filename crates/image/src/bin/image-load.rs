//! Work for a test to kill: opens the store in the first argument, and makes and removes images of the folder in the second, for
//! ever, saying each step that is done.

use std::path::Path;
use std::process::ExitCode;

use corten_image::{ImageError, Recipe, Reference, Settings, Store};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [content, root] = arguments.as_slice() else { return ExitCode::FAILURE };
    match work(Path::new(content), Path::new(root)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(content: &Path, root: &Path) -> Result<(), ImageError> {
    let settings = Settings::new(Clock::system(), Random::system(), Tasks::new());
    let store = Store::open(content, settings)?;
    let round = Random::system().next_u64();
    for n in 0.. {
        let changing = root.join("changing");
        std::fs::write(&changing, format!("{round} {n}"))
            .map_err(|error| ImageError::Failed { what: changing.display().to_string(), detail: error.to_string() })?;
        let name = format!("load/{round}:{n}");
        store.from_root(root, &Reference::parse(&name)?, &Recipe::default())?;
        println!("made {name}");
        if n > 0 {
            store.remove(&format!("load/{round}:{}", n - 1))?;
        }
    }
    Ok(())
}
