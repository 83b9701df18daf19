//! A client's connection: one request after the other, each read whole before the next.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::access::Line;
use crate::backend::Endpoint;
use crate::codec::request::Request;
use crate::codec::response::Response;
use crate::codec::scan::Scan;
use crate::core::Core;
use crate::fault::Fault;
use crate::link::Link;
use crate::table::Route;
use crate::timer::Timer;
use crate::wire::{self, Asker};

/// A connection with what serves it again and again.
pub(crate) struct Client {
    pub(crate) core: Rc<Core>,
    pub(crate) link: Link,
    pub(crate) asker: Asker,
    pub(crate) request: Request,
    pub(crate) response: Response,
    pub(crate) timer: Timer,
    idle_since: Instant,
}

/// How a request ended.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    pub(crate) status: u16,
    /// Bytes of the answer's body.
    pub(crate) bytes: u64,
    pub(crate) endpoint: Option<&'a Endpoint>,
    pub(crate) fault: Option<Fault>,
    pub(crate) next: Next,
    /// When its last byte had left.
    pub(crate) ended: Instant,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next request.
    Stay,
    /// It is closed when the client has had time to read what was sent.
    Linger,
    /// It is closed at once: what was sent is not whole, and must not look so.
    Cut,
}

impl Outcome<'_> {
    /// Of what ends now.
    pub(crate) fn new(status: u16, next: Next) -> Self {
        Self { status, bytes: 0, endpoint: None, fault: None, next, ended: Instant::now() }
    }
}

impl Client {
    pub(crate) fn new(core: Rc<Core>, link: Link, asker: Asker) -> Self {
        let timer = Timer::new(core.settings.timeouts.idle);
        let (request, response, idle_since) = (Request::default(), Response::default(), Instant::now());
        Self { core, link, asker, request, response, timer, idle_since }
    }

    /// Serves requests until the connection ends.
    pub(crate) async fn serve(mut self) {
        for served in 1_u32.. {
            let is_last = served >= self.core.settings.requests_per_connection_max;
            let next = match self.next_head().await {
                Ok(true) => self.one(is_last).await,
                Ok(false) => return,
                Err(Fault::ClientGone) => return,
                Err(fault) => self.refuse(fault).await,
            };
            match next {
                Next::Stay => {}
                Next::Linger => return self.linger().await,
                Next::Cut => return,
            }
        }
    }

    /// Reads a head; `false` where the client ends instead.
    async fn next_head(&mut self) -> Result<bool, Fault> {
        let timeouts = self.core.settings.timeouts;
        if self.link.input().is_empty() {
            self.link.rest();
            self.timer.arm_from(self.idle_since, timeouts.idle);
            let filled = self.until(Fault::ClientSlow, |link, cx| link.poll_fill(cx)).await;
            // Nobody is told that an idle connection ends.
            if !matches!(filled, Ok(Ok(1..))) {
                return Ok(false);
            }
        }
        self.timer.arm(timeouts.head);
        let limits = self.core.settings.limits;
        let mut scan = Scan::default();
        loop {
            if let Some(length) = scan.head(self.link.input(), &limits)? {
                let read = self.request.read(&self.link.input()[..length], &limits);
                self.link.consume(length);
                return Ok(read.map(|()| true)?);
            }
            match self.until(Fault::ClientSlow, |link, cx| link.poll_fill(cx)).await? {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Fault::ClientGone),
            }
        }
    }

    async fn until<T>(
        &mut self,
        late: Fault,
        mut poll: impl FnMut(&mut Link, &mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Fault> {
        poll_fn(|cx| match poll(&mut self.link, cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.timer.poll_expired(cx).map(|()| Err(late)),
        })
        .await
    }

    async fn one(&mut self, is_last: bool) -> Next {
        let began = Instant::now();
        // Both stay where they are for as long as the request takes: nothing of them is counted or copied for it.
        let table = self.core.table();
        let route = self.route(&table);
        let outcome = self.answer(&table, route, began, is_last).await;
        self.idle_since = outcome.ended;
        self.record(route, &outcome, outcome.ended.duration_since(began));
        outcome.next
    }

    /// An answer to what is no request.
    async fn refuse(&mut self, fault: Fault) -> Next {
        self.core.stats.malformed.add(1);
        // What was read of it may be anything: nothing of it is repeated.
        self.request = Request::default();
        let outcome = self.own_answer(fault).await;
        self.idle_since = outcome.ended;
        self.record(None, &outcome, Duration::ZERO);
        outcome.next
    }

    /// Says itself what went wrong.
    pub(crate) async fn own_answer(&mut self, fault: Fault) -> Outcome<'static> {
        let status = fault.status();
        let body_left = self.request.framing != crate::codec::request::Framing::None;
        let stays = self.request.keep_alive && !fault.ends_connection() && !body_left && !self.core.is_draining();
        let mut outcome = Outcome::new(status, if stays { Next::Stay } else { Next::Linger });
        outcome.fault = Some(fault);
        if fault == Fault::ClientGone {
            outcome.next = Next::Cut;
            return outcome;
        }
        let text = format!("{status} {fault}\n");
        outcome.bytes = text.len() as u64;
        let to_head = self.request.is_method("HEAD");
        self.send_own(&mut outcome, &[], &text, to_head).await;
        outcome
    }

    pub(crate) async fn send_own(
        &mut self,
        outcome: &mut Outcome<'_>,
        more: &[(&str, &[u8])],
        text: &str,
        to_head: bool,
    ) {
        wire::own(self.link.output(), outcome.status, more, text, outcome.next == Next::Stay, to_head);
        self.timer.arm(self.core.settings.timeouts.body);
        let sent = self.until(Fault::ClientSlow, |link, cx| link.poll_flush(cx)).await;
        if !matches!(sent, Ok(Ok(()))) {
            outcome.next = Next::Cut;
        }
        outcome.ended = Instant::now();
    }

    fn record(&self, route: Option<&Route>, outcome: &Outcome<'_>, took: Duration) {
        let stats = &self.core.stats;
        stats.requests.add(1);
        let class = usize::from(outcome.status / 100).clamp(1, 5) - 1;
        stats.answers[class].add(1);
        stats.client_bytes_out.add(outcome.bytes);
        stats.request_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        let fault = outcome.fault.map(|fault| fault.to_string()).unwrap_or_default();
        let lost = self.core.log.add(&Line {
            at_ms: self.core.at_ms(outcome.ended),
            client: &self.asker.client,
            tls: self.asker.tls,
            method: self.request.method(),
            host: self.request.host().unwrap_or_default(),
            target: self.request.target(),
            status: outcome.status,
            bytes: outcome.bytes,
            took,
            backend: route.map(|route| &route.member),
            endpoint: outcome.endpoint.map(|endpoint| &endpoint.member),
            fault: &fault,
            user_agent: self.request.fields.other("user-agent").unwrap_or_default(),
        });
        stats.log_lines_dropped.add(lost);
    }

    /// Lets the client read the answer: closing while it still sends would destroy what it has not read yet.
    async fn linger(mut self) {
        self.timer.arm(self.core.settings.timeouts.linger);
        let ended = self.until(Fault::ClientSlow, |link, cx| link.poll_shutdown(cx)).await;
        if !matches!(ended, Ok(Ok(()))) {
            return;
        }
        loop {
            let length = self.link.input().len();
            self.link.consume(length);
            let filled = self.until(Fault::ClientSlow, |link, cx| link.poll_fill(cx)).await;
            if !matches!(filled, Ok(Ok(1..))) {
                return;
            }
        }
    }
}
