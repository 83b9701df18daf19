//! The API server of this process as the parts of this process use it: requests straight into its pipeline, under identities
//! that no network client can claim.

use std::sync::Arc;

use bytes::Bytes;
use corten_apiserver::auth::{AUTHENTICATED, User};
use corten_apiserver::http::body::full;
use corten_apiserver::http::pipeline::Api;
use corten_client::{Client, StreamBody, Transport, TransportError};
use futures_core::future::BoxFuture;

use crate::seams::Seams;

/// The API server, and the seams of what works on it. Cheap to clone.
#[derive(Clone)]
pub struct Inside {
    pub api: Arc<Api>,
    pub seams: Seams,
}

impl Inside {
    /// Requests under an identity; `agent` is the program's name in `managedFields`.
    pub fn client(&self, user: User, agent: &str) -> Client {
        Client::new(self.transport(user), agent)
    }

    /// The way of an identity into the pipeline.
    pub fn transport(&self, user: User) -> Arc<dyn Transport> {
        Arc::new(InProcess { api: self.api.clone(), user: Arc::new(user) })
    }
}

/// A service account of `kube-system`, as its token would show it.
pub fn service_account(name: &str) -> User {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    user(&format!("system:serviceaccount:kube-system:{name}"), &groups)
}

/// An authenticated user of that name.
pub fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().copied().chain([AUTHENTICATED]).map(Into::into).collect();
    User { name: name.into(), groups, ..User::default() }
}

struct InProcess {
    api: Arc<Api>,
    user: Arc<User>,
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        Box::pin(async move { Ok(self.api.call(request.map(full), self.user.clone()).await) })
    }
}
