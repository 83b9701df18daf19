//! What everything that is done for pods stands on.

use std::sync::Arc;

use corten_apimachinery::value::Value;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::Informer;
use corten_client::{Client, Informers};
use corten_image::Images;
use corten_network::PodNetwork;
use corten_runtime::engine::Engine;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::drain::Traffic;
use crate::env::ServiceView;
use crate::eviction::gauge::Gauges;
use crate::eviction::pressure;
use crate::pod::{Container, Pod};
use crate::settings::Settings;

/// What a node is given to run pods with.
pub struct Parts {
    pub settings: Settings,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<dyn Images>,
    pub network: Arc<dyn PodNetwork>,
    /// Tells when a pod may stop. Without it a pod stops at once.
    pub traffic: Option<Arc<dyn Traffic>>,
    /// What the node has left.
    pub gauges: Arc<dyn Gauges>,
    /// What the node is short of, for whoever keeps its object.
    pub pressure: pressure::Shared,
    /// Requests as this node.
    pub client: Client,
    pub informers: Informers,
    pub recorder: Recorder,
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

/// The parts, with what is known of the machine.
pub(crate) struct Ground {
    pub(crate) parts: Parts,
    pub(crate) services: Informer<ServiceView>,
    /// `status.allocatable` of the node.
    pub(crate) allocatable: Value,
    pub(crate) memory_bytes: i64,
}

impl Ground {
    /// Tells what happened to a pod, or to one of its containers.
    pub(crate) fn tell(&self, pod: Pod<'_>, container: Option<Container<'_>>, normal: bool, reason: &str, note: &str) {
        let mut about = Reference::of("v1", "Pod", pod.0);
        if let Some(container) = container {
            about = about.part(container.field_path());
        }
        if normal {
            self.parts.recorder.normal(&about, reason, note);
        } else {
            self.parts.recorder.warning(&about, reason, note);
        }
    }
}
