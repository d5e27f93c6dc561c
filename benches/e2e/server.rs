//! A program under measurement: how it is started, awaited and stopped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cpu;

/// Enough for a start or a stop under valgrind.
const PATIENCE: Duration = Duration::from_secs(120);

/// One of the two programs that are compared.
#[derive(Debug)]
pub(crate) struct Contestant {
    /// Its name in the report.
    pub(crate) name: &'static str,
    /// The program file.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where it listens once started.
    pub(crate) address: SocketAddr,
    /// Its working directory, which also takes its standard error.
    pub(crate) directory: PathBuf,
}

/// A running contestant; dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    stderr: PathBuf,
}

impl Contestant {
    /// Starts it on its core, behind `wrapper` when one is given, and waits until it accepts connections.
    pub(crate) async fn start(&self, wrapper: &[&str]) -> Result<Server> {
        let pin = cpu::server_core().map_or(Vec::new(), |core| vec!["taskset", "-c", core]);
        let mut words: Vec<OsString> = pin.iter().chain(wrapper).map(OsString::from).collect();
        words.push(self.program.clone().into());
        words.extend_from_slice(&self.arguments);
        let stderr = self.directory.join(format!("{}.stderr", self.name));
        let child = clean_command(&words, &self.directory)
            .stdin(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("starting {words:?}"))?;
        let mut server = Server { child, stderr };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{} ended at its start ({status}):\n{}", self.name, server.stderr());
            }
            ensure!(Instant::now() < deadline, "{} does not listen on {}", self.name, self.address);
            sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }
}

impl Server {
    /// Its process id; wrappers keep it, for they end in exec.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGINT, so that wrappers can report, and gives what it wrote to standard error.
    pub(crate) async fn interrupt(mut self) -> Result<String> {
        let sent = Command::new("kill").args(["-INT", &self.pid().to_string()]).status()?;
        ensure!(sent.success(), "kill -INT {}: {sent}", self.pid());
        self.ended().await?;
        Ok(self.stderr())
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "process {} does not end on SIGINT", self.pid());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of these words, with an empty environment, so that nothing outside changes what is measured.
pub(crate) fn clean_command(words: &[OsString], directory: &Path) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words).current_dir(directory).stdout(Stdio::null());
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

/// A loopback address that nobody listens on now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free loopback port")?;
    Ok(listener.local_addr()?)
}

/// The bare pass-through in front of `origin`, as this same program in another role.
pub(crate) fn bare(name: &'static str, origin: SocketAddr, directory: &Path) -> Result<Contestant> {
    let address = free_address()?;
    let arguments = ["bare", "--listen", &address.to_string(), "--origin", &origin.to_string()].map(OsString::from);
    Ok(Contestant {
        name,
        program: std::env::current_exe()?,
        arguments: arguments.to_vec(),
        address,
        directory: directory.to_owned(),
    })
}
