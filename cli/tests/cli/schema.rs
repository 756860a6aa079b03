// SPDX-License-Identifier: GPL-2.0-only
//! Checks JSON against the schemas in `schema/`.
//!
//! Knows the few keywords those use, and fails on any other, so that none is passed over in silence. The complete
//! validators there are would bring some fifty crates into the tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

/// Fails unless `document` is as `schema/NAME.json` says.
pub fn check(name: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{name}.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    if let Err(error) = validate(&schema, &schema, document, "$") {
        panic!("not as {name}.json says: {error}\n{document:#}");
    }
}

fn validate(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    // `false` is the schema that nothing matches.
    let Some(keywords) = schema.as_object() else {
        return Err(format!("{at} should not be there"));
    };
    for (keyword, rule) in keywords {
        let holds = match keyword.as_str() {
            "$schema" | "$comment" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                validate(root, root.pointer(pointer).unwrap(), value, at)?;
                true
            }
            "anyOf" => {
                let all = rule.as_array().unwrap().iter();
                let results: Vec<_> = all.map(|s| validate(root, s, value, at)).collect();
                if !results.iter().any(Result::is_ok) {
                    return Err(format!("{results:?}"));
                }
                true
            }
            "const" => rule == value,
            "enum" => rule.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|v| v >= rule.as_f64().unwrap()),
            "type" => match rule {
                Value::Array(types) => types.iter().any(|t| has_type(t, value)),
                one => has_type(one, value),
            },
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(root, rule, item, &format!("{at}[{n}]"))?;
                }
                true
            }
            "required" => {
                let missing = |name: &Value| value.get(name.as_str().unwrap()).is_none();
                !rule.as_array().unwrap().iter().any(missing)
            }
            "properties" | "additionalProperties" => {
                properties(root, keywords, value, at)?;
                true
            }
            other => panic!("the schema uses `{other}`, which this check does not know"),
        };
        if !holds {
            return Err(format!("{at} is {value}, against {keyword}: {rule}"));
        }
    }
    Ok(())
}

fn properties(
    root: &Value,
    keywords: &Map<String, Value>,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    for (name, member) in value.as_object().into_iter().flatten() {
        let own = keywords.get("properties").and_then(|p| p.get(name));
        if let Some(rule) = own.or_else(|| keywords.get("additionalProperties")) {
            validate(root, rule, member, &format!("{at}.{name}"))?;
        }
    }
    Ok(())
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no such type: {other}"),
    }
}

#[test]
fn schemas_tell_good_from_bad() {
    let error = |exit_code: u32, extra: &str| {
        let text = format!(
            r#"{{"version": 1, "error": {{"message": "m", "advice": [], "exit_code": {exit_code}{extra}}}}}"#
        );
        let document: Value = serde_json::from_str(&text).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/error.json");
        let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        validate(&schema, &schema, &document, "$")
    };
    assert_eq!(error(1, ""), Ok(()));
    assert!(error(0, "").is_err());
    assert!(error(1, r#", "more": 1"#).is_err());
}
