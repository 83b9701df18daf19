//! The data path alone, to be looked at with a profiler: passes every request on to one server.
//!
//! `forward LISTEN UPSTREAM LOG [CORES]`: two addresses with ports, the file of the access log, and a number of threads (1). Ends
//! with standard input.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{Read as _, stdin};
use std::net::TcpListener;

use corten_proxy::config::{Backend, Endpoint, Host, NodeConfig, Route};
use corten_proxy::server::{Edge, Listener};
use corten_proxy::{Settings, config};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream, log, rest @ ..] = arguments.as_slice() else {
        return Err("usage: forward LISTEN UPSTREAM LOG [CORES]".into());
    };
    let cores = rest.first().map_or(Ok(1), |cores| cores.parse())?;
    let log = Box::new(File::create(log)?);
    let edge = Edge::start(cores, Settings::default(), &Clock::system(), &Random::system(), Some(log))?;
    let endpoint = Endpoint { address: upstream.parse()?, draining: false };
    let route = Route { path: "/".to_owned(), backend: "only".to_owned(), ..Route::default() };
    let config = NodeConfig {
        version: config::VERSION,
        generation: 1,
        hosts: vec![Host { name: String::new(), routes: vec![route] }],
        backends: BTreeMap::from([("only".to_owned(), Backend { endpoints: vec![endpoint] })]),
        ..NodeConfig::default()
    };
    edge.apply(&config);
    edge.listen(vec![Listener { socket: TcpListener::bind(listen)?, tls: false }]);
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
