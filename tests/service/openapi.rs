//! The description of the API at `/openapi.json`, compared with the service.

use crate::harness::{LOCK, Service};
use serde_json::{Value, json};

#[test]
fn the_description_and_the_service_have_the_same_paths_and_methods() {
    let service = Service::new();
    let description = service.get("/openapi.json").ok();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let mut known = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|name| *name != "parameters") {
            let at = path.replace("{id}", "no-such-lock").replace("{name}", "no-such-lock");
            let answer = service.call(&method.to_ascii_uppercase(), &at, "");
            assert!(answer.status != 405, "{method} {path}: {answer:?}");
            let responses = &methods[method]["responses"];
            assert!(
                responses.get(answer.status.to_string()).is_some(),
                "{method} {path}: {} is not in {responses}",
                answer.status
            );
            assert!(responses.get("400").is_some() && responses.get("405").is_some(), "{method} {path}: {responses}");
            assert_eq!(methods[method].get("requestBody").is_some(), responses.get("413").is_some(), "{method} {path}");
            known.push(format!("{method} {path}"));
        }
        let answer = service.call("PATCH", &path.replace("{id}", "no-such-lock").replace("{name}", "no-such-lock"), "");
        answer.expect_refusal(405, 12);
        assert!(answer.headers.contains("allow: "), "{path}: {answer:?}");
    }
    for expected in [
        "post /api/v1alpha1/lock",
        "get /api/v1alpha1/lock/{id}",
        "put /api/v1alpha1/lock/{id}",
        "delete /api/v1alpha1/lock/{id}",
        "put /api/v1alpha1/lock/{id}/renew",
        "get /api/v1alpha1/unlock/{id}",
        "post /api/v1alpha1/unlock/{id}",
        "get /api/v1alpha1/locks/list",
        "get /api/v1alpha1/locks/history",
        "get /api/v1alpha1/locks/events",
        "put /terraform/{name}",
        "post /terraform/{name}",
        "delete /terraform/{name}",
        "get /healthz",
        "get /livez",
        "get /metrics",
    ] {
        assert!(known.iter().any(|one| one == expected), "{expected} is not in {known:?}");
    }
    // Every reference can be resolved.
    let text = description.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(description.pointer(reference).is_some(), "{reference}");
    }
}

/// Collects the schemas in a part of the description, each with its place.
fn collect_schemas<'a>(place: &str, part: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match part {
        Value::Object(members) => {
            if members.contains_key("type") {
                found.push((place.to_owned(), part));
            }
            members.iter().for_each(|(name, part)| collect_schemas(&format!("{place}/{name}"), part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect_schemas(place, part, found)),
        _ => (),
    }
}

#[test]
fn the_limits_in_the_description_are_those_of_the_service() {
    let service = Service::new();
    let description = service.get("/openapi.json").ok();
    let mut found = Vec::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().values() {
            for part in ["parameters", "requestBody"] {
                collect_schemas(path, &method[part], &mut found);
            }
        }
    }
    collect_schemas("/components", &description["components"]["schemas"]["Lock"], &mut found);
    assert!(found.len() > 20);
    for (place, schema) in found {
        let is = |name| schema["type"] == name || schema["type"][0] == name;
        if is("integer") || is("number") {
            assert!(schema.get("minimum").is_some() && schema.get("maximum").is_some(), "{place}: {schema}");
        }
        if is("string") && schema.get("format").is_none() && !place.starts_with("/components/properties/ttl") {
            assert!(schema.get("maxLength").is_some(), "{place}: {schema}");
        }
    }
    // The service has the same limits.
    let create = &description["paths"][LOCK]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let max = create["properties"]["ttl"]["oneOf"][1]["maximum"].as_u64().unwrap();
    assert_eq!(service.request("max", "ann", &format!(r#""ttl":{max}"#)).status, 200);
    service.request("more", "ann", &format!(r#""ttl":{}"#, max + 1)).expect_refusal(400, 3);
    for (name, schema) in create["properties"].as_object().unwrap() {
        let may_be_null = schema["type"][1] == "null" || schema["oneOf"][2]["type"] == "null";
        let mut body = json!({"service": "null", "who": "ann", "resource": name});
        body[name] = Value::Null;
        assert_eq!(service.call("POST", LOCK, &body.to_string()).status == 200, may_be_null, "{name}");
    }
}

#[test]
fn the_service_accepts_the_requests_that_the_description_allows() {
    let service = Service::new();
    let description = service.get("/openapi.json").ok();
    let create = &description["paths"][LOCK]["post"]["requestBody"]["content"]["application/json"]["schema"];
    // A mode and slots exclude each other, unless one has the meaning of no value.
    let not = &create["not"];
    assert_eq!(not["required"], json!(["mode", "slots"]));
    assert_eq!(not["properties"]["mode"]["enum"], json!(["shared", "exclusive"]));
    assert_eq!(not["properties"]["slots"]["not"]["type"], "null");
    for (resource, more, status) in [
        ("a", r#""mode":"shared","slots":2"#, 400),
        ("a", r#""mode":"exclusive","slots":1"#, 400),
        ("b", r#""mode":"","slots":2"#, 200),
        ("c", r#""mode":null,"slots":2"#, 200),
        ("d", r#""mode":"shared","slots":null"#, 200),
        // A schema takes 3.0 for an integer.
        ("e", r#""slots":3.0"#, 200),
        ("f", r#""slots":3.5"#, 400),
        ("f", r#""slots":0.0"#, 400),
        ("f", r#""slots":1e3"#, 200),
        ("g", r#""slots":1e30"#, 400),
        ("g", r#""slots":-1.0"#, 400),
        // A span above zero has at least one millisecond.
        ("h", r#""ttl":0.001"#, 200),
        ("i", r#""ttl":0.0"#, 200),
        ("j", r#""ttl":0.0009"#, 400),
        ("j", r#""wait":5e-324"#, 400),
    ] {
        assert_eq!(service.request(resource, "ann", more).status, status, "{more}");
    }
    for span in ["ttl", "wait"] {
        let number = &create["properties"][span]["oneOf"][1]["not"];
        assert_eq!(number, &json!({"exclusiveMinimum": 0, "exclusiveMaximum": 0.001}), "{span}");
    }
    // All time spans have one pattern. Its largest and its smallest spans are within the limits of the service.
    let mut patterns = Vec::new();
    let mut found = Vec::new();
    collect_schemas("", &description["paths"], &mut found);
    for (place, schema) in found {
        let Some(pattern) = schema["pattern"].as_str().filter(|pattern| pattern.contains("ms$")) else { continue };
        assert_eq!(schema["maxLength"], 47, "{place}");
        patterns.push(pattern);
    }
    let part = |digits: u32, unit: &str| format!(r"([0-9]{{1,{digits}}}(\.[0-9]{{1,3}})?{unit})?");
    let parts = [(2, "w"), (3, "d"), (4, "h"), (6, "m"), (7, "s")].map(|(digits, unit)| part(digits, unit)).concat();
    let pattern = format!(r"^{parts}$|^[0-9]{{1,8}}(\.[0-9]{{1,3}})?$|^[0-9]{{1,8}}ms$");
    assert!(patterns.len() >= 7 && patterns.iter().all(|one| *one == pattern), "{patterns:?}");
    let spans = [
        "",
        "0",
        "0ms",
        "0w0.001s",
        "0.001",
        "1ms",
        "99999999ms",
        "99999999.999",
        "99.999w999.999d9999.999h999999.999m9999999.999s",
        "1h30m",
    ];
    for (number, span) in spans.iter().enumerate() {
        assert!(span.len() <= 47, "{span}");
        assert_eq!(service.request(&format!("r{number}"), "ann", &format!(r#""ttl":"{span}""#)).status, 200, "{span}");
        let at = format!("/terraform/state-{number}?ttl={span}&wait={span}");
        assert_eq!(service.call("PUT", &at, r#"{"ID":"7"}"#).status, 200, "{span}");
    }
}
