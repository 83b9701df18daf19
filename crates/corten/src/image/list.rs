//! `corten image ls`, and how the other verbs print images.

use std::sync::Arc;

use clap::Args;
use corten_cli::option::Output;
use corten_image::{Image, Images as _};

use crate::args::Common;

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    common: Common,
}

impl List {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let images = self.common.store()?.list();
        match self.common.output {
            Output::Text => print!("{}", table(&images)),
            Output::Json => println!("{}", json(&images)),
        }
        Ok(())
    }
}

/// For verbs that put images into the store.
pub(super) fn print_names(images: &[Arc<Image>], output: Output) {
    match output {
        Output::Text => images.iter().for_each(|image| println!("{} {}", names(image).join(" "), image.id)),
        Output::Json => println!("{}", json(images)),
    }
}

fn json(images: &[Arc<Image>]) -> serde_json::Value {
    let one = |image: &Arc<Image>| {
        serde_json::json!({
            "id": image.id, "tags": image.tags, "digests": image.digests,
            "sizeBytes": image.size_bytes, "layers": image.layers,
        })
    };
    images.iter().map(one).collect()
}

/// One row a name, in order.
fn table(images: &[Arc<Image>]) -> String {
    let mut rows = Vec::new();
    for image in images {
        let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
        rows.extend(names(image).into_iter().map(|name| (name, id.clone(), size(image.size_bytes))));
    }
    rows.sort();
    let widest = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default().max("IMAGE".len());
    let line = |name: &str, id: &str, size: &str| format!("{name:widest$}   {id:12}   {size:>10}\n");
    let rows: String = rows.iter().map(|(name, id, size)| line(name, id, size)).collect();
    line("IMAGE", "ID", "SIZE") + &rows
}

/// Tags; where there are none, digests; where there are none either, it has no name.
fn names(image: &Image) -> Vec<String> {
    match (image.tags.is_empty(), image.digests.is_empty()) {
        (false, _) => image.tags.clone(),
        (true, false) => image.digests.clone(),
        (true, true) => vec!["<none>".to_owned()],
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, (bytes % 1_048_576) * 10 / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_name() {
        let image = |tags: &[&str], bytes| {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            Arc::new(Image { id: format!("sha256:{}", "ab".repeat(32)), tags, size_bytes: bytes, ..Image::default() })
        };
        let images = [image(&["localhost/b:1", "localhost/a:1"], 2_500_000), image(&[], 900)];
        let expected = "\
IMAGE           ID                   SIZE
<none>          abababababab        900 B
localhost/a:1   abababababab      2.3 MiB
localhost/b:1   abababababab      2.3 MiB
";
        assert_eq!(table(&images), expected);
        assert_eq!(json(&images)[1]["sizeBytes"], 900);
    }
}
