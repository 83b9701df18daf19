//! The API as the parts of one node come to it, each under a name of its own: on the server that has the API inside the process,
//! elsewhere over the network with certificates.

use std::sync::Arc;

use corten_apiserver::auth::User;
use corten_client::{Client, Transport};

use crate::inside::{Inside, user};

/// Whom upstream's role for nodes is bound to.
pub const NODES: &str = "system:nodes";
/// What the data path of a node is allowed: to read what leads to pods, and to say where Ingresses are reached.
pub const EDGES: &str = "corten:edges";

/// The two ways.
#[derive(Clone)]
pub struct Access {
    pub node: Arc<dyn Transport>,
    pub edge: Arc<dyn Transport>,
}

/// The name of a node as a user.
pub fn node_user(node: &str) -> String {
    format!("system:node:{node}")
}

/// The name of a node's data path as a user.
pub fn edge_user(node: &str) -> String {
    format!("corten:edge:{node}")
}

impl Access {
    /// To the API of this process.
    pub fn inside(inside: &Inside, node: &str) -> Self {
        let as_user = |name: String, group| -> User { user(&name, &[group]) };
        Self {
            node: inside.transport(as_user(node_user(node), NODES)),
            edge: inside.transport(as_user(edge_user(node), EDGES)),
        }
    }

    /// The kubelet's client.
    pub fn kubelet(&self) -> Client {
        Client::new(self.node.clone(), "kubelet")
    }

    /// A client of the data path; `agent` is the program's name in `managedFields`.
    pub fn data_path(&self, agent: &str) -> Client {
        Client::new(self.edge.clone(), agent)
    }
}
