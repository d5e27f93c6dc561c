//! The stand-in for job-parser. Imitates recorded answers; reads nothing out of a job description.

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;

use super::cv_parser::parsed;
use super::upload;
use super::werkzeug::{self, Asked};

/// The whole service.
pub(super) fn router() -> Router {
    Router::new().fallback(answer)
}

async fn answer(request: Request) -> Response {
    let asked = Asked::of(request.method());
    match request.uri().path() {
        "/health" if asked.get => werkzeug::json(StatusCode::OK, include_str!("answers/job_health.json")),
        "/api/formats" if asked.get => werkzeug::json(StatusCode::OK, include_str!("answers/formats.json")),
        "/api/parse-job" if asked.post => match upload::receive(request).await {
            Some(file) => werkzeug::json(StatusCode::OK, parsed(include_str!("answers/job_parse.json"), &file)),
            // Also for JSON: the recorded service takes nothing but a multipart part `file`.
            None => werkzeug::json(StatusCode::BAD_REQUEST, include_str!("answers/no_file.json")),
        },
        "/api/parse-job" => werkzeug::method_not_allowed("OPTIONS, POST"),
        "/health" | "/api/formats" => werkzeug::method_not_allowed("GET, HEAD, OPTIONS"),
        _ => werkzeug::not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use tower::ServiceExt;

    #[tokio::test]
    async fn json_is_refused_as_recorded() {
        let request = http::Request::post("/api/parse-job").header("content-type", "application/json");
        let response = router().oneshot(request.body(Body::from(r#"{"title":"x"}"#)).unwrap()).await.unwrap();
        assert_eq!(response.status(), 400);
    }

    #[tokio::test]
    async fn what_the_real_service_lacks_is_not_here_either() {
        for path in ["/api/parse-job/url", "/api/parse-job/batch", "/api/stats"] {
            let response = router().oneshot(http::Request::post(path).body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), 404, "{path}");
        }
    }
}
