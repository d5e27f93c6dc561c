//! The pages as the proxy asks for them, over a table like the shipped one and checks with a known outcome.

mod table;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::clock::Hand;
use crate::model::health::{Circuit, Health, PoolReport, Probe, TargetReport, Transition};
use crate::snapshot::Snapshot;
pub(super) use table::table;

/// What the checks saw, as a test sets it.
#[derive(Default)]
pub(super) struct FakeHealth {
    pub(super) pools: Mutex<Vec<PoolReport>>,
    pub(super) probed: AtomicUsize,
}

impl HealthView for FakeHealth {
    fn pools(&self) -> Vec<PoolReport> {
        self.pools.lock().clone()
    }
    fn history(&self) -> Vec<Transition> {
        vec![Transition {
            at: Timestamp::UNIX_EPOCH,
            service: "matching".into(),
            target: "target-1".into(),
            health: Health::Unhealthy,
            reason: Some("status 500".into()),
        }]
    }
    fn probe_now(&self) {
        self.probed.fetch_add(1, Ordering::SeqCst);
    }
    fn first_round_done(&self) -> bool {
        self.pools.lock().iter().flat_map(|pool| &pool.targets).all(|target| target.health != Health::Unknown)
    }
}

fn target(label: &str, health: Health) -> TargetReport {
    let failed = health == Health::Unhealthy;
    TargetReport {
        label: label.into(),
        address: "cv-parser:5051 (192.0.2.1)".into(),
        health,
        last_probe: (health != Health::Unknown).then(|| Probe {
            at: Timestamp::UNIX_EPOCH,
            took: Duration::from_millis(250),
            status: (!failed).then_some(200),
            error: failed.then(|| "connection refused".into()),
            version: (!failed).then(|| "2.1".into()),
            uptime: (!failed).then_some(12.5),
        }),
        circuit: Circuit::Closed,
        failures: 3,
        in_flight: 1,
        weight: 3,
        backup: true,
        draining: false,
    }
}

fn pool(pool: &str, targets: &[Health]) -> PoolReport {
    let targets = targets.iter().enumerate().map(|(n, health)| target(&format!("target-{}", n + 1), *health)).collect();
    PoolReport { pool: pool.into(), service: pool.replace('-', "_").into(), targets, panic: false, waiting: Some(2) }
}

/// One gateway's pages, with a hand on every input.
pub(super) struct Site {
    pub(super) pages: Arc<Pages>,
    pub(super) health: Arc<FakeHealth>,
    pub(super) hand: Hand,
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn ask(router: Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap().to_vec();
    Answer { status: head.status, headers: head.headers, body }
}

impl Site {
    pub(super) fn new() -> Site {
        Site::with_metrics(true)
    }

    fn with_metrics(metrics_enabled: bool) -> Site {
        let (clock, hand) = Clock::manual();
        let health = Arc::new(FakeHealth::default());
        *health.pools.lock() = vec![
            pool("cv-parser", &[Health::Unhealthy, Health::Healthy]),
            pool("job-parser", &[Health::Healthy]),
            pool("matching", &[Health::Unhealthy]),
        ];
        let live = Arc::new(Live::new(Snapshot::of_spec(1, table())));
        let info = GatewayInfo {
            name: "supersmartmatch-gateway".into(),
            version: "9.9.9".into(),
            environment: "testing".into(),
            debug: false,
            metrics_enabled,
        };
        let pages = Pages::new(live, health.clone(), Metrics::new("9.9.9").unwrap(), clock, info);
        Site { pages, health, hand }
    }

    pub(super) async fn get(&self, page: &str, headers: &[(&str, &str)]) -> Answer {
        ask(router(self.pages.clone()), "GET", &format!("/builtin/{page}"), headers).await
    }

    async fn admin(&self, readiness: &Arc<Readiness>, path: &str) -> Answer {
        ask(admin_router(self.pages.clone(), readiness.clone()), "GET", path, &[]).await
    }
}

const ADMIN: (&str, &str) = ("x-user-role", "admin");

#[tokio::test]
async fn status_says_who_and_when() {
    let answer = Site::new().get("status", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({"status": "ok", "service": "supersmartmatch-gateway", "version": "9.9.9",
            "timestamp": "2026-01-01T00:00:00Z"})
    );
}

#[tokio::test]
async fn the_service_card_lists_the_live_table() {
    let card = Site::new().get("service_card", &[]).await.json();
    assert_eq!(card["name"], "supersmartmatch-gateway");
    let endpoints = card["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), table().routes.len());
    let find = |path: &str| endpoints.iter().find(|endpoint| endpoint["path"] == path).unwrap().clone();
    assert_eq!(find("/api/gateway/match/batch")["access"], "roles");
    assert_eq!(find("/api/gateway/match/batch")["roles"], json!(["recruteur", "admin"]));
    assert_eq!(find("/api/gateway/match")["access"], "required");
    assert_eq!(find("/api/gateway/match")["api_keys"], true);
    assert_eq!(find("/api/gateway/match/batch").get("api_keys"), None);
    assert_eq!(find("/health")["methods"], json!(["GET"]));
    assert_eq!(find("/health")["access"], "public");
}

#[tokio::test]
async fn the_aggregate_has_every_field_of_the_contract() {
    let site = Site::new();
    site.hand.advance(Duration::from_secs(90));
    let answer = site.get("health", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let ratio = 2.0 / 3.0;
    assert_eq!(
        answer.json(),
        json!({
            "status": "degraded",
            "timestamp": "2026-01-01T00:01:30Z",
            "services": {
                "cv_parser": {"service_name": "cv_parser", "status": "healthy", "response_time": 0.25,
                    "last_check": "1970-01-01T00:00:00Z", "error": null, "version": "2.1", "uptime": 12.5},
                "job_parser": {"service_name": "job_parser", "status": "healthy", "response_time": 0.25,
                    "last_check": "1970-01-01T00:00:00Z", "error": null, "version": "2.1", "uptime": 12.5},
                "matching": {"service_name": "matching", "status": "unhealthy", "response_time": null,
                    "last_check": "1970-01-01T00:00:00Z", "error": "connection refused", "version": null,
                    "uptime": null},
            },
            "gateway_info": {"name": "supersmartmatch-gateway", "version": "9.9.9", "environment": "testing",
                "debug_mode": false, "services_managed": 3},
            "performance_metrics": {"health_check_duration": 0.25, "healthy_services_ratio": ratio,
                "gateway_uptime": 90.0, "cache_hit_ratio": null},
        })
    );
}

#[tokio::test]
async fn the_aggregate_goes_from_healthy_over_degraded_to_unhealthy() {
    let site = Site::new();
    for (health, word) in
        [(Health::Healthy, "healthy"), (Health::Unhealthy, "unhealthy"), (Health::Unknown, "unhealthy")]
    {
        *site.health.pools.lock() = vec![pool("cv-parser", &[health]), pool("matching", &[health])];
        let answer = site.get("health", &[]).await;
        assert_eq!((answer.status, &answer.json()["status"]), (StatusCode::OK, &json!(word)));
    }
    // Nothing measured yet: nothing is said.
    let body = site.get("health", &[]).await.json();
    assert_eq!(body["performance_metrics"]["health_check_duration"], Value::Null);
    assert_eq!(body["services"]["matching"]["last_check"], Value::Null);
}

#[tokio::test]
async fn a_service_is_200_with_one_healthy_target_and_503_with_none() {
    let site = Site::new();
    let answer = site.get("service_health", &[("x-ssm-param-service", "cv_parser")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.json(),
        json!({"service": "cv_parser", "timestamp": "2026-01-01T00:00:00Z", "health": {
            "target-1": {"status": "unhealthy", "status_code": null, "response_time": null, "circuit_breaker": "closed"},
            "target-2": {"status": "healthy", "status_code": 200, "response_time": 0.25, "circuit_breaker": "closed"},
        }})
    );
    let down = site.get("service_health", &[("x-ssm-param-service", "matching")]).await;
    assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn addresses_are_for_admins() {
    let site = Site::new();
    for page in ["service_health", "health_detailed", "health", "health_history", "service_card"] {
        for anonymous in [("x-user-role", "recruteur"), ("x-nothing", "")] {
            let answer = site.get(page, &[("x-ssm-param-service", "cv_parser"), anonymous]).await;
            assert!(!answer.text().contains("192.0.2.1"), "{page}");
        }
    }
    for page in ["service_health", "health_detailed"] {
        let answer = site.get(page, &[("x-ssm-param-service", "cv_parser"), ADMIN]).await;
        assert!(answer.text().contains("192.0.2.1"), "{page}");
    }
}

#[tokio::test]
async fn an_unknown_service_is_a_404_in_the_envelope() {
    let asked = [
        ("x-ssm-param-service", "<script>"),
        ("x-ssm-path", "/api/gateway/health/x"),
        ("x-request-id", "rid-12345678"),
        ("accept-language", "en"),
    ];
    let answer = Site::new().get("service_health", &asked).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(
        answer.json(),
        json!({"error": true, "code": "NOT_FOUND", "message": "Resource not found", "status_code": 404,
            "path": "/api/gateway/health/x", "request_id": "rid-12345678"})
    );
}

#[tokio::test]
async fn details_history_and_reset() {
    let site = Site::new();
    let detailed = site.get("health_detailed", &[ADMIN]).await.json();
    let first = &detailed["services"]["cv_parser"]["targets"][0];
    assert_eq!(first["target"], "target-1");
    assert_eq!(first["last_probe"]["error"], "connection refused");
    assert_eq!(first["circuit_breaker_failures"], 3);
    assert_eq!((&first["in_flight"], &first["draining"]), (&json!(1), &json!(false)));
    assert_eq!((&first["weight"], &first["backup"]), (&json!(3), &json!(true)));
    assert_eq!(detailed["services"]["cv_parser"]["panic"], false);
    assert_eq!(detailed["services"]["cv_parser"]["waiting"], 2);
    let others = site.get("health_detailed", &[]).await.json();
    assert!(others["services"]["cv_parser"]["targets"][0]["weight"].is_null(), "that is for admins");
    let history = site.get("health_history", &[ADMIN]).await.json();
    assert_eq!(history["transitions"][0]["reason"], "status 500");
    let reset = ask(router(site.pages.clone()), "POST", "/builtin/health_reset", &[ADMIN]).await;
    assert_eq!(reset.status, StatusCode::OK);
    assert_eq!(site.health.probed.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn metrics_that_are_off_are_no_page() {
    let site = Site::with_metrics(false);
    let readiness = Readiness::new(site.health.clone(), Vec::new());
    assert_eq!(site.get("metrics", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.admin(&readiness, "/metrics").await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.admin(&readiness, "/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_text_of_version_0_0_4() {
    let answer = Site::new().get("metrics", &[]).await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4");
    assert!(answer.text().contains("supersmartmatch_service_up{service=\"matching\"} 0"));
}

#[tokio::test]
async fn every_answer_of_every_page_carries_the_same_headers() {
    let site = Site::new();
    let pages = ["service_card", "status", "health", "service_health", "health_detailed", "health_history", "metrics"];
    for page in pages.into_iter().chain(["docs", "redoc", "openapi", "nothing", "health_reset"]) {
        let answer = site.get(page, &[]).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{page}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{page}");
        let caching = if ["docs", "redoc", "openapi"].contains(&page) { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), caching, "{page}");
    }
    let answer = site.get("health_reset", &[]).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    assert_eq!(answer.json()["code"], "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn keys_stand_in_the_order_of_the_contract() {
    let site = Site::new();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(keys(&site.get("status", &[]).await.json()), "status service version timestamp");
    let health = site.get("health", &[]).await.json();
    assert_eq!(keys(&health), "status timestamp services gateway_info performance_metrics");
    assert_eq!(
        keys(&health["services"]["matching"]),
        "service_name status response_time last_check error version uptime"
    );
    assert_eq!(keys(&health["gateway_info"]), "name version environment debug_mode services_managed");
    let service = site.get("service_health", &[("x-ssm-param-service", "matching")]).await.json();
    assert_eq!(keys(&service), "service timestamp health");
    assert_eq!(keys(&service["health"]["target-1"]), "status status_code response_time circuit_breaker");
}

#[tokio::test]
async fn pages_that_do_not_exist_are_404() {
    assert_eq!(Site::new().get("nothing", &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn readiness_follows_checks_stores_and_draining() {
    let site = Site::new();
    let up = Arc::new(AtomicUsize::new(1));
    let store = up.clone();
    let check: StoreCheck = Box::new(move || store.load(Ordering::SeqCst) == 1);
    let stores = vec![
        Store { name: "identity", needed: true, check },
        Store { name: "redis", needed: false, check: Box::new(|| false) },
    ];
    let readiness = Readiness::new(site.health.clone(), stores);
    assert_eq!(site.admin(&readiness, "/livez").await.status, StatusCode::OK);
    let ready = site.admin(&readiness, "/readyz").await;
    assert_eq!((ready.status, ready.json()["reasons"].clone()), (StatusCode::OK, json!([])));
    assert_eq!(ready.json()["degraded"], json!(["store redis does not answer"]));
    assert_eq!(ready.json()["checks"]["stores"], json!({"identity": true, "redis": false}));

    up.store(0, Ordering::SeqCst);
    let answer = site.admin(&readiness, "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["reasons"], json!(["store identity does not answer"]));
    up.store(1, Ordering::SeqCst);

    *site.health.pools.lock() = vec![pool("matching", &[Health::Unknown])];
    assert_eq!(site.admin(&readiness, "/readyz").await.json()["checks"]["first_health_round"], false);
    *site.health.pools.lock() = Vec::new();

    readiness.set_draining();
    let answer = site.admin(&readiness, "/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["reasons"], json!(["the process is draining"]));
    assert_eq!(site.admin(&readiness, "/livez").await.status, StatusCode::OK);
    assert!(site.admin(&readiness, "/metrics").await.text().contains("supersmartmatch_gateway_up 1"));
}
