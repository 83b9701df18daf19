//! The API server of this process as the parts of this process use it: requests straight into its pipeline, under identities
//! that no network client can claim, and what is built on them: caches, events, controllers.

use std::sync::Arc;

use bytes::Bytes;
use corten_apiserver::auth::{AUTHENTICATED, User};
use corten_apiserver::http::body::full;
use corten_apiserver::http::pipeline::Api;
use corten_client::controller::{Driver, Leadership};
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Informers, StreamBody, Transport, TransportError};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;

/// The API server, and what everything that works on it needs beside. Cheap to clone.
#[derive(Clone)]
pub struct Inside {
    pub api: Arc<Api>,
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

impl Inside {
    /// Requests under an identity; `agent` is the program's name in `managedFields`.
    pub fn client(&self, user: User, agent: &str) -> Client {
        let transport = InProcess { api: self.api.clone(), user: Arc::new(user) };
        Client::new(Arc::new(transport), agent)
    }

    /// Caches that a client fills.
    pub fn informers(&self, client: Client) -> Informers {
        Informers::new(client, self.clock.clone(), self.random.clone(), self.tasks.clone())
    }

    /// Events, written by a client.
    pub fn recorder(&self, form: Form, client: Client) -> Recorder {
        Recorder::new(form, client, &self.clock, &self.random, &self.tasks)
    }

    /// Runs controllers of which this process has the only ones.
    pub fn driver(&self) -> Driver {
        Driver {
            clock: self.clock.clone(),
            random: self.random.clone(),
            tasks: self.tasks.clone(),
            leadership: Leadership::alone(),
        }
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
