//! `openapi.json`, read the way a client would.

use std::sync::LazyLock;

use serde_json::Value;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../openapi.json")).expect("openapi.json is JSON")
});

/// The whole document.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Every (method, path) with its operation.
pub fn operations() -> Vec<(String, String, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("paths");
    let mut list = Vec::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            if method != "parameters" {
                list.push((method.to_uppercase(), path.clone(), operation));
            }
        }
    }
    list
}

/// What a schema refers to, or the schema itself.
pub fn resolved(schema: &'static Value) -> &'static Value {
    match schema["$ref"].as_str() {
        Some(reference) => resolved(DOCUMENT.pointer(&reference[1..]).expect("a schema")),
        None => schema,
    }
}

/// Whether a field of this schema may be null.
pub fn may_be_null(schema: &'static Value) -> bool {
    let schema = resolved(schema);
    let is_null = |found: &Value| found == "null";
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()).flatten();
    let takes_anything = schema["type"].is_null() && alternatives.clone().next().is_none();
    is_null(&schema["type"])
        || schema["type"].as_array().is_some_and(|types| types.iter().any(is_null))
        || alternatives.into_iter().any(may_be_null)
        || takes_anything
}

/// Fails unless this answer is one the document describes. Paths and methods that are no route are described in words.
pub fn check_answer(method: &str, target: &str, status: u16, media_type: Option<&str>) {
    let path = target.split('?').next().unwrap_or_default();
    let method = if method == "HEAD" { "GET" } else { method };
    // A path that is written out goes before one with a parameter, as in the router.
    let is_written_out = operations().iter().any(|(_, p, _)| p == path);
    let fits = |p: &str| if is_written_out { p == path } else { matches(p, path) };
    let known = operations().into_iter().find(|(m, p, _)| m == method && fits(p));
    let Some((_, template, operation)) = known else {
        assert!(matches!(status, 400 | 403 | 404 | 405 | 431), "{method} {path}: {status}");
        return;
    };
    let answer = &operation["responses"][status.to_string()];
    assert!(answer.is_object(), "{method} {template} answers {status}, which is not described");
    let described = answer["content"].as_object();
    match (media_type, described) {
        (None, None) => {}
        (Some(found), Some(described)) => {
            let found = found.split(';').next().unwrap_or_default();
            assert!(described.contains_key(found), "{method} {template} {status}: {found}");
        }
        other => panic!("{method} {template} {status}: {other:?}"),
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (left, right): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    left.len() == right.len() && left.iter().zip(right).all(|(l, r)| l.starts_with('{') || *l == r)
}
