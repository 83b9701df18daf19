//! A program's streams: standard input, output, error, the terminal's size, and how it ended. The protocol has had five
//! versions: the second mends the first's closing, the third brings the size, the fourth a Status instead of a text, the
//! fifth (WebSockets alone) a way to end standard input.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::handshake::{Carrier, Refused, negotiate};
use crate::websocket::{self, Channel, Direction, Encoding};
use crate::{Driver, Gone, Incoming, OpenError, Outgoing, STREAMS_OPEN_LIMIT, spdy};

const WEBSOCKET: [&str; 6] = [
    "",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "v5.channel.k8s.io",
];
const SPDY: [&str; 4] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

/// Bytes of one message about the terminal's size.
const SIZE_BYTES_MAX: usize = 4096;

/// Which streams the client announced in its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    pub stdin: Option<Incoming>,
    pub stdout: Option<Outgoing>,
    pub stderr: Option<Outgoing>,
    pub sizes: Option<Sizes>,
    pub end: End,
}

/// A request that is being upgraded.
#[derive(Debug)]
pub struct Upgrading {
    upgrade: OnUpgrade,
    carrier: Carrier,
    protocol: &'static str,
}

/// Chooses carrier and protocol.
///
/// # Errors
/// When the request is no upgrade that is served.
pub fn upgrade<B>(request: &mut Request<B>) -> Result<(Response<Full<Bytes>>, Upgrading), Refused> {
    let (carrier, protocol, response) = negotiate(request, &WEBSOCKET, &SPDY)?;
    Ok((response, Upgrading { upgrade: hyper::upgrade::on(request), carrier, protocol }))
}

impl Upgrading {
    /// Opens the session once the answer was sent.
    ///
    /// # Errors
    /// When the client does not open the streams that it announced.
    pub async fn open(self, wanted: Wanted) -> Result<(Session, Driver), OpenError> {
        let io = TokioIo::new(self.upgrade.await?);
        match self.carrier {
            Carrier::WebSocket => Ok(over_websocket(io, self.protocol, wanted).await),
            Carrier::Spdy => over_spdy(io, self.protocol, wanted).await,
        }
    }
}

/// The session over a WebSocket of the given protocol.
pub async fn over_websocket<S>(io: S, protocol: &str, wanted: Wanted) -> (Session, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let encoding = Encoding { base64: protocol.contains("base64."), close: protocol == "v5.channel.k8s.io" };
    let when = |wanted: bool, direction| if wanted { direction } else { Direction::None };
    let directions = [
        when(wanted.stdin, Direction::FromClient),
        when(wanted.stdout, Direction::ToClient),
        when(wanted.stderr, Direction::ToClient),
        Direction::ToClient,
        when(wanted.tty, Direction::FromClient),
    ];
    let (channels, driver) = websocket::channels(websocket::accept(io).await, encoding, &directions);
    let [stdin, stdout, stderr, error, size] =
        <[Channel; 5]>::try_from(channels).expect("there is a channel for each direction");
    let end = End {
        out: error.outgoing,
        held: Vec::new(),
        as_status: protocol.starts_with("v4.") || protocol.starts_with("v5."),
    };
    let session = Session {
        stdin: stdin.incoming,
        stdout: stdout.outgoing,
        stderr: stderr.outgoing,
        sizes: size.incoming.map(Sizes::new),
        end,
    };
    // An empty message tells the client that the session stands.
    let first = session.stdout.as_ref().or(session.stderr.as_ref()).or(session.end.out.as_ref());
    if let Some(first) = first
        && first.send(Bytes::new()).await.is_err()
    {
        tracing::debug!("client is gone");
    }
    (session, driver)
}

/// The session over SPDY, with a protocol of X-Stream-Protocol-Version.
///
/// # Errors
/// When the client does not open the streams that it announced.
pub async fn over_spdy<S>(io: S, protocol: &str, wanted: Wanted) -> Result<(Session, Driver), OpenError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (connection, mut driver) = spdy::serve(io);
    let has_size = wanted.tty && matches!(protocol, "v3.channel.k8s.io" | "v4.channel.k8s.io");
    let opened = tokio::time::timeout(STREAMS_OPEN_LIMIT, async {
        tokio::select! {
            opened = open_streams(connection, wanted, has_size) => opened,
            () = &mut driver => Err(OpenError::Ended),
        }
    });
    let mut session = opened.await.map_err(|_| OpenError::TimedOut)??;
    session.end.as_status = protocol == "v4.channel.k8s.io";
    Ok((session, driver))
}

async fn open_streams(mut connection: spdy::Connection, wanted: Wanted, has_size: bool) -> Result<Session, OpenError> {
    let count = 1 + [wanted.stdin, wanted.stdout, wanted.stderr, has_size].into_iter().filter(|is| *is).count();
    let end = End { out: None, held: Vec::new(), as_status: false };
    let mut session = Session { stdin: None, stdout: None, stderr: None, sizes: None, end };
    for _ in 0..count {
        let stream = connection.accept().await.ok_or(OpenError::Ended)?;
        stream.reply().await;
        match stream.headers.get("streamtype").unwrap_or_default() {
            "stdin" => {
                session.stdin = Some(stream.incoming);
                session.end.held.push(stream.outgoing);
            }
            "stdout" => session.stdout = Some(stream.outgoing),
            "stderr" => session.stderr = Some(stream.outgoing),
            "error" => session.end.out = Some(stream.outgoing),
            "resize" => {
                session.sizes = Some(Sizes::new(stream.incoming));
                session.end.held.push(stream.outgoing);
            }
            other => return Err(OpenError::UnknownStream(other.to_owned())),
        }
    }
    Ok(session)
}

/// Sizes of the client's terminal, as they change.
#[derive(Debug)]
pub struct Sizes {
    incoming: Incoming,
    buffer: Vec<u8>,
}

/// Columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Size {
    #[serde(rename = "Width")]
    pub columns: u16,
    #[serde(rename = "Height")]
    pub rows: u16,
}

impl Sizes {
    const fn new(incoming: Incoming) -> Self {
        Self { incoming, buffer: Vec::new() }
    }

    /// The next size; none when no more comes, or what comes is no size.
    pub async fn next(&mut self) -> Option<Size> {
        loop {
            let mut documents = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<Size>();
            match documents.next() {
                Some(Ok(size)) => {
                    let used = documents.byte_offset();
                    self.buffer.drain(..used);
                    return Some(size);
                }
                Some(Err(error)) if !error.is_eof() => return None,
                _ => {}
            }
            if self.buffer.len() > SIZE_BYTES_MAX {
                return None;
            }
            self.buffer.extend_from_slice(&self.incoming.next().await?);
        }
    }
}

/// Where the client is told how the program ended; the last thing that is sent.
#[derive(Debug)]
pub struct End {
    out: Option<Outgoing>,
    /// Ends of streams that only the client writes. Were they ended before the session, the client would end them too.
    held: Vec<Outgoing>,
    /// Told as a Status; before version 4 only a failure is told, as text.
    as_status: bool,
}

impl End {
    /// The program ended with code 0, or the client has seen all that there is.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn success(self) -> Result<(), Gone> {
        self.tell(None, &json!({"metadata": {}, "status": "Success"})).await
    }

    /// The program ended with another code.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn exit_code(self, code: i32) -> Result<(), Gone> {
        let text = format!("command terminated with non-zero exit code: exit code {code}");
        let causes = json!([{"reason": "ExitCode", "message": code.to_string()}]);
        let status = json!({
            "metadata": {},
            "status": "Failure",
            "message": text,
            "reason": "NonZeroExitCode",
            "details": {"causes": causes},
        });
        self.tell(Some(text), &status).await
    }

    /// There was no program to end.
    ///
    /// # Errors
    /// When the client has gone.
    pub async fn failure(self, text: &str) -> Result<(), Gone> {
        let message = format!("Internal error occurred: {text}");
        let status = json!({
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": "InternalError",
            "details": {"causes": [{"message": text}]},
            "code": 500,
        });
        self.tell(Some(message), &status).await
    }

    async fn tell(self, text: Option<String>, status: &serde_json::Value) -> Result<(), Gone> {
        let Self { out, held, as_status } = self;
        let Some(out) = out else { return Ok(()) };
        match (as_status, text) {
            (true, _) => out.send(Bytes::from(status.to_string())).await?,
            (false, Some(text)) => out.send(Bytes::from(text)).await?,
            (false, None) => {}
        }
        out.finish().await?;
        drop(held);
        Ok(())
    }
}
