//! Every route, as the OpenAPI document tells of it.

use std::io::Write;

use super::*;

/// A path with what the fixture has for its parameters.
fn filled(path: &str) -> String {
    path.replace("{job}", &job_id().to_string())
        .replace("{vertex}", &JobVertexId::of_uid("read").to_string())
        .replace("{subtask}", "0")
        .replace("{attempt}", "1")
        .replace("{taskmanager}", "container_1")
        .replace("{checkpoint}", "7")
        .replace("{request}", "00000000000000000000000000000009")
        .replace("{file}", "jobmanager.log")
}

fn check(schema: &Value, value: &Value, place: &str) {
    if schema.get("nullable") == Some(&json!(true)) && value.is_null() {
        return;
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => panic!("{place}: the schema {schema} has no type"),
    };
    assert!(fits, "{place}: {value} is not {schema}");
    for field in schema["required"].as_array().into_iter().flatten() {
        let field = field.as_str().unwrap();
        let found = value.get(field);
        let found = found.unwrap_or_else(|| panic!("{place}: there is no {field} in {value}"));
        check(
            &schema["properties"][field],
            found,
            &format!("{place}.{field}"),
        );
    }
    if let Some(items) = schema
        .get("items")
        .filter(|items| items.get("type").is_some())
    {
        for item in value.as_array().unwrap() {
            check(items, item, place);
        }
    }
}

fn logs() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["jobmanager.log", "stdout"] {
        let mut file = std::fs::File::create(directory.path().join(name)).unwrap();
        writeln!(file, "a line of {name}").unwrap();
    }
    directory
}

fn server_with(logs: &tempfile::TempDir) -> Server {
    let (driver, handle) = ClusterDriver::new(Fixture(view()), Clock::fixed(EPOCH));
    let mut config = config(true);
    config.log_directory = Some(logs.path().to_owned());
    config.configuration = vec![
        ("taskmanager.numberOfTaskSlots".to_owned(), "2".to_owned()),
        ("my.password".to_owned(), "hunter2".to_owned()),
    ];
    let router = router(handle, config);
    Server {
        driver,
        router,
        logs: Some(logs.path().to_owned()),
    }
}

// The fixture takes no request for a snapshot, so the time that it may take passes.
#[tokio::test(start_paused = true)]
async fn every_route_answers_as_the_document_says() {
    let logs = logs();
    let (server, _running) = super::inquiries::answered(server_with(&logs)).await;
    let document = server.get("/openapi.json").await;
    let errors = &document["components"]["schemas"]["Errors"];
    let mut walked = 0;
    let mut disposal = String::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            walked += 1;
            if (verb.as_str(), path.as_str()) == ("post", "/jobs")
                || (verb.as_str(), path.as_str()) == ("put", "/jobs")
            {
                continue; // They need a body and a cluster that runs: the tests of submissions.
            }
            let uri = if path == "/savepoint-disposal/{request}" {
                path.replace("{request}", &disposal)
            } else {
                filled(path)
            };
            let body = match path.as_str() {
                "/savepoint-disposal" => r#"{"savepoint-path":"file:///nowhere"}"#,
                _ => "",
            };
            let request = axum::http::Request::builder()
                .method(verb.to_ascii_uppercase().as_str())
                .uri(uri)
                .header(header::AUTHORIZATION, secret().to_bearer())
                .body(Body::from(body))
                .unwrap();
            let response = server.router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16().to_string();
            let place = format!("{verb} {path}");
            let told = operation["responses"].get(&status);
            let told = told.unwrap_or_else(|| panic!("{place}: {status} is not told of"));
            assert_eq!(
                told["description"], operation["summary"],
                "{place}: {status}"
            );
            let (kind, content) = told["content"].as_object().unwrap().iter().next().unwrap();
            let given = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
            assert!(given.starts_with(kind.as_str()), "{place}: {given}");
            let body = axum::body::to_bytes(response.into_body(), 1 << 20)
                .await
                .unwrap();
            assert!(!body.is_empty(), "{place}: YARN's proxy needs a body");
            if kind == "application/json" {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let schema = &content["schema"];
                let schema = if schema.get("$ref").is_some() {
                    errors
                } else {
                    schema
                };
                check(schema, &body, &place);
                if path == "/savepoint-disposal" {
                    disposal = body["request-id"].as_str().unwrap().to_owned();
                }
            }
        }
    }
    assert_eq!(
        walked,
        routes::ROUTES.len(),
        "each route is in the document"
    );
}

#[tokio::test]
async fn every_path_is_there_with_its_version_too() {
    let logs = logs();
    let server = server_with(&logs);
    for route in routes::ROUTES.iter().filter(|route| route.path != "/") {
        let path = filled(route.path);
        // A verb that no path has shows whether the path is there.
        let (status, _) = server.ask(Method::TRACE, &format!("/v1{path}")).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
    let (status, _) = server.ask(Method::GET, "/v2/overview").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_vertex_is_shown_in_flinks_words() {
    let server = server();
    let vertex = JobVertexId::of_uid("read");
    let base = format!("/jobs/{}/vertices/{vertex}", job_id());
    let body = server.get(&format!("{base}/subtasktimes")).await;
    let one = &body["subtasks"][0];
    assert_eq!(
        (&one["endpoint"], &one["duration"]),
        (&json!("n1"), &json!(2000))
    );
    assert_eq!(one["timestamps"]["FINISHED"], EPOCH + 5000);
    assert_eq!(one["timestamps"]["RUNNING"], 0);
    let body = server.get(&format!("{base}/taskmanagers")).await;
    let one = &body["taskmanagers"][0];
    assert_eq!(one["taskmanager-id"], "container_1");
    assert_eq!(one["status-counts"]["FINISHED"], 1);
    assert_eq!(one["metrics"]["read-records"], 2000);
    assert_eq!(body["taskmanagers"].as_array().unwrap().len(), 1);
    let body = server.get(&format!("{base}/backpressure")).await;
    assert_eq!(
        (
            &body["status"],
            &body["backpressureLevel"],
            &body["subtasks"]
        ),
        (&json!("deprecated"), &Value::Null, &json!([])),
        "no numbers where none were measured"
    );
    let body = server.get(&format!("{base}/watermarks")).await;
    assert_eq!(body, json!([]), "no task has one");
    let body = server.get(&format!("{base}/subtasks/1/attempts/1")).await;
    assert_eq!((&body["subtask"], &body["attempt"]), (&json!(1), &json!(1)));
    for (path, wanted) in [
        ("subtasks/2", StatusCode::NOT_FOUND),
        ("subtasks/x", StatusCode::BAD_REQUEST),
        ("subtasks/0/attempts/0", StatusCode::NOT_FOUND),
        ("subtasks/metrics?subtasks=0-", StatusCode::BAD_REQUEST),
        (
            "subtasks/metrics?subtasks=0-4294967295",
            StatusCode::BAD_REQUEST,
        ),
        ("subtasks/metrics?agg=median", StatusCode::BAD_REQUEST),
        ("subtasks/metrics?get=a&get=b", StatusCode::BAD_REQUEST),
        ("%FF", StatusCode::NOT_FOUND),
        ("subtasks/%FF", StatusCode::BAD_REQUEST),
    ] {
        let (status, body) = server.ask(Method::GET, &format!("{base}/{path}")).await;
        assert_eq!(status, wanted, "{path}: {body}");
        assert!(body["errors"][0].is_string());
    }
}

#[tokio::test]
async fn metrics_are_told_by_name_and_aggregated() {
    let server = server();
    let vertex = JobVertexId::of_uid("read");
    let base = format!("/jobs/{}/vertices/{vertex}", job_id());
    let names = server.get(&format!("{base}/metrics")).await;
    assert!(
        names
            .as_array()
            .unwrap()
            .contains(&json!({"id": "1.numRecordsIn"}))
    );
    let body = server
        .get(&format!("{base}/metrics?get=1.numRecordsIn,nothing"))
        .await;
    assert_eq!(body, json!([{"id": "1.numRecordsIn", "value": "1000"}]));
    let body = server
        .get(&format!("{base}/subtasks/metrics?get=numRecordsIn"))
        .await;
    let all = json!({"id": "numRecordsIn", "min": 1000.0, "max": 1000.0, "avg": 1000.0, "sum": 2000.0, "skew": 0.0});
    assert_eq!(body, json!([all]));
    let path = format!("{base}/subtasks/metrics?get=numRecordsIn&agg=sum&subtasks=1");
    assert_eq!(
        server.get(&path).await,
        json!([{"id": "numRecordsIn", "sum": 1000.0}])
    );
    let body = server
        .get("/jobs/metrics?get=numRestarts&agg=max,min")
        .await;
    assert_eq!(body, json!([{"id": "numRestarts", "max": 2.0, "min": 2.0}]));
    let body = server
        .get("/taskmanagers/metrics?get=taskSlotsTotal&agg=sum&taskmanagers=x")
        .await;
    assert_eq!(body, json!([]));
    let path = format!("/jobs/{}/metrics?get=uptime", job_id());
    assert_eq!(
        server.get(&path).await,
        json!([{"id": "uptime", "value": "-1"}])
    );
    let body = server.get("/jobmanager/metrics?get=numRunningJobs").await;
    assert_eq!(body, json!([{"id": "numRunningJobs", "value": "0"}]));
}

#[tokio::test]
async fn a_result_is_told_as_flinks_client_waits_for_it() {
    let server = server();
    let id = job_id();
    let body = server.get(&format!("/jobs/{id}/execution-result")).await;
    assert_eq!(body["status"]["id"], "COMPLETED");
    let result = &body["job-execution-result"];
    assert_eq!(result["application-status"], "FAILED");
    assert_eq!(result["net-runtime"], 4000);
    assert_eq!(result["failure-cause"]["class"], "panicked at <main>");
}

#[tokio::test]
async fn a_log_is_shown_and_nothing_beside_it() {
    let logs = logs();
    let server = server_with(&logs);
    std::os::unix::fs::symlink("/etc/passwd", logs.path().join("link")).unwrap();
    std::fs::create_dir(logs.path().join("inside")).unwrap();
    std::fs::write(logs.path().join("inside/file"), "deep").unwrap();
    let body = server.get("/jobmanager/logs").await;
    let names: Vec<&Value> = body["logs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|log| &log["name"])
        .collect();
    assert_eq!(
        names,
        ["jobmanager.log", "stdout"],
        "no links, no directories"
    );
    assert_eq!(body["logs"][0]["size"], 25);
    let show = async |path: String| {
        let request = axum::http::Request::builder()
            .uri(path)
            .header(header::AUTHORIZATION, secret().to_bearer());
        server.send(request.body(Body::empty()).unwrap()).await
    };
    for path in ["/jobmanager/log", "/jobmanager/logs/jobmanager.log"] {
        let shown = show(path.to_owned()).await;
        assert_eq!(
            shown,
            (StatusCode::OK, "a line of jobmanager.log\n".to_owned())
        );
    }
    for name in [
        "link",
        "inside",
        "inside%2Ffile",
        "..",
        ".",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%2fspindle-rest-outside",
        "%2Fetc%2Fpasswd",
        "jobmanager.log%00",
        "../../etc/passwd",
        "%FF",
        "",
    ] {
        let (status, body) = show(format!("/jobmanager/logs/{name}")).await;
        assert!(status.is_client_error(), "{name}: {status} {body}");
        assert!(body.starts_with("{\"errors\":[\""), "{name}: {body}");
    }
    let config = server.get("/jobmanager/config").await;
    assert_eq!(
        config,
        json!([
            {"key": "taskmanager.numberOfTaskSlots", "value": "2"},
            {"key": "my.password", "value": "******"},
        ])
    );
}

#[tokio::test]
async fn the_page_lists_jobs_what_they_wait_for_and_why_they_failed() {
    let mut view = view();
    let mut waiting = JobView::clone(&view.jobs[&job_id()]);
    waiting.status = JobStatus::Created;
    waiting.cause = None;
    waiting.ended = None;
    Arc::make_mut(&mut waiting.graph).name = "behind".to_owned();
    waiting.waiting_for = Some("2 slots <of> 3".to_owned());
    let other = JobId::from_bytes([2; 16]);
    view.jobs.insert(other, Arc::new(waiting));
    let (_driver, handle) = ClusterDriver::new(Fixture(view), Clock::fixed(EPOCH));
    let router = router(handle, config(true));
    let driver = ClusterDriver::new(Fixture(View::default()), Clock::fixed(EPOCH)).0;
    let server = Server {
        driver,
        router,
        logs: None,
    };
    let (_, page) = server.proxied(Method::GET, "/", "bob", PROXY).await;
    assert!(page.contains("Waits for 2 slots &lt;of&gt; 3."), "{page}");
    let rows: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("<tr><td><a href=\"jobs/"))
        .collect();
    assert!(
        rows[0].contains(&format!("\"jobs/{other}\">behind")),
        "what runs comes first"
    );
    assert!(rows[0].contains("2 slots"));
    assert!(rows[1].contains("panicked at &lt;main&gt;"));
    for link in page
        .split("href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
    {
        if link == "/proxy/application_1_0001/" {
            continue; // The base of the others.
        }
        assert!(
            !link.starts_with('/') && !link.contains(':'),
            "{link} is not relative"
        );
        let request = axum::http::Request::builder()
            .uri(format!("/{link}"))
            .header(header::AUTHORIZATION, secret().to_bearer());
        let (status, body) = server.send(request.body(Body::empty()).unwrap()).await;
        let shown = status == StatusCode::OK || link == "jobmanager/logs";
        assert!(shown, "{link}: {status} {body}");
    }
    assert_eq!(
        server.get(&format!("/jobs/{other}")).await["waiting-for"],
        "2 slots <of> 3"
    );
}
