//! The recorded manners of the server behind the three services: its headers, its error pages, and a connection
//! that is closed after each answer.

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, SERVER};
use http::{HeaderName, HeaderValue, StatusCode};

/// What a request asks for, as far as the services look.
pub(super) struct Asked {
    /// Method; `HEAD` counts as `GET`.
    pub(super) get: bool,
    /// Whether the method is `POST`.
    pub(super) post: bool,
}

impl Asked {
    /// Reads the method.
    pub(super) fn of(method: &http::Method) -> Asked {
        Asked { get: method == http::Method::GET || method == http::Method::HEAD, post: method == http::Method::POST }
    }
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    answer(status, "application/json", body.into())
}

/// The page for a path that does not exist.
pub(super) fn not_found() -> Response {
    html(StatusCode::NOT_FOUND, include_str!("answers/not_found.html"))
}

/// The page for a method that the path does not take.
pub(super) fn method_not_allowed(allow: &'static str) -> Response {
    let page = html(StatusCode::METHOD_NOT_ALLOWED, include_str!("answers/method_not_allowed.html"));
    with(page, ALLOW, HeaderValue::from_static(allow))
}

/// The redirect to the same path with a slash, built from `Host` as the recorded one is.
pub(super) fn add_slash(host: &str, path: &str) -> Response {
    let target = format!("http://{host}{path}/");
    let page = format!(
        "<!doctype html>\n<html lang=en>\n<title>Redirecting...</title>\n<h1>Redirecting...</h1>\n\
         <p>You should be redirected automatically to the target URL: <a href=\"{target}\">{target}</a>. \
         If not, click the link.\n"
    );
    let page = html(StatusCode::PERMANENT_REDIRECT, page);
    match HeaderValue::try_from(target) {
        Ok(location) => with(page, LOCATION, location),
        Err(_) => not_found(),
    }
}

/// `response` with one more header.
pub(super) fn with(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

fn html(status: StatusCode, body: impl Into<Body>) -> Response {
    answer(status, "text/html; charset=utf-8", body.into())
}

fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("Werkzeug/2.3.7 Python/3.11.7"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
