//! The gateway as a contestant: the real program with everything on, its files in a fresh folder, and a logged-in user.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use crate::client::{Request, once};
use crate::server::{Contestant, clean_command, free_address};

const EMAIL: &str = "load@example.com";
const LOGIN: &str = "/api/gateway/auth/login";

/// Writes the configuration and adds the user; the contestant can then be started as often as needed.
pub(crate) fn prepare(program: &Path, origin: SocketAddr, directory: &Path, password: &str) -> Result<Contestant> {
    let (address, admin) = (free_address()?, free_address()?);
    let write = |name: &str, text: String| -> Result<PathBuf> {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    };
    let config = write("gateway.yaml", settings(address, admin, &directory.join("access.log")))?;
    let routes = write("routes.yaml", table(origin))?;
    let data = directory.join("data");
    std::fs::create_dir(&data)?;
    let program = program.canonicalize().with_context(|| format!("the gateway's program, {}", program.display()))?;
    add_user(&program, &data, directory, password)?;
    let flags = [("--config", config), ("--routes", routes), ("--data-dir", data)];
    let flags = flags.into_iter().flat_map(|(name, path)| [OsString::from(name), path.into()]);
    let arguments = std::iter::once(OsString::from("run")).chain(flags).collect();
    Ok(Contestant { name: "gateway", program, arguments, address, directory: directory.to_owned() })
}

/// Logs in and gives the access token. Repeats while the gateway gets ready.
pub(crate) async fn log_in(contestant: &Contestant, password: &str) -> Result<String> {
    let body = serde_json::json!({"email": EMAIL, "password": password}).to_string();
    let request = Request::new("POST", LOGIN, Some(&body), None);
    let deadline = Instant::now() + Duration::from_secs(10);
    let answer = loop {
        match once(contestant.address, &request).await {
            Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(200)).await,
            answer => break answer.context("logging in at the gateway")?,
        }
    };
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let token = answer.get("access_token").and_then(serde_json::Value::as_str);
    Ok(token.context("the log-in's answer has no access_token")?.to_owned())
}

fn add_user(program: &Path, data: &Path, directory: &Path, password: &str) -> Result<()> {
    let words = ["users", "add", "--email", EMAIL, "--role", "candidat", "--password-stdin", "--data-dir"];
    let words: Vec<OsString> =
        [program.into()].into_iter().chain(words.map(OsString::from)).chain([data.into()]).collect();
    let mut command = clean_command(&words, directory);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("starting `users add`")?;
    if let Some(mut stdin) = child.stdin.take() {
        writeln!(stdin, "{password}")?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "`users add` failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn settings(address: SocketAddr, admin: SocketAddr, access_log: &Path) -> String {
    let (ip, port, log) = (address.ip(), address.port(), access_log.display());
    format!(
        "listen: {{ address: \"{ip}\", port: {port} }}\nthreads: 1\nadmin: {{ address: \"{admin}\" }}\n\
         log: {{ level: warn, access: \"{log}\" }}\n"
    )
}

/// Limits are set so high that nothing is refused; what is measured is deciding, not refusing.
fn table(origin: SocketAddr) -> String {
    format!(
        r#"version: 1
pools:
  origin:
    targets: ["http://{origin}"]
    breaker: {{ failures: 5, open_for: 60s, close_after: 3 }}
limits:
  per-role:
    by: user
    over: all_routes
    roles: {{ candidat: 900000000/min, recruteur: 900000000/min, admin: 900000000/min }}
  per-route: {{ by: user, rate: 900000000/min }}
defaults:
  limits: [per-route, per-role]
routes:
  - name: login
    match: {{ path: {LOGIN}, methods: [POST] }}
    to: {{ builtin: auth_login }}
    auth: public
    limits: []
  - name: match
    match: {{ path: /api/gateway/match, methods: [POST] }}
    to: {{ pool: origin, path: /api/v1/match }}
    auth: {{ roles: [candidat, recruteur, admin] }}
  - name: match-algorithms
    match: {{ path: /api/gateway/match/algorithms, methods: [GET] }}
    to: {{ pool: origin, path: /api/v1/algorithms }}
    auth: {{ roles: [candidat, recruteur, admin] }}
"#
    )
}
