//! The shop window: one small program, statically linked, that answers on one port.
//!
//! It ends at once when it is told to, in the middle of whatever it does. That is on purpose: it is the platform's business to
//! take it out of the way of requests first.

use std::io::{BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, io, process, thread};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::http::{Request, Response};
use crate::page::Shop;

mod http;
mod page;

/// How long a kept connection may be silent.
const IDLE_MAX: Duration = Duration::from_secs(75);

fn main() -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        signals.forever().next();
        process::exit(0);
    });
    let shop = Arc::new(Shop {
        pod: env::var("POD_NAME").or_else(|_| env::var("HOSTNAME")).unwrap_or_else(|_| "this machine".to_owned()),
        greeting: env::var("SHOP_GREETING").unwrap_or_else(|_| "Welcome".to_owned()),
        products: match env::var_os("SHOP_PRODUCTS") {
            Some(path) => page::products(&fs::read_to_string(path)?),
            None => Vec::new(),
        },
    });
    let address = env::var("LISTEN").unwrap_or_else(|_| "0.0.0.0:8080".to_owned());
    let listener = TcpListener::bind(&address)?;
    println!("{} products, listening on {address}", shop.products.len());
    for connection in listener.incoming() {
        let shop = shop.clone();
        match connection {
            Ok(connection) => {
                drop(thread::Builder::new().stack_size(128 << 10).spawn(move || serve(&connection, &shop))?)
            }
            Err(error) => eprintln!("a connection could not be accepted: {error}"),
        }
    }
    Ok(())
}

/// Answers requests on one connection until either side has enough.
fn serve(connection: &TcpStream, shop: &Shop) {
    if let Err(error) = requests(connection, shop) {
        // Clients that leave are no news.
        if !matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::WouldBlock
        ) {
            eprintln!("a connection ended: {error}");
        }
    }
}

fn requests(connection: &TcpStream, shop: &Shop) -> io::Result<()> {
    connection.set_read_timeout(Some(IDLE_MAX))?;
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    let mut writer = connection;
    loop {
        let request = match Request::read(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(http::Problem::Io(error)) => return Err(error),
            Err(http::Problem::Malformed(what)) => {
                return writer.write_all(&Response::text(400, what).bytes(&shop.pod, false, false));
            }
        };
        let response = answer(&request, shop);
        writer.write_all(&response.bytes(&shop.pod, request.keep_alive, request.method == "HEAD"))?;
        if !request.keep_alive {
            return Ok(());
        }
    }
}

fn answer(request: &Request, shop: &Shop) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => Response::html(&shop.page()),
        ("GET" | "HEAD", "/healthz") => Response::text(200, "ok\n"),
        ("GET" | "HEAD", "/api/products") => Response::json(&shop.json()),
        ("POST", "/echo") => Response { status: 200, kind: "application/octet-stream", body: request.body.clone() },
        (_, "/" | "/healthz" | "/api/products" | "/echo") => Response::text(405, "this path is not asked like that\n"),
        _ => Response::text(404, "there is no such page\n"),
    }
}
