//! The stand-in for cv-parser. Imitates recorded answers; reads nothing out of a CV.

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use http::header::HOST;

use super::upload::{self, UploadedFile};
use super::werkzeug::{self, Asked};

/// The whole service.
pub(super) fn router() -> Router {
    Router::new().fallback(answer)
}

async fn answer(request: Request) -> Response {
    let asked = Asked::of(request.method());
    match request.uri().path() {
        "/health" if asked.get => werkzeug::json(StatusCode::OK, include_str!("answers/cv_health.json")),
        "/api/formats" if asked.get => werkzeug::json(StatusCode::OK, include_str!("answers/formats.json")),
        "/api/parse-cv" => {
            let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
            werkzeug::add_slash(host, "/api/parse-cv")
        }
        "/api/parse-cv/" if asked.post => match upload::receive(request).await {
            Some(file) => werkzeug::json(StatusCode::OK, parsed(include_str!("answers/cv_parse.json"), &file)),
            None => werkzeug::json(StatusCode::BAD_REQUEST, include_str!("answers/no_file.json")),
        },
        "/api/parse-cv/" => werkzeug::method_not_allowed("OPTIONS, POST"),
        "/health" | "/api/formats" => werkzeug::method_not_allowed("GET, HEAD, OPTIONS"),
        _ => werkzeug::not_found(),
    }
}

/// A recorded parse with the name and the size of this file.
pub(super) fn parsed(recorded: &str, file: &UploadedFile) -> String {
    let Ok(mut body) = serde_json::from_str::<serde_json::Value>(recorded) else { return recorded.to_owned() };
    if let Some(about) = body.pointer_mut("/data/_metadata/extraction_metadata").and_then(|it| it.as_object_mut()) {
        about.insert("filename".to_owned(), file.name.as_str().into());
        about.insert("file_size".to_owned(), file.size.into());
    }
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt;

    async fn ask(request: http::Request<Body>) -> (StatusCode, http::HeaderMap, String) {
        let (head, body) = router().oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_file_is_answered_with_its_own_name_and_size() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"moi.txt\"\r\n\r\nBonjour\r\n--b--";
        let request = http::Request::post("/api/parse-cv/").header("content-type", "multipart/form-data; boundary=b");
        let (status, headers, body) = ask(request.body(Body::from(body)).unwrap()).await;
        assert_eq!((status.as_u16(), &headers["connection"]), (200, &http::HeaderValue::from_static("close")));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["data"]["_metadata"]["extraction_metadata"]["filename"], "moi.txt");
        assert_eq!(body["data"]["_metadata"]["extraction_metadata"]["file_size"], 7);
    }

    #[tokio::test]
    async fn the_recorded_refusals_are_kept() {
        let (status, _, body) = ask(http::Request::post("/api/parse-cv/").body(Body::empty()).unwrap()).await;
        assert_eq!((status.as_u16(), body.as_str()), (400, "{\"error\":\"Aucun fichier fourni\"}\n"));

        let request = http::Request::post("/api/parse-cv").header("host", "10.0.0.7:5051");
        let (status, headers, _) = ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (status.as_u16(), &headers["location"]),
            (308, &"http://10.0.0.7:5051/api/parse-cv/".parse().unwrap())
        );

        let (status, headers, _) = ask(http::Request::get("/api/parse-cv/").body(Body::empty()).unwrap()).await;
        assert_eq!((status.as_u16(), &headers["allow"]), (405, &"OPTIONS, POST".parse().unwrap()));

        let (status, headers, body) = ask(http::Request::get("/api/stats").body(Body::empty()).unwrap()).await;
        assert_eq!((status.as_u16(), body.len()), (404, 207));
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
    }
}
