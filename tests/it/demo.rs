//! `ssm-gateway demo`: its tour works when pasted.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::gateway::{Ended, Folder, collect, free_port};
use crate::harness::{GatewayConfig, PATIENCE, until};

#[tokio::test]
async fn the_tour_works_when_pasted() {
    let folder = Folder::new(&GatewayConfig::shipped());
    std::fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/routes.yaml"), folder.path("routes.yaml")).unwrap();
    // Beside a gateway that runs with the usual ports.
    std::fs::create_dir_all(folder.path("conf")).unwrap();
    let settings = format!("admin: {{ address: \"127.0.0.1:{}\" }}\n", free_port());
    std::fs::write(folder.path("conf/gateway.yaml"), settings).unwrap();
    let env = HashMap::from([("PORT".to_owned(), free_port().to_string())]);
    let mut demo = folder.command(&["demo"], &env).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (said, events) = (collect(demo.stdout.take().unwrap()), collect(demo.stderr.take().unwrap()));
    let _ended = Ended(demo);
    let lines = |of: &Arc<Mutex<Vec<String>>>| of.lock().unwrap().join("\n");
    let tour = until("the printed tour", PATIENCE, || async {
        let text = lines(&said);
        text.contains("Ctrl-C").then_some(text)
    })
    .await;
    assert!(tour.contains("BASE=http://127.0.0.1:"), "{tour}\n{}", lines(&events));
    // Whatever else is on stdout is a log line; the tour is the rest.
    let script: String = tour.lines().filter(|line| !line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    let pasted = tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &script]).output());
    let pasted = pasted.await.unwrap().unwrap();
    let seen = String::from_utf8_lossy(&pasted.stdout).into_owned();
    for wanted in [
        "\"role\":\"candidat\"",
        "\"filename\":\"cv.txt\"",
        "supported_extensions",
        "\"matching_score\"",
        "FORBIDDEN_ROLE",
        " 429 ",
        "HTTP/1.1 429",
        "\"status\":\"healthy\"",
        "supersmartmatch_gateway_up",
    ] {
        assert!(
            seen.replace("\": ", "\":").to_lowercase().contains(&wanted.to_lowercase()),
            "{wanted} is not in:\n{seen}"
        );
    }
}
