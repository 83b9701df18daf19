//! A scenario is a list of requests that is sent to both servers step by step. A request may refer to what the same
//! server answered before: `@{rv}`, `@{uid}`, `@{continue}`.

use anyhow::{Context, Result};
use serde_json::Value;

use super::compare;
use super::report::Report;
use crate::http::{Answer, Client, Request};

/// The namespace that every scenario works in.
pub(crate) const NAMESPACE: &str = "diff";

pub(crate) struct Scenario {
    pub(crate) category: &'static str,
    /// `apps/v1/Deployment`, or what else it is about.
    pub(crate) subject: String,
    pub(crate) steps: Vec<Step>,
}

pub(crate) struct Step {
    pub(crate) what: String,
    pub(crate) request: Request,
}

/// What one server said last.
#[derive(Default)]
struct Memory {
    revision: String,
    uid: String,
    continue_token: String,
}

impl Scenario {
    pub(crate) fn new(category: &'static str, subject: impl Into<String>) -> Self {
        Self { category, subject: subject.into(), steps: Vec::new() }
    }

    pub(crate) fn step(&mut self, what: impl Into<String>, request: Request) -> &mut Self {
        self.steps.push(Step { what: what.into(), request });
        self
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.category, self.subject)
    }

    pub(crate) async fn play(&self, clients: &mut [Client; 2], report: &mut Report) -> Result<()> {
        let mut memories = [Memory::default(), Memory::default()];
        let [left, right] = clients;
        for step in &self.steps {
            let requests = [memories[0].fill(&step.request), memories[1].fill(&step.request)];
            let (first, second) = tokio::join!(left.send(&requests[0]), right.send(&requests[1]));
            let first = first.with_context(|| format!("the real server, {} {}", self.name(), step.what))?;
            memories[0].learn(&first);
            let differences = match second {
                Ok(second) => {
                    memories[1].learn(&second);
                    compare::answers(&first, &second)
                }
                Err(error) => vec![compare::Difference::broken(&first, &format!("{error:#}"))],
            };
            report.add(self, step, &requests[1], differences);
        }
        Ok(())
    }
}

impl Memory {
    fn fill(&self, request: &Request) -> Request {
        let fill = |text: &str| {
            let text = text.replace("@{rv}", &self.revision).replace("@{uid}", &self.uid);
            text.replace("@{continue}", &self.continue_token)
        };
        Request { path: fill(&request.path), body: fill(&request.body), ..request.clone() }
    }

    fn learn(&mut self, answer: &Answer) {
        let Ok(Value::Object(body)) = serde_json::from_slice(&answer.body) else { return };
        let text = |name: &str| body.get("metadata").and_then(|meta| meta[name].as_str()).map(str::to_owned);
        for (name, slot) in
            [("resourceVersion", &mut self.revision), ("uid", &mut self.uid), ("continue", &mut self.continue_token)]
        {
            if let Some(text) = text(name) {
                *slot = text;
            }
        }
    }
}
