//! Several clients of one API at the same time, each with a connection of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use crate::http::{Client, Request};
use crate::kubeconfig::Endpoint;

pub(super) struct Crew(Vec<Client>);

impl Crew {
    pub(super) fn new(kubeconfig: &Path, size: usize) -> Result<Self> {
        let endpoint = Endpoint::read(kubeconfig)?;
        let clients: Result<Vec<Client>> = (0..size).map(|_| Client::new(&endpoint)).collect();
        Ok(Self(clients?))
    }

    /// Sends every request, whoever is free the next one; each must be answered with success.
    pub(super) async fn send(&mut self, requests: Vec<Request>) -> Result<()> {
        let left = Arc::new(Mutex::new(requests.into_iter()));
        let mut working = JoinSet::new();
        for mut client in self.0.drain(..) {
            let left = left.clone();
            working.spawn(async move {
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(request) = next else { return Ok(client) };
                    succeed(&mut client, &request).await?;
                }
            });
        }
        while let Some(worked) = working.join_next().await {
            let client: Result<Client> = worked.context("a client of the crew")?;
            self.0.push(client?);
        }
        Ok(())
    }
}

/// Sends a request that must be answered with success.
pub(super) async fn succeed(client: &mut Client, request: &Request) -> Result<()> {
    let answer = client.send(request).await?;
    let said = || String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(matches!(answer.code, 200..=202), "{} {}: {}: {}", request.method, request.path, answer.code, said());
    Ok(())
}
