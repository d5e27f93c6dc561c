//! What crosses the gateway, and what does not: headers both ways, bodies as they are.

use std::io::{Read, Write};

use serde_json::json;

use crate::harness::{Answer, Gateway, GatewayConfig, Origin, P, Services, send, table};

const ROUTES: &str = "  - { name: echo, match: { prefix: /echo, methods: [GET, POST, PUT, DELETE, PATCH] }, to: { pool: echo }, auth: public }
  - { name: moved, match: { prefix: /public }, to: { pool: echo, path: /internal }, auth: public }
  - { name: private, match: { prefix: /private, methods: [GET, POST] }, to: { pool: echo } }
  - { name: json, match: { path: /json, methods: [POST] }, to: { pool: echo }, auth: public, body: { json: true } }
  - { name: capped, match: { path: /capped, methods: [POST] }, to: { pool: echo }, auth: public, body: { max: 1KiB } }";

pub async fn started() -> (Origin, Gateway) {
    let origin = Origin::start().await;
    let routes = ROUTES.replace("prefix: /public }", "prefix: /public, methods: [GET] }");
    let gateway = Gateway::start(GatewayConfig::table(&table::table(&[&origin.url()], "", &routes))).await;
    (origin, gateway)
}

#[tokio::test]
async fn a_service_learns_who_asks_and_never_the_token() {
    let (origin, gateway) = started().await;
    let user = gateway.user("recruteur").await;
    let request = gateway.client.as_user(&user, "GET", "/private").header("x-request-id", "my-own-id_1.2");
    let got = send(request).await.expect(200);
    let last = origin.last();
    assert_eq!(last.header("x-user-id"), Some(user.id.to_string().as_str()));
    assert_eq!(last.header("x-user-email"), Some(user.email.as_str()));
    assert_eq!(last.header("x-user-role"), Some("recruteur"));
    assert_eq!(
        (last.header("x-request-id"), got.header("x-request-id")),
        (Some("my-own-id_1.2"), Some("my-own-id_1.2"))
    );
    assert!(last.header("traceparent").is_some());
    assert_eq!(last.header("authorization"), None);
    assert!(!format!("{:?}", last.head).contains(&user.access));
}

#[tokio::test]
async fn nobody_can_say_who_they_are_themselves() {
    let (origin, gateway) = started().await;
    let user = gateway.user("candidat").await;
    for path in ["/echo", "/private"] {
        let mut raw = gateway.raw().await;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: g\r\nAuthorization: {}\r\nX-User-Id: 1\r\nx-user-email: root@example.com\r\n\
             X-USER-ROLE: admin\r\nX_User_Role: admin\r\nX_USER_ID: 1\r\nX-User_Role: admin\r\n\r\n",
            user.bearer()
        );
        raw.send(head.as_bytes()).await;
        let status = raw.response().await.expect("an answer").status();
        assert!(matches!(status, 200 | 400), "{path}: {status}");
        for received in origin.received() {
            assert_eq!(received.header("authorization"), None, "{path}");
            for (name, value) in &received.head.headers {
                let read_as = name.to_ascii_lowercase().replace('_', "-");
                assert!(
                    !read_as.starts_with("x-user-") || (!name.contains('_') && !value.contains("admin")),
                    "{name}: {value}"
                );
            }
        }
    }
    // Without the underscores the request is fine, and the copies are gone.
    let request = gateway.client.request("GET", "/echo").header("x-user-role", "admin").header("x-user-id", "1");
    send(request.header("authorization", "Bearer x.y.z")).await.expect(200);
    let last = origin.last();
    for name in ["x-user-role", "x-user-id", "x-user-email", "authorization"] {
        assert_eq!(last.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn forwarded_headers_are_ours() {
    let (origin, gateway) = started().await;
    let request = gateway.client.request("GET", "/echo").header("x-forwarded-for", "198.51.100.9");
    let request = request.header("x-forwarded-proto", "https").header("x-forwarded-host", "evil.example");
    send(request.header("x-real-ip", "198.51.100.9").header("forwarded", "for=198.51.100.9")).await.expect(200);
    let last = origin.last();
    assert_eq!(last.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(last.header("x-forwarded-proto"), Some("http"));
    assert!(
        !format!("{:?}", last.head).contains("198.51.100.9") && !format!("{:?}", last.head).contains("evil"),
        "{last:?}"
    );
}

#[tokio::test]
async fn hop_by_hop_headers_cross_neither_way() {
    let (origin, gateway) = started().await;
    let hops = ["keep-alive", "proxy-authorization", "proxy-connection", "te", "trailer", "x-hop"];
    let mut raw = gateway.raw().await;
    raw.send(
        b"GET /echo HTTP/1.1\r\nHost: g\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
          Proxy-Authorization: Basic x\r\nProxy-Connection: close\r\nTE: trailers\r\nTrailer: X-T\r\nX-End: 1\r\n\r\n",
    )
    .await;
    assert_eq!(raw.response().await.expect("an answer").status(), 200);
    for name in hops {
        assert!(origin.last().head.all(name).is_empty(), "{name} reached the service");
    }
    assert_eq!(origin.last().header("x-end"), Some("1"));

    let answer = Answer::json(200, json!({})).header("Connection", "X-Hop").header("X-Hop", "1");
    let answer = answer.header("Keep-Alive", "timeout=9").header("Proxy-Authenticate", "Basic").header("X-End", "1");
    origin.on("/echo/hops", answer);
    let got = gateway.client.get("/echo/hops").await.expect(200);
    for name in ["keep-alive", "proxy-authenticate", "x-hop"] {
        assert_eq!(got.header(name), None, "{name}");
    }
    assert_eq!(got.header("x-end"), Some("1"));
}

#[tokio::test]
async fn a_location_inside_becomes_a_location_outside() {
    let (origin, gateway) = started().await;
    origin.on("/internal/old", Answer::bare(308).header("Location", &format!("{}/internal/new?x=1", origin.url())));
    let got = gateway.client.get("/public/old").await.expect(308);
    let location = got.header("location").unwrap_or_default();
    assert!(location.ends_with("/public/new?x=1") && !location.contains(&origin.address().to_string()), "{location}");
    origin.on("/internal/away", Answer::bare(302).header("Location", "https://elsewhere.example/x"));
    let got = gateway.client.get("/public/away").await.expect(302);
    assert_eq!(got.header("location"), Some("https://elsewhere.example/x"));
}

#[tokio::test]
async fn a_redirect_of_cv_parser_leads_back_to_the_gateway() {
    // As recorded: it redirects to its own address when the slash is missing.
    let (services, gateway) = Services::behind_a_gateway().await;
    let user = gateway.user("candidat").await;
    let internal = format!("{}/api/parse-cv/", services.cv_parser.url());
    services.cv_parser.on("/api/parse-cv/", Answer::bare(308).header("Location", &internal));
    let got = gateway.client.parse_cv(&user, b"x".to_vec()).await.expect(308);
    let location = got.header("location").unwrap_or_default();
    assert!(
        location.contains(&format!("{P}/parse-cv")) && !location.contains(&services.cv_parser.address().to_string()),
        "{location}"
    );
}

#[tokio::test]
async fn the_service_s_cors_is_replaced() {
    let (origin, gateway) = started().await;
    let own = Answer::json(200, json!({})).header("Access-Control-Allow-Origin", "*");
    origin.on("/echo", own.header("Access-Control-Allow-Methods", "PUT"));
    let got = send(gateway.client.request("GET", "/echo").header("origin", "http://localhost:3000")).await;
    assert_eq!(got.header("access-control-allow-origin"), Some("http://localhost:3000"));
    let got = send(gateway.client.request("GET", "/echo").header("origin", "https://evil.example")).await;
    assert_eq!(got.header("access-control-allow-origin"), None);
    assert_eq!(got.header("access-control-allow-methods"), None);
}

#[tokio::test]
async fn cookies_stay_apart() {
    let (origin, gateway) = started().await;
    let cookies = ["a=1; Expires=Sun, 22 Nov 2026 10:47:00 GMT", "b=2; Path=/", "c=3"];
    let answer =
        cookies.iter().fold(Answer::json(200, json!({})), |answer, cookie| answer.header("Set-Cookie", cookie));
    origin.on("/echo", answer);
    let got = gateway.client.get("/echo").await.expect(200);
    let seen: Vec<_> = got.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(seen, cookies);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).expect("gzip");
    text
}

#[tokio::test]
async fn compressed_bodies_stay_as_they_are_and_others_are_compressed_on_request() {
    let (origin, gateway) = started().await;
    let text = json!({"words": "encore ".repeat(1000)}).to_string().into_bytes();
    origin.on("/echo/gz", Answer::new(200, "application/json", gzip(&text)).header("Content-Encoding", "gzip"));
    origin.on("/echo/plain", Answer::new(200, "application/json", text.clone()));
    origin.on("/echo/small", Answer::new(200, "application/json", "{}"));
    origin.on("/echo/image", Answer::new(200, "image/png", text.clone()));
    let ask = |path: &'static str, accept: &'static str| {
        send(gateway.client.request("GET", path).header("accept-encoding", accept))
    };
    let got = ask("/echo/gz", "gzip").await.expect(200);
    assert_eq!((got.header("content-encoding"), got.body.to_vec()), (Some("gzip"), gzip(&text)));
    let got = ask("/echo/plain", "gzip").await.expect(200);
    assert_eq!((got.header("content-encoding"), gunzip(&got.body)), (Some("gzip"), text.clone()));
    assert!(got.varies_by("accept-encoding"), "{:?}", got.headers);
    assert!(got.body.len() < text.len());
    for (path, accept) in [("/echo/plain", "identity"), ("/echo/small", "gzip"), ("/echo/image", "gzip")] {
        assert_eq!(ask(path, accept).await.expect(200).header("content-encoding"), None, "{path} {accept}");
    }
    for (accept, coding) in [("br", "br"), ("zstd", "zstd")] {
        assert_eq!(ask("/echo/plain", accept).await.expect(200).header("content-encoding"), Some(coding));
    }
}

#[tokio::test]
async fn statuses_and_bodies_pass_unchanged() {
    let (origin, gateway) = started().await;
    for status in [200, 201, 202, 400, 401, 403, 404, 409, 418, 422, 429, 500, 501, 502, 503, 504] {
        let body = format!("<p>own words of a {status}</p>");
        origin.on("/echo", Answer::new(status, "text/html; charset=utf-8", body.clone()).header("X-Own", "yes"));
        let got = gateway.client.get("/echo").await;
        assert_eq!((got.status, got.text(), got.header("x-own")), (status, body, Some("yes")));
        // The breaker is not this test's matter: a success between keeps it closed.
        gateway.client.get("/echo/fine").await.expect(200);
    }
    for status in [204, 304] {
        origin.on("/echo", Answer::bare(status).header("ETag", "\"1\""));
        let got = gateway.client.get("/echo").await;
        assert_eq!((got.status, got.body.len(), got.header("etag")), (status, 0, Some("\"1\"")));
    }
    origin.on("/echo", Answer::new(200, "text/plain", "twelve bytes"));
    let got = send(gateway.client.request("HEAD", "/echo")).await.expect(200);
    assert_eq!(got.body.len(), 0);
    origin.on("/echo", Answer::chunked(&[b"in ", b"pieces"]));
    assert_eq!(gateway.client.get("/echo").await.text(), "in pieces");
}

#[tokio::test]
async fn half_an_answer_is_never_taken_for_a_whole_one() {
    let (origin, gateway) = started().await;
    origin.on("/echo", Answer::cut(1000, b"only this"));
    let got = crate::harness::try_send(gateway.client.request("GET", "/echo")).await;
    match got {
        Err(_) => {}
        Ok(got) => assert_eq!(got.refusal(), (502, "BAD_GATEWAY".to_owned())),
    }
    gateway.client.get("/echo/next").await.expect(200);
}

#[tokio::test]
async fn request_ids_are_kept_when_sound_and_made_otherwise() {
    let (origin, gateway) = started().await;
    for (sent, kept) in [
        ("abcdefgh", true),
        ("A.b-c_12", true),
        (&"x".repeat(128), true),
        ("short", false),
        (&"x".repeat(129), false),
        ("has space", false),
        ("<script>alert</script>", false),
    ] {
        let got = send(gateway.client.request("GET", "/echo").header("x-request-id", sent)).await.expect(200);
        let id = got.header("x-request-id").expect("an id").to_owned();
        assert_eq!(id == sent, kept, "{sent}");
        assert_eq!(origin.last().header("x-request-id"), Some(id.as_str()));
        let time = got.header("x-process-time").expect("X-Process-Time");
        assert!(time.parse::<f64>().is_ok() && time.split_once('.').is_some_and(|(_, part)| part.len() == 3), "{time}");
    }
}

#[tokio::test]
async fn traces_go_on_when_sound_and_begin_otherwise() {
    let (origin, gateway) = started().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let sound = format!("00-{trace}-b7ad6b7169203331-01");
    let seen = async |sent: &str| {
        send(gateway.client.request("GET", "/echo").header("traceparent", sent)).await.expect(200);
        origin.last().header("traceparent").expect("a traceparent").to_owned()
    };
    let forwarded = seen(&sound).await;
    let parts: Vec<&str> = forwarded.split('-').collect();
    assert_eq!((parts.len(), parts[0], parts[1]), (4, "00", trace));
    assert_ne!(parts[2], "b7ad6b7169203331", "a new span for this hop");
    for bad in [
        "",
        "00-x",
        &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
        &sound.to_uppercase(),
        &format!("ff{}", &sound[2..]),
    ] {
        let forwarded = seen(bad).await;
        let parts: Vec<&str> = forwarded.split('-').collect();
        assert_eq!((parts.len(), parts[1].len(), parts[2].len()), (4, 32, 16), "{bad}: {forwarded}");
        assert!(parts[1] != trace && parts[1] != "0".repeat(32), "{bad}: {forwarded}");
    }
}

#[tokio::test]
async fn what_was_matched_is_what_is_forwarded() {
    let (origin, gateway) = started().await;
    for (sent, forwarded) in [
        ("/echo/%61b%63", "/echo/abc"),
        ("/echo/caf%C3%A9?q=%2F..%2F&x=a+b", "/echo/caf%C3%A9?q=%2F..%2F&x=a+b"),
        ("/echo/a%20b", "/echo/a%20b"),
    ] {
        let mut raw = gateway.raw().await;
        raw.send(format!("GET {sent} HTTP/1.1\r\nHost: g\r\n\r\n").as_bytes()).await;
        assert_eq!(raw.response().await.expect("an answer").status(), 200, "{sent}");
        assert_eq!(origin.last().target, forwarded);
    }
    for unknown in ["/echoes", "/echo2", "/ech"] {
        gateway.client.get(unknown).await.expect(404);
    }
}
