//! The three services as scripted origins, and small tables over them.

use super::gateway::{Gateway, GatewayConfig};
use super::origin::Origin;

/// One origin for each service.
pub struct Services {
    pub cv_parser: Origin,
    pub job_parser: Origin,
    pub matching: Origin,
}

impl Services {
    pub async fn start() -> Services {
        Services {
            cv_parser: Origin::start().await,
            job_parser: Origin::start().await,
            matching: Origin::start().await,
        }
    }

    /// Leads the shipped table to these origins.
    pub fn config(&self) -> GatewayConfig {
        GatewayConfig::shipped()
            .env("CV_PARSER_URL", &self.cv_parser.url())
            .env("JOB_PARSER_URL", &self.job_parser.url())
            .env("MATCHING_SERVICE_URL", &self.matching.url())
    }

    /// The shipped table in front of new origins.
    pub async fn behind_a_gateway() -> (Services, Gateway) {
        let services = Services::start().await;
        let gateway = Gateway::start(services.config()).await;
        (services, gateway)
    }

    /// The origin with this service name.
    pub fn named(&self, name: &str) -> &Origin {
        match name {
            "cv_parser" => &self.cv_parser,
            "job_parser" => &self.job_parser,
            "matching" => &self.matching,
            other => panic!("no service {other}"),
        }
    }

    /// Requests at all three so far.
    pub fn count(&self) -> usize {
        self.cv_parser.count() + self.job_parser.count() + self.matching.count()
    }
}

/// A table with one pool `echo` over `targets`, whose other keys are `pool` (YAML at two levels in), the auth routes,
/// the metrics page, and `routes` (YAML list items at one level in).
pub fn table(targets: &[&str], pool: &str, routes: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("{target:?}")).collect();
    format!(
        "version: 1
pools:
  echo:
    targets: [{targets}]
{pool}
routes:
  - {{ name: metrics, match: {{ path: /api/gateway/metrics, methods: [GET] }}, to: {{ builtin: metrics }}, auth: public }}
  - {{ name: status, match: {{ path: /api/gateway/status, methods: [GET] }}, to: {{ builtin: status }}, auth: public }}
  - {{ name: health, match: {{ path: /api/gateway/health, methods: [GET] }}, to: {{ builtin: health }}, auth: public }}
  - {{ name: register, match: {{ path: /api/gateway/auth/register, methods: [POST] }}, to: {{ builtin: auth_register }}, auth: public }}
  - {{ name: login, match: {{ path: /api/gateway/auth/login, methods: [POST] }}, to: {{ builtin: auth_login }}, auth: public }}
  - {{ name: me, match: {{ path: /api/gateway/auth/me, methods: [GET] }}, to: {{ builtin: auth_me }} }}
{routes}
",
        targets = targets.join(", ")
    )
}

/// The table with `top` (YAML at the top level, without a last line break) before its routes.
pub fn with_top(table: &str, top: &str) -> String {
    let (before, routes) = table.split_once("\nroutes:\n").expect("a table with routes");
    format!("{before}\n{top}\nroutes:\n{routes}")
}

/// A public prefix route `/echo` to the pool, the simplest thing to proxy.
pub const ECHO: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET, POST, PUT, DELETE, PATCH] }, to: { pool: echo }, auth: public }";

/// The auth routes without limits, over an origin that is only there to be healthy.
pub fn unlimited(origin: &Origin) -> GatewayConfig {
    let more = "  - { name: refresh, match: { path: /api/gateway/auth/refresh, methods: [POST] }, to: { builtin: auth_refresh }, auth: public }
  - { name: logout, match: { path: /api/gateway/auth/logout, methods: [POST] }, to: { builtin: auth_logout } }";
    GatewayConfig::table(&table(&[&origin.url()], "", more))
}
