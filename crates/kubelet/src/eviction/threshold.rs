//! How little of something a node may have left: signals and thresholds as upstream writes them
//! (`memory.available<100Mi,nodefs.available<10%`).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use corten_apimachinery::quantity::{Format, Quantity};

use super::pressure::Kind;

/// What is watched. Memory comes first, since it is short for the shortest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    /// The file system of the data directory: volumes, logs, what containers write.
    NodefsAvailable,
    NodefsInodesFree,
    /// The file system of images.
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

impl Signal {
    pub const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// The resource that a node is low on, in upstream's words.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    pub fn kind(self) -> Kind {
        match self {
            Self::MemoryAvailable => Kind::Memory,
            Self::PidAvailable => Kind::Pid,
            _ => Kind::Disk,
        }
    }

    pub(super) fn of_images(self) -> bool {
        matches!(self, Self::ImagefsAvailable | Self::ImagefsInodesFree)
    }

    /// An amount of it, as upstream prints it.
    pub(super) fn quantity(self, amount: u64) -> Quantity {
        let counted = matches!(self.resource(), "inodes" | "pids");
        quantity(amount, if counted { Format::DecimalSi } else { Format::BinarySi })
    }
}

pub(super) fn quantity(amount: u64, format: Format) -> Quantity {
    Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), format)
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    pub available: u64,
    pub capacity: u64,
}

/// What a node has; what could not be read is not there.
pub type Levels = BTreeMap<Signal, Level>;

/// The least that is to be left.
#[derive(Clone, Debug, PartialEq)]
pub enum Least {
    Amount(Quantity),
    /// Of the capacity.
    Percent(f64),
}

impl Least {
    /// As an amount, of so much in all.
    pub fn of(&self, signal: Signal, capacity: u64) -> Quantity {
        match self {
            Self::Amount(amount) => amount.clone(),
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
            #[expect(clippy::cast_precision_loss, reason = "8 PiB are exact")]
            Self::Percent(percent) => signal.quantity((capacity as f64 * percent / 100.0) as u64),
        }
    }
}

/// One that was passed: less is there than is to be left.
#[derive(Clone, Debug, PartialEq)]
pub struct Met {
    pub signal: Signal,
    pub least: Quantity,
    pub available: Quantity,
}

/// The least of each signal; of what is not named everything may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(BTreeMap<Signal, Least>);

/// Upstream's for Linux.
pub const DEFAULT: &str =
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%";

impl Default for Thresholds {
    fn default() -> Self {
        DEFAULT.parse().expect("a test parses it")
    }
}

impl Thresholds {
    /// Nothing is watched.
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least of a signal, of so much in all.
    pub fn least(&self, signal: Signal, capacity: u64) -> Option<Quantity> {
        self.0.get(&signal).map(|least| least.of(signal, capacity))
    }

    /// Those that are met, in the order in which they are seen to.
    pub fn met(&self, levels: &Levels) -> Vec<Met> {
        let one = |(signal, least): (&Signal, &Least)| {
            let level = levels.get(signal)?;
            let (least, available) = (least.of(*signal, level.capacity), signal.quantity(level.available));
            (available < least).then_some(Met { signal: *signal, least, available })
        };
        self.0.iter().filter_map(one).collect()
    }
}

/// What is no list of thresholds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("{0:?} is not SIGNAL<AMOUNT, such as memory.available<100Mi")]
    Form(String),
    #[error("{0:?} is no signal; there are {all}", all = Signal::ALL.map(Signal::name).join(", "))]
    Signal(String),
    #[error("{0} is there twice")]
    Twice(&'static str),
    #[error("{amount:?} of {signal} is no quantity above 0, such as 100Mi, and no share from 0% to 100%")]
    Amount { signal: &'static str, amount: String },
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let (mut found, mut named) = (BTreeMap::new(), Vec::new());
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, amount) = part.split_once('<').ok_or_else(|| ThresholdError::Form(part.to_owned()))?;
            let (name, amount) = (name.trim(), amount.trim());
            let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
            let signal = signal.ok_or_else(|| ThresholdError::Signal(name.to_owned()))?;
            if named.contains(&signal) {
                return Err(ThresholdError::Twice(signal.name()));
            }
            named.push(signal);
            let wrong = || ThresholdError::Amount { signal: signal.name(), amount: amount.to_owned() };
            // Upstream takes both ends for "not watched".
            if let Some(least) = least(amount).ok_or_else(wrong)?.filter(|_| !matches!(amount, "0%" | "100%")) {
                found.insert(signal, least);
            }
        }
        Ok(Self(found))
    }
}

/// `Some(None)` is nothing at all.
fn least(amount: &str) -> Option<Option<Least>> {
    if let Some(percent) = amount.strip_suffix('%') {
        let percent = percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
        return Some((percent > 0.0).then_some(Least::Percent(percent)));
    }
    let amount = Quantity::parse(amount).ok().filter(|amount| amount.signum() > 0)?;
    Some(Some(Least::Amount(amount)))
}

impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (signal, least)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match least {
                Least::Amount(amount) => write!(f, "{comma}{}<{amount}", signal.name())?,
                Least::Percent(percent) => write!(f, "{comma}{}<{percent}%", signal.name())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: &str) {
        let seen = text.parse::<Thresholds>().map_or_else(|error| error.to_string(), |known| known.to_string());
        assert_eq!(seen, expect);
    }

    #[test]
    fn thresholds_are_read_as_upstream_writes_them() {
        check(DEFAULT, DEFAULT);
        check("", "");
        check(" pid.available<2% , memory.available<1.5Gi ", "memory.available<1536Mi,pid.available<2%");
        check("nodefs.available<0%,imagefs.available<100%", "");
    }

    #[test]
    fn what_is_none_is_refused_with_what_would_be_one() {
        check("memory.available", "\"memory.available\" is not SIGNAL<AMOUNT, such as memory.available<100Mi");
        let known = "memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree, \
                     pid.available";
        check("memory<1Gi", &format!("\"memory\" is no signal; there are {known}"));
        check("pid.available<1,pid.available<2", "pid.available is there twice");
        for amount in ["", "0", "-1Mi", "much", "101%", "-1%", "x%", "NaN%"] {
            let why = "is no quantity above 0, such as 100Mi, and no share from 0% to 100%";
            check(&format!("nodefs.available<{amount}"), &format!("{amount:?} of nodefs.available {why}"));
        }
    }

    #[test]
    fn memory_is_seen_to_first() {
        let thresholds: Thresholds =
            "nodefs.available<10%,memory.available<100Mi,pid.available<5".parse().expect("one");
        let level = |available, capacity| Level { available, capacity };
        let levels = Levels::from([
            (Signal::NodefsAvailable, level(99 << 10, 1000 << 10)),
            (Signal::MemoryAvailable, level(100 << 20, 1 << 30)),
            (Signal::PidAvailable, level(5, 10)),
        ]);
        let brief = |met: &Met| format!("{} {} of {}", met.signal.name(), met.available, met.least);
        let seen: Vec<String> = thresholds.met(&levels).iter().map(brief).collect();
        assert_eq!(seen, ["nodefs.available 99Ki of 100Ki"]);
        let levels = Levels::from([
            (Signal::NodefsAvailable, level(0, 1000)),
            (Signal::MemoryAvailable, level((100 << 20) - 1024, 1 << 30)),
            (Signal::PidAvailable, level(4, 10)),
        ]);
        let seen: Vec<String> = thresholds.met(&levels).iter().map(brief).collect();
        assert_eq!(seen, ["memory.available 102399Ki of 100Mi", "nodefs.available 0 of 100", "pid.available 4 of 5"]);
        assert_eq!(thresholds.met(&Levels::new()), [], "what is not known is not short");
    }
}
