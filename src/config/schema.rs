//! The JSON Schema of `routes.yaml`, made from the types, for editors and for `ssm-gateway schema`.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::spec::RoutesSpec;

/// The schema (JSON Schema 2020-12), indented, with a newline at its end.
pub fn schema() -> String {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<RoutesSpec>();
    RecursiveTransform(allow_substitution).transform(&mut schema);
    schema.insert("title".to_owned(), json!("routes.yaml of the SuperSmartMatch gateway"));
    format!("{:#}\n", schema.as_value())
}

/// `${NAME:-default}` may stand for a number or a truth value too.
fn allow_substitution(schema: &mut Schema) {
    let Some(map) = schema.as_object_mut() else { return };
    let kinds = match map.get("type") {
        Some(Value::String(kind)) => vec![kind.clone()],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect(),
        _ => return,
    };
    if kinds.iter().any(|kind| kind == "integer" || kind == "boolean") {
        let mut kinds = kinds;
        kinds.push("string".to_owned());
        map.insert("type".to_owned(), json!(kinds));
        map.insert("pattern".to_owned(), json!(r"\$\{"));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_is_the_one_of_the_types() {
        let committed = include_str!("../../conf/routes.schema.json");
        assert_eq!(committed, super::schema(), "run `ssm-gateway schema > conf/routes.schema.json`");
    }
}
