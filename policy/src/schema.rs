// SPDX-License-Identifier: GPL-2.0-only
//! The JSON Schema of a policy, generated from the types. It is checked in, and this is built for the test that keeps it
//! up to date: `UPDATE_EXPECTED=1 cargo test -p iommuctl-policy` rewrites it.

use std::borrow::Cow;
use std::path::Path;

use schemars::transform::{transform_subschemas, Transform};
use schemars::{json_schema, JsonSchema, Schema, SchemaGenerator};

use crate::{AddressPattern, AnyOf, ClassFilter, Glob, Name, PciId, PolicyFile, Removable, SCHEMA};

/// The schema of one word.
pub trait WordSchema {
    fn schema() -> Schema;
}

macro_rules! text {
    ($type:ty, $pattern:expr) => {
        impl WordSchema for $type {
            fn schema() -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text!(AddressPattern, "^[0-9a-fA-F:.*?]+$");
text!(Glob, "^.+$");
text!(Name, "^[!-.0-~]+$");
text!(PciId, "^(0x)?[0-9a-fA-F]{1,4}$");

impl WordSchema for ClassFilter {
    fn schema() -> Schema {
        let hex = "^(0x)?([0-9a-fA-F]{2}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6})$";
        let names: Vec<&str> = crate::class::NAMES.iter().map(|(name, _)| *name).collect();
        json_schema!({ "anyOf": [{ "enum": names }, { "type": "string", "pattern": hex }] })
    }
}

impl WordSchema for Removable {
    fn schema() -> Schema {
        json_schema!({ "enum": ["removable", "fixed", "unknown"] })
    }
}

impl WordSchema for u32 {
    fn schema() -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
    }
}

impl<T: WordSchema> JsonSchema for AnyOf<T> {
    fn schema_name() -> Cow<'static, str> {
        "AnyOf".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = T::schema();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// Takes out `null`: a key may be left out, but not left empty.
#[derive(Clone)]
struct NoNull;

impl Transform for NoNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let any = schema.get_mut("anyOf").and_then(|a| a.as_array_mut());
        if let Some(any) = any {
            any.retain(|one| one["type"] != "null");
        }
        let types = schema.get_mut("type").and_then(|t| t.as_array_mut());
        if let Some(types) = types {
            types.retain(|one| one != "null");
        }
    }
}

#[test]
fn schema_is_that_of_the_types() {
    let settings = schemars::generate::SchemaSettings::default().with_transform(NoNull);
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<PolicyFile>();
    let licence = "SPDX-License-Identifier: GPL-2.0-only";
    schema.insert("$comment".to_owned(), licence.into());
    let generated = format!("{:#}\n", schema.as_value());
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/policy.json");
        std::fs::write(path, generated).unwrap();
        return;
    }
    assert!(
        generated == SCHEMA,
        "policy/schema/policy.json is not that of the types"
    );
}
