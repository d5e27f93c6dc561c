//! The documentation pages: Swagger UI, ReDoc and the document they show. All assets are compiled in; neither page
//! asks any other host for anything.
//!
//! The table says where the pages and their files are: a route to `docs` whose path ends in `{file}` serves the
//! files of both pages. Links are absolute paths taken from the live table, so they hold with and without a
//! trailing slash on the page's own path.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue, StatusCode};
use utoipa_swagger_ui::{Config, serve};

use super::asked::{self, Asked};
use super::{Pages, answer, openapi as document};
use crate::config::spec::{Builtin, RoutesSpec};
use crate::model::rejection::Rejection;
use crate::model::reply::Reply;

/// ReDoc 2.5.4; see assets/redoc/README.md.
const REDOC: &[u8] = include_bytes!("../../assets/redoc/redoc.standalone.js");
const REDOC_FILE: &str = "redoc.standalone.js";
const INITIALIZER: &str = "swagger-initializer.js";

/// Swagger UI's files that its page uses, with their types. The rest of its distribution is not served.
const SWAGGER_FILES: [(&str, &str); 7] = [
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("index.css", "text/css; charset=utf-8"),
    ("swagger-ui-bundle.js", JAVASCRIPT),
    ("swagger-ui-standalone-preset.js", JAVASCRIPT),
    (INITIALIZER, JAVASCRIPT),
    ("favicon-16x16.png", "image/png"),
    ("favicon-32x32.png", "image/png"),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Both pages insert style elements as they run, so styles may be inline; scripts never. ReDoc's search runs in a
/// worker made from a blob.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// File names carry the version as a query, so what was fetched once need not be asked for again.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// Swagger UI; with path parameter `{file}`, one of the files of either page.
pub(super) async fn swagger(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let table = pages.live.load_full();
    if let Some(name) = asked.text(asked::FILE) {
        return file(&table.spec, name, &asked);
    }
    let link = |name| escape(&asset(&table.spec, name));
    page(format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="{style}">
<link rel="stylesheet" href="{index_style}">
<link rel="icon" type="image/png" href="{icon}" sizes="32x32">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{bundle}" charset="utf-8"></script>
<script src="{preset}" charset="utf-8"></script>
<script src="{initializer}" charset="utf-8"></script>
</body>
</html>
"#,
        title = escape(&pages.info.name),
        style = link("swagger-ui.css"),
        index_style = link("index.css"),
        icon = link("favicon-32x32.png"),
        bundle = link("swagger-ui-bundle.js"),
        preset = link("swagger-ui-standalone-preset.js"),
        initializer = link(INITIALIZER),
    ))
}

/// ReDoc.
pub(super) async fn redoc(State(pages): State<Arc<Pages>>) -> Response {
    let table = pages.live.load_full();
    page(format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" type="image/png" href="{icon}" sizes="32x32">
<style>body {{ margin: 0; padding: 0; }}</style>
</head>
<body>
<redoc spec-url="{document}"></redoc>
<script src="{bundle}" charset="utf-8"></script>
</body>
</html>
"#,
        title = escape(&pages.info.name),
        icon = escape(&asset(&table.spec, "favicon-32x32.png")),
        document = escape(&document_path(&table.spec)),
        bundle = escape(&asset(&table.spec, REDOC_FILE)),
    ))
}

/// The OpenAPI document of the live table, made once per generation.
pub(super) async fn openapi(State(pages): State<Arc<Pages>>, asked: Asked) -> Response {
    let table = pages.live.load_full();
    let kept = pages.openapi.load_full().filter(|kept| kept.0 == table.generation);
    let body: Bytes = match kept {
        Some(kept) => kept.1.clone(),
        None => match serde_json::to_vec(&document::document(&table.spec, &pages.info)) {
            Ok(text) => {
                let text = Bytes::from(text);
                pages.openapi.store(Some(Arc::new((table.generation, text.clone()))));
                text
            }
            Err(error) => {
                tracing::error!(%error, "the OpenAPI document could not be written");
                return answer::refuse(&Rejection::Internal, &asked);
            }
        },
    };
    answer::content("application/json", body, [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))])
}

fn page(html: String) -> Response {
    let headers = [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    answer::content(HTML, html, headers)
}

fn file(spec: &RoutesSpec, name: &str, asked: &Asked) -> Response {
    if name == REDOC_FILE {
        return kept_file(JAVASCRIPT, Bytes::from_static(REDOC), asked);
    }
    let Some((_, content_type)) = SWAGGER_FILES.iter().find(|(known, _)| *known == name) else {
        return answer::refuse(&Rejection::NotFound, asked);
    };
    let config = Config::new([document_path(spec)]).persist_authorization(false).validator_url("none");
    match serve(name, Arc::new(config)) {
        Ok(Some(file)) if name == INITIALIZER => {
            // It names the document's path, which a reload may change.
            let headers = [(CACHE_CONTROL, HeaderValue::from_static("no-cache"))];
            answer::content(content_type, Bytes::from(file.bytes.into_owned()), headers)
        }
        Ok(Some(file)) => kept_file(content_type, Bytes::from(file.bytes.into_owned()), asked),
        Ok(None) => answer::refuse(&Rejection::NotFound, asked),
        Err(error) => {
            tracing::error!(file = name, %error, "a file of the documentation could not be made");
            answer::refuse(&Rejection::Internal, asked)
        }
    }
}

fn kept_file(content_type: &'static str, body: Bytes, asked: &Asked) -> Response {
    // Weak, as the proxy may compress the body on the way.
    let tag = format!("W/\"{}-{:x}\"", env!("CARGO_PKG_VERSION"), body.len());
    let mut headers: Vec<(HeaderName, HeaderValue)> = vec![(CACHE_CONTROL, HeaderValue::from_static(FOR_EVER))];
    headers.extend(HeaderValue::from_str(&tag).map(|value| (ETAG, value)));
    let known = asked.text(IF_NONE_MATCH.as_str()).is_some_and(|tags| tags.split(',').any(|held| held.trim() == tag));
    if known {
        return answer::send(Reply { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() });
    }
    answer::content(content_type, body, headers)
}

/// Public path of one of the files.
fn asset(spec: &RoutesSpec, name: &str) -> String {
    let pattern = spec
        .routes
        .iter()
        .filter(|route| route.to.builtin == Some(Builtin::Docs))
        .filter_map(|route| route.r#match.path.as_deref())
        .find(|path| path.contains("{file}"))
        .unwrap_or("docs/{file}");
    let version = if name == INITIALIZER { "" } else { concat!("?v=", env!("CARGO_PKG_VERSION")) };
    format!("{}{version}", pattern.replace("{file}", name))
}

/// Public path of the OpenAPI document.
fn document_path(spec: &RoutesSpec) -> String {
    spec.routes
        .iter()
        .filter(|route| route.to.builtin == Some(Builtin::Openapi))
        .find_map(|route| route.r#match.path.clone())
        .unwrap_or_else(|| "openapi.json".to_owned())
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{Site, table};
    use crate::snapshot::Snapshot;

    /// What a page refers to, by `src`, `href` and `spec-url`.
    fn links(html: &str) -> Vec<&str> {
        ["src=\"", "href=\"", "spec-url=\""]
            .into_iter()
            .flat_map(|attribute| html.split(attribute).skip(1))
            .filter_map(|rest| rest.split('"').next())
            .collect()
    }

    #[tokio::test]
    async fn pages_link_to_paths_of_the_table_and_to_no_other_host() {
        let site = Site::new();
        for page in ["docs", "redoc"] {
            let answer = site.get(page, &[("x-ssm-path", "/api/gateway/docs")]).await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.header("x-frame-options"), "DENY");
            assert!(answer.header("content-security-policy").contains("script-src 'self';"));
            let links = links(answer.text());
            assert!(links.len() > 2);
            for link in links {
                let Some(file) = link.strip_prefix("/api/gateway/docs/") else {
                    assert_eq!(link, "/api/gateway/openapi.json");
                    continue;
                };
                let name = file.split('?').next().unwrap_or_default();
                let served = site.get("docs", &[("x-ssm-param-file", name)]).await;
                assert_eq!(served.status, StatusCode::OK, "{link}");
                assert!(!served.body.is_empty());
            }
        }
    }

    #[tokio::test]
    async fn the_initializer_names_the_document_and_keeps_no_token() {
        let answer = Site::new().get("docs", &[("x-ssm-param-file", INITIALIZER)]).await;
        let text = answer.text();
        assert!(text.contains(r#""url": "/api/gateway/openapi.json""#), "{text}");
        assert!(text.contains(r#""persistAuthorization": false"#), "{text}");
        assert!(text.contains(r#""validatorUrl": "none""#), "{text}");
        assert_eq!(answer.header("cache-control"), "no-cache");
    }

    #[tokio::test]
    async fn files_are_kept_and_asked_for_again_by_tag() {
        let site = Site::new();
        let first = site.get("docs", &[("x-ssm-param-file", REDOC_FILE)]).await;
        assert_eq!(first.header("content-type"), JAVASCRIPT);
        assert_eq!(first.header("cache-control"), FOR_EVER);
        let tag = first.header("etag").to_owned();
        let again = site.get("docs", &[("x-ssm-param-file", REDOC_FILE), ("if-none-match", &tag)]).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    }

    #[tokio::test]
    async fn only_the_files_of_the_pages_are_served() {
        let site = Site::new();
        for name in ["index.html", "", "../Cargo.toml", "swagger-ui.js", "oauth2-redirect.html"] {
            let answer = site.get("docs", &[("x-ssm-param-file", name)]).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{name}");
        }
    }

    #[tokio::test]
    async fn the_document_follows_the_table() {
        let site = Site::new();
        let first = site.get("openapi", &[]).await;
        assert_eq!(first.body, site.get("openapi", &[]).await.body);
        let mut spec = table();
        spec.routes.truncate(3);
        site.pages.live.publish(Snapshot::of_spec(2, spec));
        let second = site.get("openapi", &[]).await.json();
        assert_eq!(second["paths"].as_object().map(serde_json::Map::len), Some(3));
    }

    #[test]
    fn the_bundle_names_no_host_that_it_would_ask() {
        let text = String::from_utf8_lossy(REDOC);
        for host in ["cdn.redoc.ly", "fonts.googleapis.com", "fonts.gstatic.com"] {
            assert!(!text.contains(host), "{host}");
        }
    }

    #[test]
    fn text_cannot_leave_its_attribute() {
        assert_eq!(escape(r#"<a b="c">&'"#), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
    }
}
