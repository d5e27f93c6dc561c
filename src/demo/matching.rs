//! The stand-in for matching. Imitates recorded answers; of the recorded score it keeps only the share of a job's
//! skills that the candidate has.

use std::cmp::Ordering;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::werkzeug::{self, Asked};

/// Largest body it reads.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// The whole service.
pub(super) fn router() -> Router {
    Router::new().fallback(answer)
}

async fn answer(request: Request) -> Response {
    let asked = Asked::of(request.method());
    let response = match request.uri().path() {
        "/api/v1/health" if asked.get => werkzeug::json(StatusCode::OK, include_str!("answers/matching_health.json")),
        "/api/v1/algorithms" if asked.get => werkzeug::json(StatusCode::OK, include_str!("answers/algorithms.json")),
        "/api/v1/match" if asked.post => {
            let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await.unwrap_or_default();
            let (status, body) = matched(&body);
            werkzeug::json(status, body)
        }
        "/api/v1/match" => werkzeug::method_not_allowed("OPTIONS, POST"),
        "/api/v1/health" | "/api/v1/algorithms" => werkzeug::method_not_allowed("GET, HEAD, OPTIONS"),
        _ => werkzeug::not_found(),
    };
    werkzeug::with(response, ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))
}

fn matched(body: &[u8]) -> (StatusCode, String) {
    let Ok(asked) = serde_json::from_slice::<Value>(body) else {
        return (StatusCode::INTERNAL_SERVER_ERROR, include_str!("answers/match_bad_json.json").to_owned());
    };
    let Some(candidate) = asked.get("candidate").filter(|it| it.is_object()) else {
        return (StatusCode::BAD_REQUEST, include_str!("answers/match_no_candidate.json").to_owned());
    };
    let jobs = asked.get("jobs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let recorded = include_str!("answers/match.json");
    let mut answer: Value = serde_json::from_str(recorded).unwrap_or_default();
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("matches".to_owned(), scored(candidate, jobs).into());
        fields.insert("total_jobs_analyzed".to_owned(), jobs.len().into());
    }
    (StatusCode::OK, answer.to_string())
}

/// One match per job, best first.
fn scored(candidate: &Value, jobs: &[Value]) -> Vec<Value> {
    let own = skills(candidate);
    let mut rows: Vec<(f64, Value)> = jobs.iter().map(|job| row(&own, job)).collect();
    rows.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn row(own: &[String], job: &Value) -> (f64, Value) {
    let wanted = skills(job);
    let common = wanted.iter().filter(|skill| own.contains(skill)).count();
    let score = if wanted.is_empty() { 0.0 } else { 100.0 * common as f64 / wanted.len() as f64 };
    let mut row = job.clone();
    if let Some(fields) = row.as_object_mut() {
        fields.insert("matching_score".to_owned(), json!(score));
        fields.insert("matching_details".to_owned(), json!({ "skills_match": score }));
    }
    (score, row)
}

/// Skills in lower case; the recorded requests name them `competences` or `skills`.
fn skills(of: &Value) -> Vec<String> {
    let list = of.get("competences").or_else(|| of.get("skills")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_ranked_by_shared_skills() {
        let body = json!({"candidate": {"competences": ["Python", "Docker"]}, "jobs": [
            {"id": "a", "competences": ["Java"]}, {"id": "b", "competences": ["python", "Go"]}, {"id": "c"}]});
        let (status, answer) = matched(body.to_string().as_bytes());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 200);
        assert_eq!((&answer["matches"][0]["id"], &answer["matches"][0]["matching_score"]), (&json!("b"), &json!(50.0)));
        assert_eq!(answer["total_jobs_analyzed"], 3);
    }

    #[test]
    fn the_recorded_refusals_are_kept() {
        assert_eq!(matched(b"invalid json content").0, 500);
        for body in ["{}", "[]", "3", r#"{"candidate_profile":{},"job_offer":{}}"#] {
            let (status, answer) = matched(body.as_bytes());
            assert_eq!(status, 400, "{body}");
            assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["error"], "Données candidat requises");
        }
        assert_eq!(matched(br#"{"candidate":{}}"#).0, 200);
    }
}
