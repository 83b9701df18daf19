//! One request on its way to a server, and the answer on its way back.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::backend::Endpoint;
use crate::client::{Client, Next, Outcome};
use crate::codec::request::{Framing, Request, Version};
use crate::codec::response::Response;
use crate::codec::scan::Scan;
use crate::codec::{Limits, Malformed};
use crate::fault::Fault;
use crate::link::{Io, Link, Scratch};
use crate::relay::{Broken, Relay, Tunnel};
use crate::table::{Route, Table};
use crate::wire::{self, Sent};

/// Endpoints that are tried for one request.
const ATTEMPTS_MAX: usize = 3;

/// Answers before the answer.
const INTERIM_MAX: usize = 8;

/// A host name is no longer.
const HOST_BYTES_MAX: usize = 253;

/// A server's connection and how it was got.
struct Server<'a> {
    link: Link,
    endpoint: &'a Arc<Endpoint>,
    is_reused: bool,
    /// When it was got.
    since: Instant,
}

/// What has gone wrong, and with whom. The client was not told yet.
type Failed<'a> = (Fault, Option<&'a Endpoint>);

/// A request that a server has, until its answer's head is here.
struct Pending<'a> {
    request: &'a Request,
    response: &'a mut Response,
    upload: &'a mut Relay,
    scan: Scan,
    interim: usize,
    /// The server no longer reads: it may have answered all the same.
    is_upload_broken: bool,
    limits: Limits,
}

impl Client {
    /// Where the request leads whose head was read.
    pub(crate) fn route<'a>(&self, table: &'a Table) -> Option<&'a Route> {
        let mut host = [0; HOST_BYTES_MAX];
        // Whoever asks for the server as a whole asks whoever has the root.
        let path = if self.request.target() == b"*" { b"/" } else { self.request.path() };
        lower_case(&self.request, &mut host).and_then(|host| table.route(host, path))
    }

    /// Answers the request whose head was read.
    pub(crate) async fn answer<'a>(
        &mut self,
        table: &Table,
        route: Option<&'a Route>,
        began: Instant,
        is_last: bool,
    ) -> Outcome<'a> {
        let Some(route) = route else { return self.own_answer(Fault::NoRoute).await };
        if route.settings.redirect_to_https && !self.asker.tls {
            return self.redirect(table.https_port, is_last).await;
        }
        match self.forward(route, began, is_last).await {
            Ok(outcome) => outcome,
            Err((fault, endpoint)) => Outcome { endpoint, ..self.own_answer(fault).await },
        }
    }

    async fn redirect(&mut self, port: u16, is_last: bool) -> Outcome<'static> {
        let stays = self.request.keep_alive && self.request.framing == Framing::None && !is_last;
        let mut outcome = Outcome::new(308, if stays { Next::Stay } else { Next::Linger });
        let host = String::from_utf8_lossy(self.request.host().unwrap_or_default()).into_owned();
        let port = if matches!(port, 0 | 443) { String::new() } else { format!(":{port}") };
        let target = String::from_utf8_lossy(self.request.target()).into_owned();
        let location = format!("https://{host}{port}{target}");
        let to_head = self.request.is_method("HEAD");
        self.send_own(&mut outcome, &[("Location", location.as_bytes())], "", to_head).await;
        outcome
    }

    async fn forward<'a>(
        &mut self,
        route: &'a Route,
        began: Instant,
        is_last: bool,
    ) -> Result<Outcome<'a>, Failed<'a>> {
        let limits = self.core.settings.limits;
        let body_max = route.settings.body_bytes_max;
        let body_max = if body_max == 0 { u64::MAX } else { body_max };
        if matches!(self.request.framing, Framing::Length(length) if length > body_max) {
            return Err((Fault::BodyTooLarge, None));
        }
        let chunked = self.request.framing == Framing::Chunked;
        let mut upload = Relay::new(self.request.body(&limits), chunked, body_max);
        let upgrade = self.request.upgrade().filter(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        let mut first = Scratch::take();
        let target = rewritten(&self.request, route);
        wire::request(
            &mut first,
            &self.request,
            target.as_deref().unwrap_or(self.request.target()),
            &self.asker,
            upgrade,
        );
        // What has come of the body is looked at before anybody hears of the request.
        upload.take(&mut self.link, &mut first).map_err(|broken| (refusal(broken), None))?;

        let (mut tried, mut may_reuse, mut gone) = (Vec::new(), true, None);
        loop {
            let reached = self.reach(route, &mut tried, began, may_reuse).await;
            // Who has had the request says more than who could not be reached after that.
            let mut server = reached.map_err(|failed| gone.unwrap_or(failed))?;
            let endpoint = server.endpoint;
            let in_flight = endpoint.begin();
            server.link.output().extend_from_slice(&first);
            match self.head(&mut server, &mut upload, route).await {
                Ok(()) => {
                    let outcome = self.pass_back(server, upload, is_last).await;
                    drop(in_flight);
                    return Ok(outcome);
                }
                Err((Fault::ServerGone, true)) if is_repeatable(&self.request) => {
                    self.core.stats.retries.add(1);
                    may_reuse = false;
                    // An idle connection may have been closed under it; a new one says that the server itself has ended.
                    if !server.is_reused {
                        gone = Some((Fault::ServerGone, Some(&**endpoint)));
                        tried.push(endpoint);
                    }
                }
                Err((fault, _)) => {
                    self.core.stats.upstream_failures.add(1);
                    return Err((fault, Some(endpoint)));
                }
            }
        }
    }

    /// A connection to one of the route's endpoints that were not tried. Nothing is sent here, so another one may always be.
    async fn reach<'a>(
        &mut self,
        route: &'a Route,
        tried: &mut Vec<&'a Endpoint>,
        began: Instant,
        may_reuse: bool,
    ) -> Result<Server<'a>, Failed<'a>> {
        let core = &self.core;
        let is_repeatable = is_repeatable(&self.request);
        loop {
            let picked = route.backend.pick(tried, || core.now_ms(), core.random());
            let Some(endpoint) = picked.filter(|_| tried.len() < ATTEMPTS_MAX) else {
                let last = tried.last().copied();
                return Err((if last.is_some() { Fault::Unreachable } else { Fault::NoEndpoint }, last));
            };
            // Whoever has tried others has spent some time on them.
            let now = if tried.is_empty() { began } else { Instant::now() };
            if let Some(link) = core.pool.take(endpoint, is_repeatable, now).filter(|_| may_reuse) {
                core.stats.upstream_reused.add(1);
                return Ok(Server { link, endpoint, is_reused: true, since: now });
            }
            core.stats.upstream_connects.add(1);
            let limit = Duration::from_millis(route.settings.connect_timeout_ms);
            if let Ok(Ok(stream)) = timeout(limit, TcpStream::connect(endpoint.address)).await
                && stream.set_nodelay(true).is_ok()
            {
                endpoint.reached();
                let (link, since) = (Link::new(Io::Plain(stream)), Instant::now());
                return Ok(Server { link, endpoint, is_reused: false, since });
            }
            core.stats.upstream_failures.add(1);
            endpoint.not_reached(core.now_ms());
            tried.push(endpoint);
        }
    }

    /// Sends the request and waits for the head of its answer. With a fault comes whether the client has heard nothing of it.
    async fn head(&mut self, server: &mut Server<'_>, upload: &mut Relay, route: &Route) -> Result<(), (Fault, bool)> {
        let limit = Duration::from_millis(route.settings.read_timeout_ms);
        let Self { core, link, request, response, timer, .. } = self;
        let (limits, scan) = (core.settings.limits, Scan::default());
        let mut pending = Pending { request, response, upload, scan, interim: 0, is_upload_broken: false, limits };
        timer.arm_from(server.since, limit);
        let mut moved = link.moved;
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = pending.poll(link, &mut server.link, cx) {
                return Poll::Ready(done);
            }
            if link.moved != moved {
                moved = link.moved;
                timer.arm(limit);
            }
            let late = if pending.upload.is_written() { Fault::ServerSlow } else { Fault::ClientSlow };
            timer.poll_expired(cx).map(|()| Err(late))
        })
        .await;
        let is_unheard = pending.interim == 0;
        done.map_err(|fault| (fault, is_unheard))
    }

    /// Passes the answer on, whose head was read.
    async fn pass_back<'a>(&mut self, mut server: Server<'a>, upload: Relay, is_last: bool) -> Outcome<'a> {
        if self.response.status == 101 {
            return self.tunnel(server).await;
        }
        let version = self.request.version;
        let sent = wire::sent(&self.response, version);
        // A body that was not read to its end would be taken for the next request.
        let whole = upload.is_written();
        let stays =
            self.request.keep_alive && whole && !is_last && sent != Sent::UntilClose && !self.core.is_draining();
        wire::response(self.link.output(), &self.response, sent, stays, version);
        let limits = self.core.settings.limits;
        let mut download = Relay::new(self.response.body(&limits), sent == Sent::Chunked, u64::MAX);
        let done = self.relay(&mut server.link, upload, &mut download).await;
        let mut outcome = Outcome::new(self.response.status, if stays { Next::Stay } else { Next::Linger });
        outcome.bytes = download.bytes;
        outcome.endpoint = Some(server.endpoint);
        match done {
            Ok(upload) => {
                if self.response.keep_alive && upload.is_written() && server.link.input().is_empty() {
                    self.core.pool.put(server.endpoint, server.link, outcome.ended);
                }
            }
            Err(fault) => (outcome.fault, outcome.next) = (Some(fault), Next::Cut),
        }
        outcome
    }

    /// The answer's body, and beside it what is left of the request's.
    async fn relay(&mut self, server: &mut Link, mut upload: Relay, download: &mut Relay) -> Result<Relay, Fault> {
        let Self { core, link, timer, .. } = self;
        let limit = core.settings.timeouts.body;
        timer.arm(limit);
        let mut moved = (0, 0);
        let mut is_upload_done = upload.is_written() && server.unsent() == 0;
        let done = poll_fn(|cx| {
            if !is_upload_done {
                // Whatever becomes of it, the answer is what counts now.
                is_upload_done = upload.poll(link, server, cx).is_ready();
            }
            if let Poll::Ready(done) = download.poll(server, link, cx) {
                return Poll::Ready(done);
            }
            if (link.moved, server.moved) != moved {
                moved = (link.moved, server.moved);
                timer.arm(limit);
            }
            timer.poll_expired(cx).map(|()| Err(Broken::Refused(Fault::ServerSlow)))
        })
        .await;
        match done {
            Ok(()) => Ok(upload),
            Err(Broken::Refused(Fault::Malformed(_))) => Err(Fault::ServerMalformed),
            Err(Broken::Refused(fault)) => Err(fault),
            Err(Broken::Source) => Err(Fault::ServerGone),
            Err(Broken::Sink) => Err(Fault::ClientGone),
        }
    }

    /// Both sides speak something else from here on.
    async fn tunnel<'a>(&mut self, mut server: Server<'a>) -> Outcome<'a> {
        let protocol = self.response.upgrade().unwrap_or_default().to_vec();
        wire::switching(self.link.output(), &self.response, &protocol);
        self.core.stats.tunnels.add(1);
        let Self { core, link, timer, .. } = self;
        let limit = core.settings.timeouts.tunnel;
        timer.arm(limit);
        let (mut up, mut down) = (Tunnel::default(), Tunnel::default());
        let (mut up_done, mut down_done) = (false, false);
        let mut moved = 0;
        let before = link.moved;
        poll_fn(|cx| {
            for (tunnel, done, is_up) in [(&mut up, &mut up_done, true), (&mut down, &mut down_done, false)] {
                let (from, to) = if is_up { (&mut *link, &mut server.link) } else { (&mut server.link, &mut *link) };
                if !*done && let Poll::Ready(ended) = tunnel.poll(from, to, cx) {
                    *done = true;
                    if ended.is_err() {
                        return Poll::Ready(());
                    }
                }
            }
            if up_done && down_done {
                return Poll::Ready(());
            }
            let now = link.moved.wrapping_add(server.link.moved);
            if now != moved {
                moved = now;
                timer.arm(limit);
            }
            timer.poll_expired(cx)
        })
        .await;
        let mut outcome = Outcome::new(101, Next::Cut);
        outcome.bytes = link.moved.wrapping_sub(before);
        outcome.endpoint = Some(server.endpoint);
        outcome
    }
}

impl Pending<'_> {
    fn poll(&mut self, client: &mut Link, server: &mut Link, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        if !self.is_upload_broken && (!self.upload.is_written() || server.unsent() > 0) {
            match self.upload.poll(client, server, cx) {
                Poll::Ready(Err(Broken::Refused(fault))) => return Poll::Ready(Err(fault)),
                Poll::Ready(Err(Broken::Source)) => return Poll::Ready(Err(Fault::ClientGone)),
                Poll::Ready(Err(Broken::Sink)) => self.is_upload_broken = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        loop {
            // What was passed on ahead of the answer.
            if client.unsent() > 0 {
                ready!(client.poll_flush(cx)).map_err(|_| Fault::ClientGone)?;
            }
            match self.scan.head(server.input(), &self.limits).map_err(|_| Fault::ServerMalformed)? {
                Some(length) => {
                    if self.read(client, server, length).map_err(|_| Fault::ServerMalformed)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                None => match ready!(server.poll_fill(cx)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(Err(Fault::ServerGone)),
                },
            }
        }
    }

    /// Whether this head is the answer's.
    fn read(&mut self, client: &mut Link, server: &mut Link, length: usize) -> Result<bool, Malformed> {
        let to_head = self.request.is_method("HEAD");
        self.response.read(&server.input()[..length], to_head, &self.limits)?;
        server.consume(length);
        self.scan = Scan::default();
        if self.response.status == 101 {
            return if self.may_change() { Ok(true) } else { Err(Malformed::Status) };
        }
        if !self.response.is_interim() {
            return Ok(true);
        }
        self.interim += 1;
        if self.interim > INTERIM_MAX {
            return Err(Malformed::Status);
        }
        match self.response.status {
            // An old client knows no interim answers; others are told what they asked for, and hints.
            _ if self.request.version == Version::Http10 => {}
            100 if self.request.expects_continue => client.output().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"),
            103 => wire::interim(client.output(), self.response),
            _ => {}
        }
        Ok(false)
    }

    /// The server changes to the very protocol that was asked for.
    fn may_change(&self) -> bool {
        let asked = self.request.upgrade().filter(|protocol| protocol.eq_ignore_ascii_case(b"websocket"));
        let given = self.response.upgrade();
        asked.is_some_and(|asked| given.is_some_and(|given| given.eq_ignore_ascii_case(asked)))
    }
}

fn refusal(broken: Broken) -> Fault {
    match broken {
        Broken::Refused(fault) => fault,
        Broken::Source | Broken::Sink => Fault::ClientGone,
    }
}

/// Asking twice is like asking once, and nothing of the request is used up.
fn is_repeatable(request: &Request) -> bool {
    request.framing == Framing::None && ["GET", "HEAD", "OPTIONS"].iter().any(|method| request.is_method(method))
}

/// The host as routes have it, or nothing for one that no route can have.
fn lower_case<'a>(request: &Request, space: &'a mut [u8; HOST_BYTES_MAX]) -> Option<&'a [u8]> {
    let host = request.host().unwrap_or_default();
    let host = host.strip_suffix(b".").unwrap_or(host);
    let space = space.get_mut(..host.len())?;
    space.copy_from_slice(host);
    space.make_ascii_lowercase();
    Some(space)
}

fn rewritten(request: &Request, route: &Route) -> Option<Vec<u8>> {
    if let Some(path) = &route.settings.rewrite_path {
        let query = &request.target()[request.path().len()..];
        return Some([path.as_bytes(), query].concat());
    }
    let prefix = route.settings.rewrite_prefix.as_ref()?;
    let rest = request.target().get(route.matched..)?;
    let mut target = prefix.trim_end_matches('/').as_bytes().to_vec();
    if !rest.starts_with(b"/") {
        target.push(b'/');
    }
    target.extend_from_slice(rest);
    Some(target)
}
