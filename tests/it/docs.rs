//! The API documentation: complete, and served from here alone.

use std::collections::BTreeSet;

use crate::harness::{Gateway, P, Services};
use crate::rows::ROWS;

#[tokio::test]
async fn the_document_lists_every_route() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    let got = gateway.client.get(&format!("{P}/openapi.json")).await.expect(200);
    let document = got.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    let auth = ["register", "login", "refresh", "logout"].map(|name| ("POST", format!("{P}/auth/{name}")));
    let rows = ROWS.iter().filter(|row| row.path != "/").map(|row| (row.method, row.url()));
    for (method, path) in rows.chain(auth) {
        let path = if path.starts_with(&format!("{P}/health/"))
            && !path.contains("/detailed/")
            && !path.ends_with("/history")
            && !path.ends_with("/reset-cache")
        {
            format!("{P}/health/{{service}}")
        } else {
            path
        };
        let operation = &document["paths"][&path][method.to_lowercase()];
        assert!(operation["responses"].is_object(), "{method} {path} is not described");
    }
    let text = got.text();
    assert!(!text.contains("127.0.0.1") && !text.contains("5051"), "an internal address is shown");
}

#[tokio::test]
async fn the_pages_load_nothing_from_elsewhere() {
    let (_services, gateway) = Services::behind_a_gateway().await;
    for page in ["docs", "redoc"] {
        let url = format!("{P}/{page}");
        let got = gateway.client.get(&url).await.expect(200);
        assert!(got.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{page}");
        for name in ["x-content-type-options", "referrer-policy", "content-security-policy"] {
            assert!(got.header(name).is_some(), "{page} has no {name}");
        }
        let assets = links(&got.text());
        assert!(!assets.is_empty(), "{page} has no assets: {}", got.text());
        for asset in assets {
            assert!(!asset.contains("//"), "{page} loads {asset}");
            load(&gateway, &url, &asset).await;
        }
    }
}

/// Values of `src` and `href`.
fn links(html: &str) -> BTreeSet<String> {
    let mut links = BTreeSet::new();
    for attribute in ["src=\"", "href=\""] {
        for rest in html.split(attribute).skip(1) {
            let link = rest.split('"').next().unwrap_or_default();
            if !link.is_empty() && !link.starts_with('#') && !link.starts_with("data:") {
                links.insert(link.to_owned());
            }
        }
    }
    links
}

async fn load(gateway: &Gateway, page: &str, asset: &str) {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let asset = asset.trim_start_matches("./");
    let path = if asset.starts_with('/') { asset.to_owned() } else { format!("{folder}/{asset}") };
    let got = gateway.client.get(&path).await.expect(200);
    assert!(!got.body.is_empty(), "{path} is empty");
}

#[test]
fn links_are_found() {
    let html = r##"<a href="#x"></a><link href="./a.css"><script src="/b.js"></script><img src="data:,">"##;
    assert_eq!(links(html), ["./a.css".to_owned(), "/b.js".to_owned()].into());
}
