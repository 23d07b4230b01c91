//! Who may do what, over all routes.

use super::*;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Who {
    /// With the secret.
    Secret,
    /// With a wrong secret, of a proxied owner.
    Wrong,
    /// By the word of the proxy.
    Proxied(&'static str),
    /// By the word of somebody else.
    Forged(&'static str),
    Nobody,
}

/// Status of the refusal, if there is one: for what only looks, and for what changes something.
const CASES: &[(Who, Option<u16>, Option<u16>)] = &[
    (Who::Secret, None, None),
    (Who::Wrong, Some(401), Some(401)),
    (Who::Proxied("alice"), None, None),
    (Who::Proxied("mallory"), None, None),
    (Who::Proxied("bob"), None, Some(403)),
    (Who::Proxied("carol"), Some(403), Some(403)),
    (Who::Proxied("dr.who"), Some(403), Some(403)),
    // `staff` is a group on the list, and no user.
    (Who::Proxied("staff"), Some(403), Some(403)),
    (Who::Proxied("*"), Some(403), Some(403)),
    (Who::Proxied(""), Some(401), Some(401)),
    (Who::Forged("alice"), Some(401), Some(401)),
    (Who::Nobody, Some(401), Some(401)),
];

const VERBS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];

fn request(who: Who, method: &Method, path: &str) -> Request {
    let mut request = axum::http::Request::builder()
        .method(method.clone())
        .uri(path)
        .body(Body::empty())
        .unwrap();
    let headers = request.headers_mut();
    let mut peer = [10, 0, 0, 2];
    let mut cookie = |user: &str| {
        let value = format!("a=b; proxy-user={user}").parse().unwrap();
        headers.insert(header::COOKIE, value);
    };
    match who {
        Who::Secret => {
            let value = secret().to_bearer().parse().unwrap();
            headers.insert(header::AUTHORIZATION, value);
        }
        Who::Wrong => {
            cookie("alice");
            peer = PROXY;
            let wrong = Secret::from_bytes([8; 32]).to_bearer().parse().unwrap();
            headers.insert(header::AUTHORIZATION, wrong);
        }
        Who::Proxied(user) => {
            cookie(user);
            peer = PROXY;
        }
        Who::Forged(user) => cookie(user),
        Who::Nobody => {}
    }
    let peer = SocketAddr::from((peer, 5000));
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

// Nobody answers what TaskManagers are asked: that time passes at once.
#[tokio::test(start_paused = true)]
async fn who_may_do_what_at_every_path_with_every_verb() {
    let mut server = server();
    let job = job_id();
    let vertex = JobVertexId::of_uid("read");
    let mut paths: Vec<String> = routes::ROUTES
        .iter()
        .map(|route| {
            route
                .path
                .replace("{job}", &job.to_string())
                .replace("{vertex}", &vertex.to_string())
                .replace("{taskmanager}", "container_1")
                .replace("{subtask}", "0")
                .replace("{attempt}", "1")
        })
        .collect();
    paths.extend(["/nothing".to_owned(), "/v1/overview".to_owned()]);
    paths.push(format!("/v1/jobs/{job}/yarn-cancel"));
    for path in &paths {
        for method in &VERBS {
            let looks =
                [Method::GET, Method::HEAD].contains(method) && !path.ends_with("yarn-cancel");
            // A job cannot be handed in to a fixture that does not run.
            let submits = path == "/jobs" && [Method::PUT, Method::POST].contains(method);
            for (who, looking, changing) in CASES {
                let mut refused = if looks { *looking } else { *changing };
                if submits && refused.is_none() {
                    if [Who::Secret, Who::Proxied("alice")].contains(who) {
                        continue;
                    }
                    // No ACL lets anybody run a program in the owner's name.
                    refused = Some(403);
                }
                let (status, body) = server.send(request(*who, method, path)).await;
                let place = format!("{who:?} {method} {path}: {status} {body}");
                match refused {
                    Some(wanted) => assert_eq!(status.as_u16(), wanted, "{place}"),
                    None => assert!(![401, 403].contains(&status.as_u16()), "{place}"),
                }
                assert!(![204, 304].contains(&status.as_u16()), "{place}");
                if *method != Method::HEAD && !status.is_success() {
                    let body: Value = serde_json::from_str(&body).unwrap();
                    assert!(body["errors"][0].is_string(), "{place}");
                }
                let inputs = server.inputs();
                assert!(
                    refused.is_none() || inputs.is_empty(),
                    "{place}: {inputs:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_viewer_does_not_release_the_cluster() {
    let mut server = server();
    let path = format!("/jobs/{}/result?release=true", job_id());
    let (status, _) = server.proxied(Method::GET, &path, "bob", PROXY).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(server.inputs(), []);
    let (status, _) = server.proxied(Method::GET, &path, "mallory", PROXY).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(server.inputs(), [Input::ClientReleased]);
}

#[test]
fn an_acl_names_users_and_groups_apart() {
    let of = |text| Acl::parse(text);
    let users = |names: &[&str]| Acl::Users(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(of("*"), Acl::Everybody);
    assert_eq!(of(" * "), Acl::Everybody);
    assert_eq!(of(""), users(&[]));
    assert_eq!(of(" staff"), users(&[]), "groups alone");
    assert_eq!(of("bob,carol staff,ops"), users(&["bob", "carol"]));
    assert_eq!(of("bob").or(of("root")), users(&["bob", "root"]));
    assert_eq!(of("bob").or(of("*")), Acl::Everybody);
}
