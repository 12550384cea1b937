//! *Content Discovery*: tags and referrers.

use roadstead::oci::Algorithm;
use serde_json::Value;

use crate::support::{Answer, IMAGE, INDEX, Registry};

fn tags(answer: &Answer) -> Vec<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["name"], "app");
    body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

/// *Listing Tags*: sorted, in pages of `n` behind `last`, each but the last with the `Link` to the next.
#[test]
fn listing_tags() {
    for registry in Registry::each() {
        registry.get("/v2/app/tags/list", &[]).refused(404, "NAME_UNKNOWN");
        registry.get("/v2/app/tags/list?n=3", &[]).is(404);
        let manifest = registry.image("app", "");
        // By digest alone there is a repository, and no tag.
        registry.put("app", &Algorithm::Sha256.digest(manifest.as_bytes()).to_string(), IMAGE, &manifest).is(201);
        assert_eq!(tags(&registry.get("/v2/app/tags/list", &[]).is(200)), [""; 0]);
        let sorted = ["1.0", "1.10", "1.2", "A", "Z-1", "_x", "a", "a.b", "latest"];
        for tag in ["latest", "a", "Z-1", "1.10", "_x", "A", "1.2", "1.0", "a.b"] {
            registry.put("app", tag, IMAGE, &manifest).is(201);
        }
        let list = |query: &str| registry.get(&format!("/v2/app/tags/list{query}"), &[]).is(200);
        for (query, expected) in [
            ("", &sorted[..]),
            ("?n=1000", &sorted),
            ("?n=9", &sorted),
            ("?n=0", &[]),
            ("?n=0&last=A", &[]),
            ("?last=Z-1", &sorted[5..]),
            ("?last=Z", &sorted[4..]),
            ("?last=zzz", &[]),
            ("?n=100&last=latest", &[]),
            ("?n=2&last=a.b", &sorted[8..]),
        ] {
            let answer = list(query);
            assert_eq!(tags(&answer), expected, "{}: {query}", registry.name);
            assert_eq!(answer.headers("link"), [""; 0], "{}: {query}", registry.name);
        }
        for n in 1..sorted.len() {
            let (mut found, mut next) = (Vec::new(), format!("/v2/app/tags/list?n={n}"));
            loop {
                let page = registry.get(&next, &[]).is(200);
                found.extend(tags(&page));
                let Some(link) = page.headers("link").pop() else { break };
                assert_eq!(tags(&page).len(), n);
                let (target, relation) = link.split_once('>').unwrap();
                assert_eq!(relation, "; rel=\"next\"");
                target.strip_prefix('<').unwrap().clone_into(&mut next);
            }
            assert_eq!(found, sorted, "{}: {n} at a time", registry.name);
        }
        // A list whose tags are all gone is empty, and there as long as its repository is.
        for tag in sorted {
            registry.ask("DELETE", &format!("/v2/app/manifests/{tag}"), &[], b"").is(202);
        }
        assert_eq!(tags(&list("")), [""; 0], "{}", registry.name);
    }
}

/// What the referrers API lists, with what the fallback tag lists, which has to be the same.
fn referrers(registry: &Registry, subject: &str) -> Vec<Value> {
    let answer = registry.get(&format!("/v2/app/referrers/{subject}"), &[]).is(200);
    assert_eq!((answer.header("content-type"), answer.headers("oci-filters-applied")), (INDEX, vec![]));
    let index: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((&index["schemaVersion"], &index["mediaType"]), (&2.into(), &INDEX.into()));
    let listed = index["manifests"].as_array().unwrap().clone();
    let fallback: String = subject.replace(':', "-").chars().take("sha256-".len() + 64).collect();
    let fallback = registry.get(&format!("/v2/app/manifests/{fallback}"), &[]);
    if listed.is_empty() {
        assert!([200, 404].contains(&fallback.status), "{}", registry.name);
    }
    if fallback.status == 200 {
        let tagged: Value = serde_json::from_str(&fallback.body).unwrap();
        assert_eq!(tagged["manifests"], index["manifests"], "{}: the fallback tag", registry.name);
    } else {
        assert!(listed.is_empty(), "{}: no fallback tag", registry.name);
    }
    listed
}

/// *Listing Referrers* and *Pushing Manifests with Subject*: whatever has a subject, with its type and its annotations.
#[test]
fn listing_referrers() {
    for registry in Registry::each() {
        let image = registry.image("app", "");
        for algorithm in Algorithm::ALL {
            let subject = algorithm.digest(image.as_bytes()).to_string();
            assert_eq!(referrers(&registry, &subject), [] as [Value; 0]);
            let refers = format!(r#""subject":{{"mediaType":"{IMAGE}","digest":"{subject}","size":{}}}"#, image.len());
            let annotated = format!(r#","artifactType":"a/b","annotations":{{"k":"v","l":""}},{refers}"#);
            let referring = [
                (IMAGE, registry.image("app", &annotated), Some("a/b"), true),
                // Of an image without a type its config's counts.
                (IMAGE, registry.image("app", &format!(",{refers}")), Some("application/vnd.x.config"), false),
                (
                    IMAGE,
                    registry.image("app", &format!(r#","artifactType":"",{refers}"#)),
                    Some("application/vnd.x.config"),
                    false,
                ),
                (INDEX, index(&format!(r#","artifactType":"a/b",{refers}"#)), Some("a/b"), false),
                // An index without one has none.
                (INDEX, index(&format!(r#",{refers}"#)), None, false),
            ];
            for (count, (media_type, manifest, artifact_type, is_annotated)) in referring.iter().enumerate() {
                let digest = algorithm.digest(manifest.as_bytes()).to_string();
                let created = registry.put("app", &digest, media_type, manifest).is(201);
                assert_eq!(created.header("oci-subject"), subject, "{}", registry.name);
                // Twice is once.
                registry.put("app", &digest, media_type, manifest).is(201);
                let listed = referrers(&registry, &subject);
                assert_eq!(listed.len(), count + 1, "{}: {listed:?}", registry.name);
                let found = listed.iter().find(|entry| entry["digest"] == *digest).unwrap();
                assert_eq!((&found["mediaType"], &found["size"]), (&(*media_type).into(), &manifest.len().into()));
                assert_eq!(found.get("artifactType").and_then(Value::as_str), *artifact_type, "{}", registry.name);
                let annotations = if *is_annotated { serde_json::json!({"k": "v", "l": ""}) } else { Value::Null };
                assert_eq!(found.get("annotations").unwrap_or(&Value::Null), &annotations);
            }
            for (artifact_type, count) in [("a/b", 2), ("application/vnd.x.config", 2), ("a%2Fb", 2), ("x/y", 0)] {
                let path = format!("/v2/app/referrers/{subject}?artifactType={artifact_type}");
                let answer = registry.get(&path, &[]).is(200);
                assert_eq!(
                    (answer.header("oci-filters-applied"), answer.header("content-type")),
                    ("artifactType", INDEX)
                );
                let index: Value = serde_json::from_str(&answer.body).unwrap();
                assert_eq!(index["manifests"].as_array().unwrap().len(), count, "{}: {path}", registry.name);
            }
            // *Deleting Manifests*: what goes is in no list.
            for (left, (_, manifest, ..)) in referring.iter().enumerate().rev() {
                let digest = algorithm.digest(manifest.as_bytes());
                registry.ask("DELETE", &format!("/v2/app/manifests/{digest}"), &[], b"").is(202);
                assert_eq!(referrers(&registry, &subject).len(), left, "{}", registry.name);
            }
        }
    }
}

fn index(more: &str) -> String {
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]{more}}}"#)
}

/// *Listing Referrers*: never 404, and 400 for what is no digest.
#[test]
fn referrers_of_nothing() {
    for registry in Registry::each() {
        registry.blob("app", b"content");
        let unknown = Algorithm::Sha512.digest(b"unknown");
        for path in [format!("app/referrers/{unknown}"), format!("app/referrers/{unknown}?artifactType=a/b")] {
            let answer = registry.get(&format!("/v2/{path}"), &[]).is(200);
            let index: Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!(index["manifests"], serde_json::json!([]), "{}", registry.name);
        }
        for bad in ["sha256:00", "latest", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:baddigeststring"] {
            registry.get(&format!("/v2/app/referrers/{bad}"), &[]).is(400).code();
        }
    }
}
