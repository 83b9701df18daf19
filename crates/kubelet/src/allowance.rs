//! What a pod may use of the things that a pod's specification has no fields for: processes, and bytes a second from and to
//! disks. Its annotations of `corten.dev` say it (docs/limits.md). They are read when the pod starts.

use corten_apimachinery::quantity::Quantity;

use crate::pod::Pod;

const PIDS: &str = "corten.dev/pids";
const IO_READ: &str = "corten.dev/io-read-bps";
const IO_WRITE: &str = "corten.dev/io-write-bps";

/// What is `None` is not limited by the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Processes and threads of all containers together.
    pub pids: Option<u64>,
    /// Bytes a second, on each disk.
    pub io_read_bps: Option<u64>,
    pub io_write_bps: Option<u64>,
}

/// An annotation that says nothing; a pod that has one does not start, for it would be without the limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the annotation {annotation} is {value:?}; it is to be {expected}")]
pub struct AllowanceError {
    pub annotation: &'static str,
    pub value: String,
    pub expected: &'static str,
}

impl Allowance {
    pub fn of(pod: Pod<'_>) -> Result<Self, AllowanceError> {
        let amount = |annotation: &'static str, expected: &'static str| {
            let Some(value) = pod.meta().annotation(annotation) else { return Ok(None) };
            let refused = || AllowanceError { annotation, value: value.to_owned(), expected };
            let quantity = Quantity::parse(value).map_err(|_| refused())?;
            let is_whole = i128::from(quantity.value()) * 1000 == i128::from(quantity.milli_value());
            // One beyond what thousandths can count is whole enough.
            let is_large = quantity.milli_value() == i64::MAX;
            u64::try_from(quantity.value())
                .ok()
                .filter(|value| *value > 0 && (is_whole || is_large))
                .map(Some)
                .ok_or_else(refused)
        };
        let rate = "a number of bytes a second from 1 on, such as 5M or 512Ki";
        Ok(Self {
            pids: amount(PIDS, "a number of processes from 1 on")?,
            io_read_bps: amount(IO_READ, rate)?,
            io_write_bps: amount(IO_WRITE, rate)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Map;

    use super::*;

    fn of(annotations: &[(&'static str, &str)]) -> Result<Allowance, AllowanceError> {
        let mut map = Map::new();
        annotations.iter().for_each(|(name, value)| drop(map.insert(*name, *value)));
        let pod = value!({"metadata": {"annotations": (corten_apimachinery::value::Value::from(map))}});
        Allowance::of(Pod(&pod))
    }

    #[test]
    fn annotations_say_what_a_pod_may_use() {
        assert_eq!(of(&[("other.example/pids", "x")]), Ok(Allowance::default()));
        let expected = Allowance { pids: Some(30), io_read_bps: Some(5_000_000), io_write_bps: Some(512 << 10) };
        assert_eq!(of(&[(PIDS, "30"), (IO_READ, "5M"), (IO_WRITE, "512Ki")]), Ok(expected));
        assert_eq!(of(&[(IO_READ, "1E")]).map(|seen| seen.io_read_bps), Ok(Some(1_000_000_000_000_000_000)));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for annotation in [PIDS, IO_READ, IO_WRITE] {
            for bad in ["", "fast", "0", "-5", "0.5", "500m", "5 M"] {
                let error = of(&[(annotation, bad)]).expect_err(bad);
                assert_eq!((error.annotation, error.value.as_str()), (annotation, bad));
            }
        }
        let said = of(&[(IO_WRITE, "fast")]).expect_err("no number").to_string();
        let expected = "the annotation corten.dev/io-write-bps is \"fast\"; it is to be a number of bytes a second from 1 on, such as \
                        5M or 512Ki";
        assert_eq!(said, expected);
    }
}
