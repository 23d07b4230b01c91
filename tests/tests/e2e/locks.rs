//! Who may do what through YARN's web proxy, with a plain HTTP client and no token.

use spindle_tests::hadoop::OwnHadoop;
use spindle_tests::spindle::{run, spindle};

const NO_JOB: &str = "00000000000000000000000000000001";

/// The status that a request through the proxy gets, as this user.
fn ask(hadoop: &OwnHadoop, application: &str, user: Option<&str>, verb: &str, path: &str) -> u16 {
    let user = user.map_or_else(String::new, |user| format!("?user.name={user}"));
    let url = format!("{}/proxy/{application}{path}{user}", hadoop.web());
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let answer = match verb {
        "GET" => agent.get(&url).call(),
        "PUT" => agent.put(&url).send_json(serde_json::json!({})),
        "POST" => agent.post(&url).send_json(serde_json::json!({})),
        "DELETE" => agent.delete(&url).call(),
        other => panic!("no verb {other}"),
    };
    answer.expect("the proxy answers").status().as_u16()
}

#[test]
fn through_the_web_proxy_everybody_may_do_what_the_acls_say_and_nothing_else() {
    let hadoop = OwnHadoop::up(&["yarn.acl.enable=true", "yarn.admin.acl=dave"]);
    hadoop.fs(&["-mkdir", "-p", "/user/alice"]);
    hadoop.fs(&["-chown", "alice", "/user/alice"]);
    let as_alice = |arguments: &[&str]| {
        let mut command = spindle(&hadoop.conf_dir());
        command.env("HADOOP_USER_NAME", "alice").args(arguments);
        run(&mut command)
    };
    let started = as_alice(&[
        "session",
        "start",
        "-d",
        "-D",
        "yarn.view.acls=bob",
        "-D",
        "yarn.modify.acls=carol",
    ]);
    assert_eq!(started.code, 0, "{}", started.stderr);
    let words = started.stdout.split_whitespace();
    let application = words
        .into_iter()
        .find(|word| word.starts_with("application_"))
        .expect("the application's id is printed")
        .to_owned();

    let cancel = format!("/jobs/{NO_JOB}/cancel");
    // Whoever may is told that there is no such job; whoever may not is not told even that.
    for (user, verb, path, expected) in [
        (Some("alice"), "GET", "/overview", 200),
        (Some("alice"), "GET", "/", 200),
        (Some("alice"), "PUT", &*cancel, 404),
        (Some("bob"), "GET", "/overview", 200),
        (Some("bob"), "GET", "/jobs", 200),
        (Some("bob"), "PUT", &*cancel, 403),
        (Some("bob"), "PUT", "/cluster/stop", 403),
        (Some("carol"), "PUT", &*cancel, 404),
        (Some("dave"), "GET", "/overview", 200),
        (Some("dave"), "PUT", &*cancel, 404),
        (Some("eve"), "GET", "/overview", 403),
        (Some("eve"), "GET", "/", 403),
        (Some("eve"), "GET", "/openapi.json", 403),
        (Some("eve"), "GET", "/no/such/path", 403),
        (Some("eve"), "PUT", &*cancel, 403),
        (Some("eve"), "PUT", "/cluster/stop", 403),
        (None, "GET", "/overview", 403),
        (None, "PUT", "/cluster/stop", 403),
        (Some("alice"), "POST", "/jobs", 405),
        (Some("alice"), "DELETE", "/cluster", 405),
    ] {
        let status = ask(&hadoop, &application, user, verb, path);
        assert_eq!(status, expected, "{verb} {path} as {user:?}");
    }
    // An admin who has only the ResourceManager's address ends the session.
    assert_eq!(
        ask(&hadoop, &application, Some("dave"), "PUT", "/cluster/stop"),
        202
    );
    let app = hadoop.wait_app(&application, super::LIMIT, |app| app["state"] == "FINISHED");
    assert_eq!(app["finalStatus"], "SUCCEEDED");
}
