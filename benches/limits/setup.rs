//! Replicas of the gateway with one limited route.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ssm_gateway::model::units::Rate;
use tempfile::TempDir;

use crate::Sharing;
use crate::client::{Request, once};
use crate::redis::Redis;
use crate::server::{Contestant, Server, free_address};

/// Tokens on top of the rate's count.
pub(crate) const BURST: u32 = 20;

/// Prepared replicas.
pub(crate) struct Site {
    replicas: Vec<(Contestant, SocketAddr)>,
    shared: bool,
    _directory: TempDir,
}

impl Site {
    /// Writes the files of all replicas.
    pub(crate) async fn new(
        program: &Path,
        origin: SocketAddr,
        rate: Rate,
        sharing: Sharing,
        (_, prefix): (&Redis, &str),
        replicas: u32,
    ) -> Result<Site> {
        let directory = TempDir::new().context("a temporary folder")?;
        let program =
            program.canonicalize().with_context(|| format!("the gateway's program, {}", program.display()))?;
        let replica = |index: u32| -> Result<(Contestant, SocketAddr)> {
            let path = directory.path().join(index.to_string());
            fs::create_dir_all(path.join("data"))?;
            let (address, admin) = (free_address()?, free_address()?);
            let write = |name: &str, text: String| -> Result<PathBuf> {
                let file = path.join(name);
                fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
                Ok(file)
            };
            let config = write("gateway.yaml", settings(address, admin, &path, prefix))?;
            let routes = write("routes.yaml", table(origin, rate, sharing))?;
            let flags = [("--config", config), ("--routes", routes), ("--data-dir", path.join("data"))];
            let flags = flags.into_iter().flat_map(|(name, path)| [OsString::from(name), path.into()]);
            let arguments = std::iter::once(OsString::from("run")).chain(flags).collect();
            Ok((Contestant { name: "gateway", program: program.clone(), arguments, address, directory: path }, admin))
        };
        let replicas = (0..replicas).map(replica).collect::<Result<_>>()?;
        Ok(Site { replicas, shared: sharing != Sharing::Embedded, _directory: directory })
    }

    /// Starts them all.
    pub(crate) async fn start(&self, redis: &Redis) -> Result<Vec<Server>> {
        let url = format!("REDIS_URL={}", redis.url());
        let wrapper: Vec<&str> = if self.shared { vec!["env", &url] } else { Vec::new() };
        let mut servers = Vec::new();
        for (replica, _) in &self.replicas {
            servers.push(replica.start(&wrapper).await?);
        }
        Ok(servers)
    }

    /// Where they listen.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|(replica, _)| replica.address).collect()
    }

    /// `gateway_rate_limit_answers_total` by its label, over all replicas.
    pub(crate) async fn answered_by(&self) -> Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        for (_, admin) in &self.replicas {
            let page = once(*admin, &Request::new("GET", "/metrics", None, None)).await?;
            for line in String::from_utf8_lossy(&page).lines() {
                let Some(rest) = line.strip_prefix("gateway_rate_limit_answers_total{by=\"") else { continue };
                let (by, count) = rest.split_once("\"} ").context("a line of the metrics")?;
                *all.entry(by.to_owned()).or_default() += count.trim().parse::<u64>()?;
            }
        }
        Ok(all)
    }
}

fn settings(address: SocketAddr, admin: SocketAddr, path: &Path, prefix: &str) -> String {
    let (ip, port, log) = (address.ip(), address.port(), path.join("access.log"));
    format!(
        "listen: {{ address: \"{ip}\", port: {port} }}\nthreads: 1\nadmin: {{ address: \"{admin}\" }}\n\
         redis: {{ prefix: \"{prefix}\" }}\nlog: {{ level: error, access: \"{}\" }}\n",
        log.display()
    )
}

fn table(origin: SocketAddr, rate: Rate, sharing: Sharing) -> String {
    let (limit, period) = (rate.limit, rate.period.as_secs());
    let unit = match period {
        1 => "s",
        60 => "min",
        3_600 => "h",
        _ => "day",
    };
    let sharing = if sharing == Sharing::Embedded { "none" } else { sharing.as_str() };
    format!(
        r#"version: 1
pools:
  origin: {{ targets: ["http://{origin}"] }}
limits:
  measured: {{ by: everyone, rate: {limit}/{unit}, burst: {BURST}, sharing: {sharing}, on_store_failure: deny }}
routes:
  - name: measured
    match: {{ path: /measured, methods: [GET] }}
    to: {{ pool: origin, path: /api/v1/algorithms }}
    auth: public
    limits: [measured]
"#
    )
}
