//! The document of a table like the shipped one. An independent validator (openapi-spec-validator) accepts it too.

use std::collections::BTreeSet;

use super::*;
use crate::api::tests::table;

fn made() -> (RoutesSpec, Value) {
    let spec = table();
    let document = document(&spec, &info());
    (spec, document)
}

fn info() -> GatewayInfo {
    GatewayInfo {
        name: "supersmartmatch-gateway".into(),
        version: "9.9.9".into(),
        environment: "testing".into(),
        debug: false,
        metrics_enabled: true,
    }
}

#[test]
fn every_route_and_method_is_there_once() {
    let (spec, document) = made();
    let mut ids = BTreeSet::new();
    let mut operations = 0;
    for route in &spec.routes {
        for method in &route.r#match.methods {
            let operation = &document["paths"][public_path(route)][method.to_ascii_lowercase()];
            assert!(operation.is_object(), "{} {method}", route.name);
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{}", route.name);
            operations += 1;
        }
    }
    assert_eq!(ids.len(), operations);
}

#[test]
fn access_is_told_by_security_and_refusals() {
    let (_, document) = made();
    let public = &document["paths"]["/api/gateway/status"]["get"];
    assert_eq!(public["security"], json!([]));
    assert!(public["responses"].get("401").is_none());
    let batch = &document["paths"]["/api/gateway/match/batch"]["post"];
    assert_eq!(batch["security"], json!([{ "bearerAuth": [] }]));
    for status in ["200", "400", "401", "403", "413", "429", "502", "503", "504"] {
        assert!(batch["responses"].get(status).is_some(), "{status}");
    }
    assert!(batch["description"].as_str().unwrap().contains("recruteur, admin"));
    let machines = &document["paths"]["/api/gateway/match"]["post"];
    assert_eq!(machines["security"], json!([{ "bearerAuth": [] }, { "apiKey": [] }]));
    assert!(machines["responses"].get("403").is_some());
    let scheme = &document["components"]["securitySchemes"]["apiKey"];
    assert_eq!(scheme, &json!({ "type": "apiKey", "in": "header", "name": "X-API-Key" }));
    let optional = &document["paths"]["/api/gateway/files/{rest}"]["get"];
    assert_eq!(optional["security"], json!([{}, { "bearerAuth": [] }]));
    assert!(optional["responses"].get("429").is_none());
}

#[test]
fn bodies_are_those_of_the_contract() {
    let (_, document) = made();
    let register = &document["paths"]["/api/gateway/auth/register"]["post"];
    let schema = &register["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["$ref"], "#/components/schemas/RegisterRequest");
    assert!(register["responses"].get("201").is_some());
    assert!(register["responses"].get("422").is_some());
    let upload = &document["paths"]["/api/gateway/parse-cv"]["post"];
    let form = &upload["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"];
    assert_eq!(form["file"]["format"], "binary");
    assert_eq!(form["extract_languages"]["type"], "boolean");
    assert!(upload["responses"].get("415").is_some());
    let matching = &document["paths"]["/api/gateway/match"]["post"]["requestBody"]["content"]["application/json"];
    assert_eq!(matching["schema"]["required"], json!(["candidate", "jobs"]));
    let path = &document["paths"]["/api/gateway/health/{service}"];
    assert_eq!(path["parameters"][0]["name"], "service");
    assert_eq!(path["parameters"][0]["schema"], json!({ "type": "string" }));
    let id = &document["paths"]["/api/gateway/admin/users/{id}"]["parameters"][0];
    assert_eq!(id["schema"], json!({ "type": "integer", "format": "int64" }));
    let sid = &document["paths"]["/api/gateway/auth/sessions/{sid}"]["parameters"][0];
    assert_eq!(sid["schema"], json!({ "type": "string", "format": "uuid" }));
}

#[test]
fn api_keys_are_made_listed_and_revoked() {
    let (_, document) = made();
    let all = &document["paths"]["/api/gateway/admin/api-keys"];
    let made = &all["post"]["responses"]["201"]["content"]["application/json"]["schema"];
    assert_eq!(made["$ref"], "#/components/schemas/ApiKeyCreated");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["ApiKeyRequest"]["required"], json!(["name", "user_id"]));
    let shown = schemas["ApiKeyCreated"].to_string();
    assert!(shown.contains("\"key\"") && !schemas["ApiKey"].to_string().contains("\"key\""), "{shown}");
    let parameters = all["get"]["parameters"].as_array().unwrap();
    assert_eq!(parameters.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["after", "limit"]);
    assert!(all["get"]["responses"].get("422").is_some());
    let one = &document["paths"]["/api/gateway/admin/api-keys/{id}"];
    assert_eq!(
        (&one["parameters"][0]["name"], &one["parameters"][0]["schema"]["type"]),
        (&json!("id"), &json!("integer"))
    );
    assert!(one["delete"]["responses"].get("404").is_some());
}

#[test]
fn every_reference_leads_somewhere() {
    let (_, document) = made();
    let text = document.to_string();
    for rest in text.split("#/components/schemas/").skip(1) {
        let name = rest.split('"').next().unwrap_or_default();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
}

#[test]
fn the_auth_schemas_are_those_of_its_types() {
    let (_, document) = made();
    let schemas = &document["components"]["schemas"];
    let register = &schemas["RegisterRequest"];
    assert_eq!(register["required"], json!(["email", "password", "full_name"]));
    assert_eq!(register["additionalProperties"], false);
    assert_eq!(register["properties"]["role"]["enum"], json!(["candidat", "recruteur"]));
    assert_eq!(schemas["TokenResponse"]["properties"]["user"]["$ref"], "#/components/schemas/User");
    assert_eq!(schemas["Account"]["properties"]["role"]["enum"], json!(["candidat", "recruteur", "admin"]));
    assert_eq!(schemas["Account"]["properties"]["created_at"]["format"], "date-time");
}

#[test]
fn pages_about_accounts_say_what_they_take_and_refuse() {
    let (_, document) = made();
    let at = |path: &str, method: &str| document["paths"][format!("/api/gateway{path}")][method].clone();
    let statuses = |operation: &Value| -> Vec<String> {
        operation["responses"].as_object().unwrap().keys().filter(|status| *status != "429").cloned().collect()
    };
    let body = |operation: &Value| operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].clone();
    let list = at("/auth/sessions", "get");
    assert_eq!(statuses(&list), ["200", "401", "403", "500", "503"]);
    assert_eq!(
        list["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/Sessions"
    );
    assert_eq!(statuses(&at("/auth/sessions/{sid}", "delete")), ["200", "401", "403", "404", "500", "503"]);
    let password = at("/auth/password", "post");
    assert_eq!(statuses(&password), ["200", "400", "401", "403", "413", "415", "422", "500", "503"]);
    assert_eq!(body(&password), "#/components/schemas/PasswordChangeRequest");
    let users = at("/admin/users", "get");
    assert_eq!(statuses(&users), ["200", "401", "403", "422", "500", "503"]);
    let names: Vec<&Value> = users["parameters"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["after", "limit"]);
    let (one, change) = (at("/admin/users/{id}", "get"), at("/admin/users/{id}", "patch"));
    assert_eq!(statuses(&one), ["200", "401", "403", "404", "500", "503"]);
    assert!(one.get("requestBody").is_none());
    assert_eq!(statuses(&change), ["200", "400", "401", "403", "404", "413", "415", "422", "500", "503"]);
    assert_eq!(
        (body(&change), &change["tags"]),
        (json!("#/components/schemas/AccessChangeRequest"), &json!(["admin"]))
    );
    let schemas = &document["components"]["schemas"];
    let change = &schemas["AccessChangeRequest"];
    assert!(change.get("required").is_none(), "{change}");
    assert_eq!((&change["additionalProperties"], &change["minProperties"]), (&json!(false), &json!(1)));
    assert_eq!(change["properties"]["is_active"]["type"], "boolean");
    assert_eq!(schemas["Sessions"]["properties"]["sessions"]["items"]["$ref"], "#/components/schemas/Session");
    assert_eq!(schemas["PasswordChangeRequest"]["required"], json!(["current_password", "new_password"]));
}

#[test]
fn limits_are_told_but_for_shadows() {
    let text = "version: 1\npools: { a: { targets: ['http://a:1'] } }\nlimits:\n  \
        plain: { by: user, rate: 5/h }\n  dear: { by: user, rate: 9/h, cost: 2, in_flight: 3 }\n  \
        once: { by: user, in_flight: 1 }\n  dark: { by: user, rate: 1/h, shadow: true }\nroutes:\n\
        - { name: all, match: { path: /x, methods: [GET] }, to: { pool: a }, limits: [plain, { policy: dear, cost: 4 }, once, dark] }\n\
        - { name: none, match: { path: /y, methods: [GET] }, to: { pool: a }, limits: [dark] }\n";
    let checked = crate::config::routes::parse("f", text, &crate::config::env::Env::default()).unwrap();
    let document = document(&checked.spec, &info());
    let (all, none) = (&document["paths"]["/x"]["get"], &document["paths"]["/y"]["get"]);
    let expected = "Limits: plain (5/h), dear (9/h, 4 tokens a request, 3 at once), once (1 at once).";
    assert_eq!((&all["description"], all["responses"].get("429").is_some()), (&json!(expected), true));
    assert_eq!((none.get("description"), none["responses"].get("429")), (None, None));
}
