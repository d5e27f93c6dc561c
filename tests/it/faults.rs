//! The fault matrix: what clients, services and breakers see of each fault, with one target and with three.

use std::collections::HashMap;
use std::time::Duration;

use crate::harness::gateway::{free_port, sum};
use crate::harness::{Answer, Gateway, GatewayConfig, Got, Origin, send, table, try_send};

/// How a target is faulty.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// Nobody listens.
    Refuses,
    /// The name leads nowhere.
    NoName,
    /// Takes the request and stays silent.
    Hangs,
    /// Breaks the connection instead of an answer.
    ResetsBefore,
    /// Breaks it in the middle of the head.
    ResetsDuring,
    /// Ends it instead of an answer.
    Ends,
    /// What comes is not HTTP.
    Garbage,
    /// Breaks off in the middle of the body.
    HalfBody,
    /// Takes its time, within the limits.
    SlowBody,
    Status500,
    Status503,
    /// 503 that says to come back after the request's deadline.
    ComeBackLater,
    /// Closes kept connections when they are used again.
    StaleConnection,
}
use Fault::*;

/// What a client sees of an answer that breaks off.
const CUT: (u16, &str) = (0, "");
const OWN_503: (u16, &str) = (503, "OWN");

/// One line of the table.
struct Row {
    fault: Fault,
    method: &'static str,
    /// What the client sees when no target is left: status and code.
    seen: (u16, &'static str),
    /// Tries when there is one target, and when there are three and all are faulty.
    tries: (u32, u32),
    /// Under which result a faulty try is counted, and whether the breaker counts it as a failure.
    counted: (&'static str, bool),
}

const fn row(
    fault: Fault,
    method: &'static str,
    seen: (u16, &'static str),
    tries: (u32, u32),
    counted: (&'static str, bool),
) -> Row {
    Row { fault, method, seen, tries, counted }
}

const UNREACHABLE: (u16, &str) = (503, "SERVICE_UNAVAILABLE");
const BAD: (u16, &str) = (502, "BAD_GATEWAY");
const LATE: (u16, &str) = (504, "UPSTREAM_TIMEOUT");

const MATRIX: [Row; 26] = [
    row(Refuses, "GET", UNREACHABLE, (3, 3), ("connect_error", true)),
    row(Refuses, "POST", UNREACHABLE, (3, 3), ("connect_error", true)),
    row(NoName, "GET", UNREACHABLE, (0, 0), ("connect_error", true)),
    row(NoName, "POST", UNREACHABLE, (0, 0), ("connect_error", true)),
    row(Hangs, "GET", LATE, (3, 3), ("timeout", true)),
    row(Hangs, "POST", LATE, (1, 1), ("timeout", true)),
    row(ResetsBefore, "GET", BAD, (3, 3), ("broken", true)),
    row(ResetsBefore, "POST", BAD, (1, 1), ("broken", true)),
    row(ResetsDuring, "GET", BAD, (3, 3), ("broken", true)),
    row(ResetsDuring, "POST", BAD, (1, 1), ("broken", true)),
    row(Ends, "GET", BAD, (3, 3), ("broken", true)),
    row(Ends, "POST", BAD, (1, 1), ("broken", true)),
    row(Garbage, "GET", BAD, (3, 3), ("broken", true)),
    row(Garbage, "POST", BAD, (1, 1), ("broken", true)),
    row(HalfBody, "GET", CUT, (1, 1), ("success", false)),
    row(HalfBody, "POST", CUT, (1, 1), ("success", false)),
    row(SlowBody, "GET", (200, ""), (1, 1), ("success", false)),
    row(SlowBody, "POST", (200, ""), (1, 1), ("success", false)),
    row(Status500, "GET", (500, "OWN"), (1, 1), ("server_error", true)),
    row(Status500, "POST", (500, "OWN"), (1, 1), ("server_error", true)),
    row(Status503, "GET", OWN_503, (3, 3), ("server_error", true)),
    row(Status503, "POST", OWN_503, (1, 1), ("server_error", true)),
    row(ComeBackLater, "GET", OWN_503, (1, 3), ("server_error", true)),
    row(ComeBackLater, "POST", OWN_503, (1, 1), ("server_error", true)),
    row(StaleConnection, "GET", (200, ""), (2, 2), ("stale", false)),
    row(StaleConnection, "POST", (200, ""), (2, 2), ("stale", false)),
];

/// How many targets there are, and how many of them are faulty.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Single,
    AllOfThree,
    OneOfThree,
}

/// Requests per case with one faulty target of three.
const MANY: u32 = 6;

/// A row with a layout: its pool, its route, its origins.
struct Case {
    row: &'static Row,
    layout: Layout,
    name: String,
    origins: Vec<Origin>,
    targets: Vec<String>,
}

impl Case {
    async fn new(row: &'static Row, layout: Layout) -> Case {
        let (targets, faulty) = match layout {
            Layout::Single => (1, 1),
            Layout::AllOfThree => (3, 3),
            Layout::OneOfThree => (3, 1),
        };
        let name = format!("{:?}-{}-{layout:?}", row.fault, row.method).to_lowercase();
        let mut case = Case { row, layout, name, origins: Vec::new(), targets: Vec::new() };
        for index in 0..targets {
            match row.fault {
                Refuses if index < faulty => case.targets.push(format!("http://127.0.0.1:{}", free_port())),
                NoName if index < faulty => case.targets.push(format!("http://nowhere-{index}.invalid:1")),
                fault => {
                    let origin = Origin::start().await;
                    if let Some(answer) = script(fault).filter(|_| index < faulty) {
                        origin.on(&case.path(), answer);
                    }
                    case.targets.push(origin.url());
                    case.origins.push(origin);
                }
            }
        }
        case
    }

    fn path(&self) -> String {
        format!("/{}", self.name)
    }

    fn pool(&self) -> String {
        let targets = self.targets.iter().map(|target| format!("{target:?}")).collect::<Vec<_>>().join(", ");
        format!(
            "  {}:\n    targets: [{targets}]\n    breaker: {{ failures: 1000 }}\n    timeouts: {{ read: 300ms }}\n    \
             retries: {{ backoff: 1ms, longest_backoff: 2ms, floor: 100 }}\n",
            self.name
        )
    }

    fn route(&self) -> String {
        let (name, path) = (&self.name, self.path());
        format!(
            "  - {{ name: {name}, match: {{ path: {path}, methods: [GET, POST] }}, to: {{ pool: {name} }}, \
             auth: public, timeout: 20s }}\n"
        )
    }

    async fn ask(&self, gateway: &Gateway, number: u32) -> (u16, String) {
        let id = format!("{}-{number:04}", self.name);
        let request = gateway.client.request(self.row.method, &self.path()).header("x-request-id", id);
        let body = if self.row.method == "POST" { "{\"a\":1}" } else { "" };
        seen(try_send(request.body(body)).await)
    }

    /// Sends the requests of the case; what the client saw of each.
    async fn run(&self, gateway: &Gateway) -> Vec<(u16, String)> {
        if self.row.fault == StaleConnection {
            // Enough at once that every target gets one over a connection that is kept then.
            for _ in 0..self.targets.len() {
                send(gateway.client.request("GET", &self.path())).await.expect(200);
            }
        }
        let count = if self.layout == Layout::OneOfThree { MANY } else { 1 };
        let mut all = Vec::new();
        for number in 0..count {
            all.push(self.ask(gateway, number).await);
        }
        all
    }

    /// Compares with the table; the differences in words.
    fn verdict(&self, seen: &[(u16, String)], page: &str) -> Vec<String> {
        let (row, mut wrong) = (self.row, Vec::new());
        let tries = |labels: &[(&str, &str)]| {
            let labels = [&[("pool", self.name.as_str())], labels].concat();
            sum(page, "gateway_upstream_attempts_total", &labels).unwrap_or(0.0) as u32
        };
        let (label, is_failure) = row.counted;
        let (made, faulty) = (tries(&[]), tries(&[("result", label)]));
        let service = self.name.replace('-', "_");
        let failures = sum(page, "supersmartmatch_circuit_breaker_failures", &[("service", &service)]);
        let failures = failures.unwrap_or(0.0) as u32;
        let retried = row.tries.1 > 1;
        let mut check = |right: bool, what: String| {
            if !right {
                wrong.push(format!("{}: {what}; seen {seen:?}", self.name));
            }
        };
        let expected = (row.seen.0, row.seen.1.to_owned());
        let primed = if row.fault == StaleConnection { self.targets.len() as u32 } else { 0 };
        match self.layout {
            Layout::Single | Layout::AllOfThree => {
                let most = if self.layout == Layout::Single { row.tries.0 } else { row.tries.1 };
                check(seen == [expected], format!("expected {:?}", row.seen));
                check(made == most + primed, format!("{made} tries, expected {most} + {primed}"));
                check(failures == if is_failure { most } else { 0 }, format!("{failures} failures"));
            }
            Layout::OneOfThree => {
                let good = seen.iter().filter(|(status, _)| *status == 200).count() as u32;
                let bad = seen.iter().filter(|one| **one == expected && one.0 != 200).count() as u32;
                check(good + bad == MANY, format!("expected 200 or {:?}", row.seen));
                if retried {
                    check(bad == 0, "a client saw the fault".to_owned());
                    check(faulty > 0, "the fault was never met".to_owned());
                    check(made == MANY + primed + faulty, format!("{made} tries, {faulty} of them faulty"));
                } else {
                    check(made == MANY, format!("{made} tries for {MANY} requests"));
                    check(label == "success" || row.fault == NoName || bad == faulty && bad > 0, format!("{faulty}"));
                }
                check(failures == if is_failure { faulty } else { 0 }, format!("{failures} failures of {faulty}"));
            }
        }
        let most = self.most_seen();
        let licensed = if self.layout == Layout::Single && row.method == "GET" { row.tries.0.max(1) } else { 1 };
        check(most <= licensed, format!("an origin saw a request {most} times"));
        check(row.method == "GET" || self.total_seen() <= 1, "a POST reached two services".to_owned());
        wrong
    }

    /// How often one origin saw the same request, at most.
    fn most_seen(&self) -> u32 {
        self.origins.iter().map(|origin| most_of(std::slice::from_ref(origin))).max().unwrap_or(0)
    }

    /// How often all origins together saw the same request, at most.
    fn total_seen(&self) -> u32 {
        most_of(&self.origins)
    }
}

fn most_of(origins: &[Origin]) -> u32 {
    let mut counts: HashMap<String, u32> = HashMap::new();
    for one in origins.iter().flat_map(Origin::received) {
        if let Some(id) = one.header("x-request-id") {
            *counts.entry(id.to_owned()).or_default() += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

fn script(fault: Fault) -> Option<Answer> {
    let own = |status| Answer::json(status, serde_json::json!({"code": "OWN"}));
    Some(match fault {
        Refuses | NoName => return None,
        Hangs => Answer::silence(),
        ResetsBefore => Answer::reset(b""),
        ResetsDuring => Answer::reset(b"HTTP/1.1 200 OK\r\nContent-Le"),
        Ends => Answer::raw(b""),
        Garbage => Answer::raw(b"\x00\x01 this is not HTTP\r\n\r\n"),
        HalfBody => Answer::cut(1_000, b"half"),
        SlowBody => Answer::slow(b"slowly", Duration::from_millis(20)),
        Status500 => own(500),
        Status503 => own(503),
        ComeBackLater => own(503).header("Retry-After", "60"),
        StaleConnection => own(200).once(),
    })
}

/// Status and code, as the client saw them.
fn seen(got: reqwest::Result<Got>) -> (u16, String) {
    match got {
        Ok(got) if got.status >= 400 => got.refusal(),
        Ok(got) => (got.status, String::new()),
        Err(_) => (CUT.0, CUT.1.to_owned()),
    }
}

#[tokio::test]
async fn every_fault_with_one_target_and_with_three() {
    let mut cases = Vec::new();
    for row in &MATRIX {
        for layout in [Layout::Single, Layout::AllOfThree, Layout::OneOfThree] {
            cases.push(Case::new(row, layout).await);
        }
    }
    let echo = Origin::start().await;
    let pools = cases.iter().map(Case::pool).collect::<String>();
    let routes = cases.iter().map(Case::route).collect::<String>();
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&echo.url()], &pools, &routes))).await;
    let mut seen = Vec::new();
    for case in &cases {
        seen.push(case.run(&gateway).await);
    }
    let lines = gateway.access_log();
    for case in &cases {
        let mine = lines.iter().filter(|line| line["route"] == case.name.as_str());
        let longest = mine.filter_map(|line| line["duration_ms"].as_f64()).fold(0.0, f64::max);
        println!("{}: {longest} ms at most", case.name); // what clients waited, for who reads the output
    }
    let page = gateway.metrics().await;
    let wrong: Vec<String> = cases.iter().zip(&seen).flat_map(|(case, seen)| case.verdict(seen, &page)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
