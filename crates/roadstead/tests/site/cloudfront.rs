//! The functions of a CloudFront distribution, run with events as Amazon documents them.

use roadstead::host;
use roadstead::site::Site;
use roadstead_parts::{Folder, Invocation, part};
use serde_json::{Value, json};

fn template(cors: bool) -> Value {
    let site = Site { root: "s3://my-bucket/some/where".to_owned(), cors, ..Site::default() };
    let file = host::find("cloudfront").unwrap().render(&site).unwrap().remove(0);
    serde_json::from_str(&file.text.to_string()).unwrap()
}

/// What a function makes of events.
fn run(template: &Value, function: &str, events: &[Value]) -> Vec<Value> {
    let folder = Folder::new();
    let code = template["Resources"][function]["Properties"]["FunctionCode"].as_str().unwrap();
    let events = Value::from(events.to_vec());
    let script = folder.write("run.cjs", format!("{code}\nconsole.log(JSON.stringify({events}.map(handler)));"));
    let ran = Invocation::new(part::installed("node")).env("HOME", folder.path()).arg(script).run().unwrap();
    serde_json::from_str(&ran.stdout).unwrap()
}

fn request(method: &str, uri: &str) -> Value {
    json!({ "request": { "method": method, "uri": uri, "querystring": {}, "headers": {}, "cookies": {} } })
}

#[test]
#[ignore = "needs Node"]
fn cloudfront_lets_through_what_can_be_pulled() {
    let asked = [
        ("GET", "/v2/app/manifests/1"),
        ("HEAD", "/v2"),
        ("POST", "/v2/app/blobs/uploads/"),
        ("OPTIONS", "/v2/"),
        ("GET", "/.roadstead/format"),
        ("GET", "/v2x"),
    ];
    let events = asked.map(|(method, uri)| request(method, uri));
    let answers = run(&template(false), "OnRequest", &events);
    assert_eq!(answers[0]["uri"], "/v2/app/manifests/1");
    assert_eq!(answers[1]["uri"], "/v2/");
    for refused in &answers[2..4] {
        assert_eq!((&refused["statusCode"], &refused["headers"]["allow"]["value"]), (&json!(405), &json!("GET, HEAD")));
        assert!(refused["body"]["data"].as_str().unwrap().contains("\"UNSUPPORTED\""), "{refused}");
    }
    for outside in &answers[4..] {
        assert_eq!(outside["statusCode"], 404, "{outside}");
    }
    let asked = &run(&template(true), "OnRequest", &events)[3];
    assert_eq!(asked["statusCode"], 204, "{asked}");
    assert_eq!(asked["headers"]["access-control-allow-methods"]["value"], "GET, HEAD", "{asked}");
}

#[test]
#[ignore = "needs Node"]
fn cloudfront_says_the_digest() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let answered = |uri: &str, said: Option<&str>| {
        let mut event = request("GET", uri);
        event["response"] = json!({ "statusCode": 200, "headers": { "content-type": { "value": "application/x.y" } } });
        if let Some(said) = said {
            event["response"]["headers"]["x-amz-meta-docker-content-digest"] = json!({ "value": said });
        }
        event
    };
    let events = [
        answered("/v2/app/manifests/1", Some(&digest)),
        answered("/v2/app/blobs/sha256%3A00", Some(&digest)),
        answered("/v2/app/referrers/sha256:00", Some(&digest)),
        answered("/v2/app/manifests/1", Some("sha256:<script>")),
        answered("/v2/_catalog", None),
    ];
    let answers = run(&template(true), "OnResponse", &events);
    for (at, answer) in answers.iter().enumerate() {
        let headers = &answer["headers"];
        let expected = if at < 2 { json!(digest) } else { Value::Null };
        assert_eq!(headers["docker-content-digest"]["value"], expected, "{at}: {answer}");
        assert!(headers.get("x-amz-meta-docker-content-digest").is_none(), "{at}: {answer}");
        assert_eq!(headers["content-type"]["value"], "application/x.y", "{at}: {answer}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("docker-distribution-api-version", "registry/2.0"),
            ("access-control-allow-origin", "*"),
        ] {
            assert_eq!(headers[name]["value"], value, "{at}: {answer}");
        }
    }
    let plain = &run(&template(false), "OnResponse", &events)[0];
    assert!(plain["headers"].get("access-control-allow-origin").is_none(), "{plain}");
}
