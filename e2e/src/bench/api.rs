//! Corten's API server against the real one, interleaved in one run: the same load on the same machine, alternately,
//! so that what else the machine does falls on both. Prints a Markdown table; judges nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use super::census;
use super::figures::median;
use crate::kubeconfig::Endpoint;
use crate::server::{Flush, Server};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often each server gets the whole load.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Objects a round.
    #[arg(long, default_value_t = 2000)]
    objects: usize,
    /// Clients at one time.
    #[arg(long, default_value_t = 32)]
    clients: usize,
}

/// What one operation cost in one round.
#[derive(Clone, Copy)]
struct Cost {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of all processes of the server.
    cpu_ms: f64,
}

/// The operations in the order in which the load makes them, with their cost in every round.
type Costs = BTreeMap<(usize, String), Vec<Cost>>;

pub(crate) async fn run(corten: &Path, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    let real = Server::real(programs, Flush::Durable, &[]).await?;
    let corten = Server::corten(corten, &["--controllers", "none"])?;
    println!(
        "{} rounds of {} objects of 1 KiB, {} clients over one HTTP/2 connection",
        arguments.rounds, arguments.objects, arguments.clients
    );
    println!("memory before (PSS): corten {:.0} MiB, kubernetes {:.0} MiB", pss_mib(&corten)?, pss_mib(&real)?);
    let (mut of_real, mut of_corten) = (Costs::new(), Costs::new());
    for round in 0..arguments.rounds {
        for (server, costs) in [(&corten, &mut of_corten), (&real, &mut of_real)] {
            load(programs, &arguments, server, round, costs).with_context(|| format!("the load on {}", server.name))?;
        }
    }
    println!("memory after (PSS): corten {:.0} MiB, kubernetes {:.0} MiB\n", pss_mib(&corten)?, pss_mib(&real)?);
    table(&of_corten, &of_real)?;
    corten.stop()?;
    real.stop()?;
    Ok(ExitCode::SUCCESS)
}

/// One round on one server.
fn load(programs: &Path, arguments: &Arguments, server: &Server, round: usize, costs: &mut Costs) -> Result<()> {
    let endpoint = Endpoint::read(&server.kubeconfig)?;
    let folder = tempfile::tempdir()?;
    let file = |name: &str, pem: &[u8]| -> Result<String> {
        let path = folder.path().join(name);
        fs::write(&path, pem)?;
        Ok(path.display().to_string())
    };
    let pids: Vec<String> = server.pids().map(|(name, pid)| format!("{name}={pid}")).collect();
    let mut command = Command::new(programs.join("apiload"));
    command.args(["--json", "--server", &format!("https://{}", endpoint.address)]);
    command.args(["--ca", &file("ca", &endpoint.ca_pem)?, "--cert", &file("certificate", &endpoint.certificate_pem)?]);
    command.args(["--key", &file("key", &endpoint.key_pem)?, "--pids", &pids.join(",")]);
    command.args(["--n", &arguments.objects.to_string(), "--concurrency", &arguments.clients.to_string()]);
    command.args(["--namespace", &format!("load-{round}"), "crud"]);
    let output = command.output().context("cannot start apiload")?;
    ensure!(output.status.success(), "apiload: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    for (index, line) in String::from_utf8(output.stdout)?.lines().enumerate() {
        let result: Value = serde_json::from_str(line).with_context(|| format!("apiload printed {line:?}"))?;
        ensure!(number(&result, "errors")? == 0.0, "operations failed: {line}");
        let name = result["test"].as_str().context("a result has a name")?.to_owned();
        costs.entry((index, name)).or_default().push(cost(&result)?);
    }
    Ok(())
}

fn cost(result: &Value) -> Result<Cost> {
    let fields = result.as_object().context("a result is an object")?;
    let cpu = fields.iter().filter(|(key, _)| key.starts_with("cpu_ms_per_op_"));
    let cpu: Option<f64> = cpu.map(|(_, value)| value.as_f64()).sum();
    Ok(Cost {
        per_second: number(result, "ops_s")?,
        p50_ms: number(result, "p50_ms")?,
        p99_ms: number(result, "p99_ms")?,
        cpu_ms: cpu.context("CPU times are numbers")?,
    })
}

fn number(result: &Value, key: &str) -> Result<f64> {
    result[key].as_f64().with_context(|| format!("the result has no number {key}: {result}"))
}

fn table(of_corten: &Costs, of_real: &Costs) -> Result<()> {
    println!(
        "| operation | ops/s corten | kubernetes | ratio | p50/p99 ms corten | kubernetes | CPU ms/op corten | kubernetes | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (operation, own) in of_corten {
        let other = of_real.get(operation).context("both servers got the same load")?;
        let pair = |of: fn(&Cost) -> f64| (median(own.iter().map(of)), median(other.iter().map(of)));
        let ratio = |of: fn(&Cost) -> f64| median(own.iter().zip(other).map(|(own, other)| of(own) / of(other)));
        let (rate, other_rate) = pair(|cost| cost.per_second);
        let ((p50, other_p50), (p99, other_p99)) = (pair(|cost| cost.p50_ms), pair(|cost| cost.p99_ms));
        let (cpu, other_cpu) = pair(|cost| cost.cpu_ms);
        println!(
            "| {} | {rate:.0} | {other_rate:.0} | {:.1} | {p50:.1} / {p99:.1} | {other_p50:.1} / {other_p99:.1} | \
             {cpu:.3} | {other_cpu:.3} | {:.2} |",
            operation.1,
            ratio(|cost| cost.per_second),
            ratio(|cost| cost.cpu_ms),
        );
    }
    Ok(())
}

fn pss_mib(server: &Server) -> Result<f64> {
    let pss: Result<u64> = server.pids().map(|(_, pid)| census::pss_kib(pid)).sum();
    Ok(pss? as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_add_the_processes_of_a_server() {
        let line =
            r#"{"test":"create","ops_s":10,"p50_ms":1,"p99_ms":2,"cpu_ms_per_op_api":0.5,"cpu_ms_per_op_etcd":0.25}"#;
        let cost = cost(&serde_json::from_str(line).unwrap()).unwrap();
        assert!((cost.cpu_ms - 0.75).abs() < 1e-9);
        assert!(super::cost(&serde_json::json!({"ops_s": 1})).is_err());
    }
}
