//! The routes of the contract as data: method, path, who may call, where it goes, what limits it.

use reqwest::RequestBuilder;

use crate::harness::{Client, P, multipart};

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Public,
    Any,
    Staff,
    Admin,
}

impl Access {
    pub fn allows(self, role: &str) -> bool {
        match self {
            Access::Public | Access::Any => true,
            Access::Staff => role != "candidat",
            Access::Admin => role == "admin",
        }
    }
}

/// Where it goes: (service, method, path) of each call.
pub type Calls = &'static [(&'static str, &'static str, &'static str)];

/// What limits it, as `X-RateLimit-Limit` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    None,
    /// The role's tier.
    Role,
    /// So many per minute for everybody.
    Fixed(u64),
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub method: &'static str,
    /// Below the prefix; after a `!` the whole path.
    pub path: &'static str,
    pub access: Access,
    pub calls: Calls,
    pub limit: Limit,
}

impl Row {
    pub fn url(&self) -> String {
        self.path.strip_prefix('!').map_or_else(|| format!("{P}{}", self.path), str::to_owned)
    }

    /// A valid request without a token. `path` may carry a query or a slash more than the row.
    pub fn request_to(&self, client: &Client, path: &str) -> RequestBuilder {
        let request = client.request(self.method, path);
        match (self.method, self.path) {
            ("POST", "/parse-cv") => {
                let (content_type, body) = multipart(b"Marie Dupont");
                request.header("content-type", content_type).body(body)
            }
            ("POST", path) if path.starts_with("/parse-job") || path.starts_with("/match") => {
                request.header("content-type", "application/json").body("{}")
            }
            _ => request,
        }
    }

    pub fn request(&self, client: &Client) -> RequestBuilder {
        self.request_to(client, &self.url())
    }
}

const fn row(method: &'static str, path: &'static str, access: Access, calls: Calls, limit: Limit) -> Row {
    Row { method, path, access, calls, limit }
}

use Access::{Admin, Any, Public, Staff};
use Limit::{Fixed, Role};

/// Every row but the auth routes that take a body or end sessions, and the admin pages of accounts: they have cases of their own.
pub const ROWS: &[Row] = &[
    row("GET", "", Public, &[], Fixed(100)),
    row("GET", "/", Public, &[], Fixed(100)),
    row("GET", "/status", Public, &[], Limit::None),
    row("GET", "!/health", Public, &[], Limit::None),
    row("GET", "/health", Public, &[], Limit::None),
    row("GET", "!/.well-known/jwks.json", Public, &[], Fixed(100)),
    row("GET", "/health/cv_parser", Public, &[], Fixed(100)),
    row("GET", "/health/job_parser", Public, &[], Fixed(100)),
    row("GET", "/health/matching", Public, &[], Fixed(100)),
    row("GET", "/health/detailed/all", Admin, &[], Role),
    row("GET", "/health/history", Admin, &[], Role),
    row("POST", "/health/reset-cache", Admin, &[], Role),
    row("GET", "/metrics", Public, &[], Limit::None),
    row("GET", "/docs", Public, &[], Fixed(100)),
    row("GET", "/redoc", Public, &[], Fixed(100)),
    row("GET", "/openapi.json", Public, &[], Fixed(100)),
    row("GET", "/auth/me", Any, &[], Role),
    row("GET", "/auth/sessions", Any, &[], Role),
    row("POST", "/parse-cv", Any, &[("cv_parser", "POST", "/api/parse-cv/")], Fixed(20)),
    row("GET", "/parse-cv/formats", Any, &[("cv_parser", "GET", "/api/formats")], Role),
    row("POST", "/parse-job", Any, &[("job_parser", "POST", "/api/parse-job")], Fixed(30)),
    row("POST", "/parse-job/url", Any, &[("job_parser", "POST", "/api/parse-job/url")], Role),
    row("POST", "/parse-job/batch", Staff, &[("job_parser", "POST", "/api/parse-job/batch")], Fixed(5)),
    row(
        "GET",
        "/parsers/stats",
        Admin,
        &[("cv_parser", "GET", "/api/stats"), ("job_parser", "GET", "/api/stats")],
        Role,
    ),
    row("POST", "/match", Any, &[("matching", "POST", "/api/v1/match")], Fixed(50)),
    row("POST", "/match/batch", Staff, &[("matching", "POST", "/api/v1/match/batch")], Fixed(10)),
    row("GET", "/match/algorithms", Any, &[("matching", "GET", "/api/v1/algorithms")], Role),
    row("POST", "/match/explain", Any, &[("matching", "POST", "/api/v1/explain")], Role),
    row("POST", "/match/recommendations", Any, &[("matching", "POST", "/api/v1/recommendations")], Role),
    row("POST", "/match/similar-jobs", Any, &[("matching", "POST", "/api/v1/similar-jobs")], Role),
    row("POST", "/match/feedback", Any, &[("matching", "POST", "/api/v1/feedback")], Role),
    row("POST", "/match/similar-candidates", Staff, &[("matching", "POST", "/api/v1/similar-candidates")], Role),
    row("GET", "/match/analytics", Staff, &[("matching", "GET", "/api/v1/analytics")], Role),
    row("POST", "/match/calibrate", Admin, &[("matching", "POST", "/api/v1/calibrate")], Role),
    row("GET", "/match/performance", Admin, &[("matching", "GET", "/api/v1/performance")], Role),
];

/// The tier of a role, requests per minute.
pub fn tier(role: &str) -> u64 {
    match role {
        "candidat" => 50,
        "recruteur" => 200,
        _ => 1000,
    }
}
