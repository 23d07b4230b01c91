//! The OpenAPI document, made from the table of routes.

use serde_json::{Map, Value, json};

use super::access::Right;
use super::routes::{Answer, ROUTES, Route, VERSION};
use super::submission::PROTOBUF;

/// One field of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// As in JSON Schema.
    pub(super) kind: &'static str,
    pub(super) nullable: bool,
}

/// The fields that a table entry names.
pub(super) fn fields(text: &'static str) -> impl Iterator<Item = Field> {
    text.split_whitespace().map(|field| {
        let (name, kind) = field.split_once(':').unwrap_or((field, "string"));
        Field {
            name,
            kind: kind.trim_end_matches('?'),
            nullable: kind.ends_with('?'),
        }
    })
}

/// The document, OpenAPI 3.0.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let verb = route.method.as_str().to_ascii_lowercase();
        let item = paths
            .entry(route.path)
            .or_insert_with(|| Value::Object(Map::new()));
        item[verb] = operation(route);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Spindle: REST API",
            "description": "Paths, verbs and fields are those of Flink's monitoring API; each path is also there with /v1 before it.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "servers": [{"url": "."}, {"url": format!(".{VERSION}")}],
        "security": [{"secret": []}, {"proxy": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "secret": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The application's secret, which is in its staging directory.",
                },
                "proxy": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "proxy-user",
                    "description": "Set by YARN's web proxy, and taken from its addresses only.",
                },
            },
            "schemas": {"Errors": object([Field { name: "errors", kind: "array", nullable: false }])},
        },
    })
}

fn operation(route: &Route) -> Value {
    let error = |text: &str| {
        let schema = json!({"$ref": "#/components/schemas/Errors"});
        json!({"description": text, "content": {"application/json": {"schema": schema}}})
    };
    let mut responses = Map::from_iter([
        ("401".to_owned(), error("It is not known who asks.")),
        ("403".to_owned(), error("Who asks may not do this.")),
    ]);
    if route.path.contains('{') {
        responses.insert("404".to_owned(), error("There is no such thing here."));
    }
    let kind = |name: &str, schema: Value| json!({name: {"schema": schema}});
    let content = match route.answer {
        Answer::Html => kind("text/html", json!({"type": "string"})),
        Answer::Text => kind("text/plain", json!({"type": "string"})),
        Answer::Object(text) => kind("application/json", object(fields(text))),
        Answer::List(text) => {
            let items = object(fields(text));
            kind("application/json", json!({"type": "array", "items": items}))
        }
        Answer::Nothing => kind(
            "application/json",
            json!({"$ref": "#/components/schemas/Errors"}),
        ),
    };
    responses.insert(
        route.status.to_string(),
        json!({"description": route.summary, "content": content}),
    );
    let mut operation = json!({
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses,
        "x-right": match route.right {
            Right::View => "view",
            Right::Modify => "modify",
            Right::Run => "run",
        },
    });
    let body = match (route.method.as_str(), route.path) {
        ("POST", "/jobs") => Some(kind(
            PROTOBUF,
            json!({"type": "string", "format": "binary"}),
        )),
        ("PUT", "/jobs") => Some(kind(
            "application/json",
            object([Field {
                name: "submission",
                kind: "string",
                nullable: false,
            }]),
        )),
        ("POST" | "PUT", "/savepoint-disposal") => Some(kind(
            "application/json",
            object([field("savepoint-path", "string")]),
        )),
        ("POST" | "PUT", "/jobs/{job}/savepoints") => Some(kind(
            "application/json",
            choices([field("target-directory", "string")]),
        )),
        ("POST" | "PUT", "/jobs/{job}/stop") => Some(kind(
            "application/json",
            choices([
                field("targetDirectory", "string"),
                field("drain", "boolean"),
            ]),
        )),
        _ => None,
    };
    if let Some(body) = body {
        let required = !route.path.starts_with("/jobs/");
        operation["requestBody"] = json!({"required": required, "content": body});
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let text = json!({"type": "string"});
    let of_path = route.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({"name": name, "in": "path", "required": true, "schema": text}))
    });
    let aggregated = ["/jobs/metrics", "/taskmanagers/metrics"].contains(&route.path)
        || route.path.ends_with("/subtasks/metrics");
    let of_query: &[&str] = match route.path {
        "/jobs/metrics" => &["get", "agg", "jobs"],
        "/taskmanagers/metrics" => &["get", "agg", "taskmanagers"],
        _ if aggregated => &["get", "agg", "subtasks"],
        path if path.ends_with("/metrics") => &["get"],
        "/jobs/{job}/collected" | "/jobs/{job}/result" => &["release"],
        "/jobs/{job}" if route.right == Right::Modify => &["mode"],
        _ => &[],
    };
    let of_query = of_query
        .iter()
        .map(|name| json!({"name": name, "in": "query", "required": false, "schema": text}));
    of_path.chain(of_query).collect()
}

const fn field(name: &'static str, kind: &'static str) -> Field {
    Field {
        name,
        kind,
        nullable: false,
    }
}

/// An object of which nothing need be there.
fn choices(fields: impl IntoIterator<Item = Field>) -> Value {
    let mut choices = object(fields);
    if let Some(choices) = choices.as_object_mut() {
        choices.remove("required");
    }
    choices
}

fn object(fields: impl IntoIterator<Item = Field>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut schema = json!({"type": field.kind});
        if field.kind == "array" {
            schema["items"] = json!({});
        }
        if field.nullable {
            schema["nullable"] = json!(true);
        }
        properties.insert(field.name.to_owned(), schema);
        required.push(field.name);
    }
    let mut object = json!({"type": "object", "properties": properties});
    // OpenAPI 3.0 allows no empty list here.
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}
