//! `ssm-gateway demo`: the gateway in front of three stand-in services, with a user per role and a printed tour.
//!
//! Owns the order of the start, the users' passwords and the tour. How an account is made and how the gateway is
//! run is handed to [`stage`], which knows neither the store nor the server.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use secrecy::SecretString;
use uuid::Uuid;

use crate::config::env::Env;
use crate::config::settings::Settings;
use crate::demo::{self, DemoHandles, DemoPorts};
use crate::model::role::Role;
use crate::server::{self, SettingsFile, Start};

use super::users;

/// Which table the demo runs.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The table of routes.
    #[arg(long, value_name = "FILE", default_value = "routes.yaml")]
    pub routes: PathBuf,
}

/// Where the demo services listen when they run alone.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// Address to listen on, ports 5051, 5053 and 5060.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
}

/// Runs the demo until it is told to stop.
pub fn run(args: &DemoArgs, env: Env) -> anyhow::Result<()> {
    let add_user = |data_dir: &Path, user: &DemoUser| {
        users::add_to(data_dir, &user.email, user.role, SecretString::from(user.password.as_str()))
    };
    stage(add_user, |world, print_tour| {
        let env = env.with(world.environment());
        let read = Settings::load(None, &env)?;
        let mut settings = read.clone();
        settings.database = None; // its accounts are made for a store of its own
        settings.redis.url = None; // and their numbers are others' too: nobody may be told what is revoked here
        let on_ready = move |address: SocketAddr| {
            print_tour(&format!("http://127.0.0.1:{}", address.port()));
        };
        server::run(Start {
            settings,
            settings_file: SettingsFile { path: None, read },
            routes: args.routes.clone(),
            data_dir: world.data_dir.clone(),
            env,
            upgrade: false,
            last_good: false,
            on_ready: Some(Box::new(on_ready)),
        })
    })
}

/// Runs only the services, until the process is ended.
pub fn serve(args: &ServicesArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let services = demo::start(args.address, DemoPorts::USUAL).await.context("cannot start the demo services")?;
        println!(
            "cv-parser {}, job-parser {}, matching {}",
            services.cv_parser, services.job_parser, services.matching
        );
        tokio::signal::ctrl_c().await.context("cannot wait for a signal")
    })
}

/// An account of the demo. Its password is made anew at each start and only printed.
#[derive(Clone)]
pub struct DemoUser {
    /// What it may do.
    pub role: Role,
    /// Its address, also its log-in name.
    pub email: String,
    /// Its password.
    pub password: String,
}

/// What the demo has prepared for the gateway.
pub struct DemoWorld {
    /// Folder for the embedded store and the generated secrets; removed at the end.
    pub data_dir: PathBuf,
    /// Where the stand-ins listen.
    pub services: DemoHandles,
    /// The accounts, one per role.
    pub users: Vec<DemoUser>,
}

impl DemoWorld {
    /// Settings that lead the shipped table to the stand-ins, to be laid over the environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let url = |address: SocketAddr| format!("http://{address}");
        vec![
            ("CV_PARSER_URL", url(self.services.cv_parser)),
            ("JOB_PARSER_URL", url(self.services.job_parser)),
            ("MATCHING_SERVICE_URL", url(self.services.matching)),
        ]
    }
}

/// Prints the tour; called once, as soon as the gateway serves. Its argument is the public URL, without a slash at
/// the end.
pub type PrintTour = Box<dyn FnOnce(&str) + Send>;

/// Prepares the world, makes the accounts with `add_user(data_dir, user)` and hands over to `serve`, which runs the
/// gateway until it is told to stop.
///
/// # Errors
/// When a stand-in cannot listen, the data folder cannot be made, an account is refused, or `serve` fails.
fn stage(
    mut add_user: impl FnMut(&Path, &DemoUser) -> anyhow::Result<()>,
    serve: impl FnOnce(&DemoWorld, PrintTour) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // One worker of their own: the stand-ins must not share the gateway's threads.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo")
        .enable_all()
        .build()
        .context("cannot start the threads of the demo services")?;
    let services = runtime
        .block_on(demo::start(IpAddr::V4(Ipv4Addr::LOCALHOST), DemoPorts::USUAL))
        .context("cannot start the demo services on 127.0.0.1")?;
    let folder = DataFolder::new().context("cannot make a folder for the demo's data in the temporary directory")?;
    let users = users();
    for user in &users {
        add_user(&folder.0, user).with_context(|| format!("cannot make the demo account {}", user.email))?;
    }
    let world = DemoWorld { data_dir: folder.0.clone(), services, users };
    let listed = world.users.clone();
    serve(&world, Box::new(move |base_url| println!("{}", tour(base_url, &listed))))
}

fn users() -> Vec<DemoUser> {
    let user = |role: Role| DemoUser {
        role,
        email: format!("{role}@example.com"),
        // 122 random bits; nothing to guess, even if the port is reachable by others.
        password: Uuid::new_v4().simple().to_string(),
    };
    Role::ALL.into_iter().map(user).collect()
}

/// A fresh folder that only this user can read; removed when dropped.
struct DataFolder(PathBuf);

impl DataFolder {
    fn new() -> io::Result<DataFolder> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("ssm-gateway-demo-{}", Uuid::new_v4().simple()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(DataFolder(path))
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        // Best effort: the process is ending, and the folder is in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The tour: shell lines that work when pasted, in order, into another terminal. Needs curl and sed only.
pub fn tour(base_url: &str, users: &[DemoUser]) -> String {
    let mut text = format!("# The gateway serves at {base_url}. Paste these lines into another terminal.\n");
    text.push_str(&format!("BASE={base_url}/api/gateway\n"));
    for user in users {
        text.push_str(&format!("\n# Log in as {role} ({email})\n", role = user.role, email = user.email));
        text.push_str(&login(user));
    }
    for (heading, lines) in STEPS {
        text.push_str(&format!("\n# {heading}\n{lines}\n"));
    }
    text.push_str(&format!("\n# Every route, to try out in a browser: {base_url}/api/gateway/docs\n"));
    text.push_str("# Press Ctrl-C here to end the demo; its data goes with it.\n");
    text
}

fn login(user: &DemoUser) -> String {
    let body = format!(r#"{{"email":"{}","password":"{}"}}"#, user.email, user.password);
    format!(
        "{variable}=$(curl -s \"$BASE/auth/login\" -H 'Content-Type: application/json' -d '{body}' | \
         sed 's/.*\"access_token\": *\"\\([^\"]*\\)\".*/\\1/')\n",
        variable = user.role.as_str().to_uppercase(),
    )
}

const STEPS: [(&str, &str); 9] = [
    ("Who am I?", r#"curl -s "$BASE/auth/me" -H "Authorization: Bearer $CANDIDAT"; echo"#),
    (
        "Have a CV read",
        r#"CV=$(mktemp); printf 'Marie Dupont\nPython, Docker\n' > "$CV"
curl -s "$BASE/parse-cv" -H "Authorization: Bearer $CANDIDAT" -F "file=@$CV;filename=cv.txt" -F extract_skills=true; echo"#,
    ),
    ("Which formats can it be?", r#"curl -s "$BASE/parse-cv/formats" -H "Authorization: Bearer $CANDIDAT"; echo"#),
    (
        "Match a candidate with jobs",
        r#"curl -s "$BASE/match" -H "Authorization: Bearer $RECRUTEUR" -H 'Content-Type: application/json' -d '{"candidate":{"competences":["Python","Docker"]},"jobs":[{"id":"job1","titre":"DevOps","competences":["Docker","Kubernetes"]},{"id":"job2","titre":"Backend","competences":["Python"]}]}'; echo"#,
    ),
    (
        "A candidate may not match in batches: 403",
        r#"curl -s -i -X POST "$BASE/match/batch" -H "Authorization: Bearer $CANDIDAT" -H 'Content-Type: application/json' -d '{}'; echo"#,
    ),
    (
        "Too many uploads: 429 after 40 in a minute, with the true wait",
        r#"for i in $(seq 1 45); do curl -s -o /dev/null -w '%{http_code} ' "$BASE/parse-cv" -H "Authorization: Bearer $CANDIDAT" -F "file=@$CV"; done; echo
curl -s -i "$BASE/parse-cv" -H "Authorization: Bearer $CANDIDAT" -F "file=@$CV" | grep -i -E '^(HTTP|retry-after|x-ratelimit)'"#,
    ),
    ("How are the services?", r#"curl -s "$BASE/health"; echo"#),
    (
        "What only an admin sees: targets with their addresses",
        r#"curl -s "$BASE/health/detailed/all" -H "Authorization: Bearer $ADMIN"; echo"#,
    ),
    ("Metrics for Prometheus", r#"curl -s "$BASE/metrics" | grep -E '^supersmartmatch_'"#),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tour_is_shell_that_needs_no_other_tool() {
        let users = users();
        let text = tour("http://127.0.0.1:5050", &users);
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let known = ["BASE=", "CANDIDAT=", "RECRUTEUR=", "ADMIN=", "CV=", "curl ", "for i in "];
            assert!(known.iter().any(|start| line.starts_with(start)), "{line}");
            assert_eq!(line.matches('\'').count() % 2, 0, "open quote: {line}");
            assert!(!line.contains("jq "), "{line}");
        }
        for wanted in [
            "/auth/login",
            "/auth/me",
            "/parse-cv",
            "/parse-cv/formats",
            "/match",
            "/match/batch",
            "/health",
            "/metrics",
            "/docs",
        ] {
            assert!(text.contains(wanted), "{wanted}");
        }
        let checked = std::process::Command::new("sh").args(["-n", "-c", &text]).status().unwrap();
        assert!(checked.success());
    }

    #[test]
    fn there_is_a_user_per_role_with_a_new_password() {
        let (first, second) = (users(), users());
        assert_eq!(first.iter().map(|user| user.role).collect::<Vec<_>>(), Role::ALL);
        for (a, b) in first.iter().zip(&second) {
            assert_ne!(a.password, b.password);
            assert!(a.password.len() >= 20);
        }
    }

    #[test]
    fn the_world_is_ready_when_the_gateway_starts_and_gone_after_it() {
        let mut made = Vec::new();
        let mut folder = PathBuf::new();
        stage(
            |data_dir, user| {
                assert!(data_dir.is_dir());
                made.push(user.role);
                Ok(())
            },
            |world, _| {
                folder = world.data_dir.clone();
                assert_eq!(world.environment().len(), 3);
                assert!(world.environment().iter().all(|(_, url)| url.starts_with("http://127.0.0.1:")));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(made, Role::ALL);
        assert!(!folder.exists());
    }

    #[test]
    fn a_refused_account_stops_the_start() {
        let refused = stage(|_, _| anyhow::bail!("no"), |_, _| panic!("must not be reached"));
        assert!(format!("{:#}", refused.unwrap_err()).contains("candidat@example.com"));
    }
}
