//! The table of hosts, and what hosts of plain files render, without any of them.

use super::by_name::{At, Headers, Overlap, PathRules};
use super::{ConfigFile, Group, HOSTS, Host, Unsupported, find};
use crate::oci::{Algorithm, MediaType, Reference};
use crate::site::{Elsewhere, Form, Measure, Named, Raised, Site, Survey};

#[test]
fn every_host_can_be_named_shown_and_found() {
    for (index, host) in HOSTS.iter().enumerate() {
        let name = host.name();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(!name.is_empty() && name.chars().all(plain), "{name:?}");
        assert!(HOSTS[..index].iter().all(|other| other.name() != name), "{name} is there twice");
        assert!(find(name).is_some_and(|found| found.name() == name));
        let summary = host.summary();
        assert!(!summary.is_empty() && summary.len() <= 90 && !summary.contains('\n'), "{name}: {summary:?}");
        assert!(Group::ALL.contains(&host.group()), "{name}");
    }
    assert!(HOSTS.is_sorted_by_key(|host| host.group()), "the groups stand together");
}

/// A site with these names: repository, reference, media type.
fn site(names: &[(&str, &str, MediaType)]) -> Site {
    let mut survey = Survey::default();
    for (repository, reference, media_type) in names {
        let digest = Algorithm::Sha256.digest(reference.as_bytes());
        let reference = match *reference {
            "@" => Reference::Digest(Algorithm::Sha256.digest(repository.as_bytes())),
            tag => tag.parse().unwrap(),
        };
        let named = Named { reference, media_type: media_type.clone(), digest };
        survey.repositories.entry(repository.parse().unwrap()).or_default().push(named);
        survey.manifests.files += 1;
    }
    survey.repositories.values_mut().for_each(|names| names.sort_unstable());
    Site { survey, ..Site::default() }
}

fn text(host: &str, site: &Site, file: &str) -> String {
    let files = find(host).unwrap().render(site).unwrap_or_else(|error| panic!("{host}: {error}"));
    let found = files.iter().find(|of| of.name == file);
    found.unwrap_or_else(|| panic!("{host} has no {file}: {files:?}")).text.to_string()
}

/// The error for a site that a host can't have.
fn refused(host: &str, site: &Site) -> Unsupported {
    find(host).unwrap().render(site).expect_err("it was rendered")
}

fn plain_hosts() -> impl Iterator<Item = &'static dyn Host> {
    HOSTS.iter().copied().filter(|host| host.public().is_some())
}

const INDEX: MediaType = MediaType::OCI_INDEX;
const MANIFEST: MediaType = MediaType::OCI_MANIFEST;
const DOCKER: MediaType = MediaType::DOCKER_MANIFEST;

#[test]
fn the_most_frequent_type_is_the_rule_and_others_are_named() {
    let site = site(&[("app", "1", INDEX), ("app", "2", INDEX), ("app", "3", MANIFEST), ("app", "@", MANIFEST)]);
    assert_eq!(
        text("cloudflare-pages", &site, "public/_headers"),
        "# A registry of plain files. Made by roadstead.

/*
  X-Content-Type-Options: nosniff

/v2/
  Content-Type: application/json
  Cache-Control: no-cache
  Docker-Distribution-API-Version: registry/2.0

/v2/_catalog
  Content-Type: application/json
  Cache-Control: public, max-age=60
  Docker-Distribution-API-Version: registry/2.0

/v2/*/tags/list
  Content-Type: application/json
  Cache-Control: public, max-age=60
  Docker-Distribution-API-Version: registry/2.0

/v2/*/manifests/:reference
  Content-Type: application/vnd.oci.image.index.v1+json
  Cache-Control: public, max-age=60
  Docker-Distribution-API-Version: registry/2.0

/v2/*/manifests/sha256::hex
  ! Content-Type
  Content-Type: application/vnd.oci.image.manifest.v1+json
  Docker-Content-Digest: sha256::hex

/v2/*/manifests/sha512::hex
  ! Content-Type
  Content-Type: application/vnd.oci.image.manifest.v1+json
  Docker-Content-Digest: sha512::hex

/v2/*/blobs/sha256::hex
  Content-Type: application/octet-stream
  Cache-Control: public, max-age=60
  Docker-Distribution-API-Version: registry/2.0
  Docker-Content-Digest: sha256::hex

/v2/*/blobs/sha512::hex
  Content-Type: application/octet-stream
  Cache-Control: public, max-age=60
  Docker-Distribution-API-Version: registry/2.0
  Docker-Content-Digest: sha512::hex

/v2/*/referrers/:subject
  Content-Type: application/vnd.oci.image.index.v1+json
  Cache-Control: public, max-age=60
  Docker-Distribution-API-Version: registry/2.0

/v2/app/manifests/3
  ! Content-Type
  Content-Type: application/vnd.oci.image.manifest.v1+json
"
    );
}

#[test]
fn a_repository_of_another_type_has_a_rule_of_its_own() {
    let tags: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
    let mut names: Vec<_> = tags.iter().flat_map(|tag| [("a", &**tag, INDEX), ("b", &**tag, INDEX)]).collect();
    let list = MediaType::DOCKER_LIST;
    names.extend(["1", "2", "3", "4"].map(|tag| ("c", tag, list.clone())));
    names.extend([("c", "@", DOCKER), ("a", "@", MANIFEST), ("b", "@", MANIFEST)]);
    let headers = text("cloudflare-pages", &site(&names), "public/_headers");
    let rules: Vec<_> = headers.lines().filter(|line| line.starts_with("/v2/c/")).collect();
    // The rule for all would say the digests' type, too: it is said again.
    assert_eq!(rules, ["/v2/c/manifests/:reference", "/v2/c/manifests/sha256::hex"]);
    assert_eq!(headers.matches(DOCKER.as_str()).count(), 1, "{headers}");
}

#[test]
fn what_looks_like_a_placeholder_is_none() {
    let mut site = site(&[("app", "1", INDEX), ("app", "2", INDEX), ("b", "@", INDEX), ("app", "@", MANIFEST)]);
    site.survey.repositories.get_mut(&"app".parse().unwrap()).unwrap().push(Named {
        reference: Reference::Digest(Algorithm::Sha256.digest(b"other")),
        media_type: MANIFEST,
        digest: Algorithm::Sha256.digest(b"other"),
    });
    let headers = text("cloudflare-pages", &site, "public/_headers");
    let hex = Algorithm::Sha256.digest(b"b").hex();
    assert!(headers.contains(&format!("\n/v2/b/manifests/sha256*{hex}\n")), "{headers}");
    assert!(!headers.contains(&format!("sha256:{hex}")), "{headers}");
}

#[test]
fn names_of_pages_are_rewritten() {
    let site = site(&[("app", "1.0.html", INDEX), ("app", "index.html", INDEX), ("app", "x", INDEX)]);
    let redirects = text("cloudflare-pages", &site, "public/_redirects");
    for tag in ["1.0.html", "index.html"] {
        let hex = Algorithm::Sha256.digest(tag.as_bytes()).hex();
        let line = format!("\n/v2/app/manifests/{tag} /v2/app/manifests/sha256%3A{hex} 200\n");
        assert!(redirects.contains(&line), "{redirects}");
    }
    for (host, reference, expected) in [
        ("cloudflare-pages", "1.html", true),
        ("cloudflare-pages", "1.htm", false),
        ("firebase", "1.html", false),
        ("static-web-server", "1.html", true),
    ] {
        let reference = reference.parse().unwrap();
        assert_eq!(find(host).unwrap().serves_as_page(Form::Site, &reference), expected, "{host}: {reference}");
    }
}

#[test]
fn names_of_one_type_share_an_expression() {
    let tags: Vec<String> = (0..1000).map(|n| format!("t{n:04}.x")).collect();
    let mut names: Vec<_> = tags.iter().map(|tag| ("app", &**tag, INDEX)).collect();
    let odd: Vec<String> = (0..900).map(|n| format!("odd-{n:04}")).collect();
    names.extend(odd.iter().map(|tag| ("app", &**tag, DOCKER)));
    let site = site(&names);
    let configuration: serde_json::Value = serde_json::from_str(&text("firebase", &site, "firebase.json")).unwrap();
    let rules = configuration["hosting"]["headers"].as_array().unwrap();
    assert!(rules.len() < 20, "{} rules", rules.len());
    let said: usize = rules.iter().map(|rule| rule["regex"].as_str().unwrap().matches("odd-").count()).sum();
    assert_eq!(said, 900);
}

#[test]
fn a_limit_is_named_with_its_source_and_the_way_out() {
    let odd: Vec<String> = (0..101).map(|n| format!("odd-{n}")).collect();
    let many: Vec<String> = (0..200).map(|n| format!("t{n}")).collect();
    let mut names: Vec<_> = many.iter().map(|tag| ("app", &**tag, INDEX)).collect();
    names.extend(odd.iter().map(|tag| ("app", &**tag, DOCKER)));
    let rules = refused("cloudflare-pages", &site(&names));
    let text = rules.to_string();
    for part in ["cloudflare-pages", "100", "111", "/v2/app/manifests/odd-", "--edge", "developers.cloudflare.com"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    let mut large = site(&[("app", "1", INDEX)]);
    large.survey.blobs.largest = Some((30 << 20, "v2/app/blobs/sha256:x".to_owned()));
    large.survey.blobs.files = 1;
    for host in ["cloudflare-pages", "cloudflare-workers"] {
        let text = refused(host, &large).to_string();
        assert!(text.contains("v2/app/blobs/sha256:x") && text.contains("--blobs-at"), "{text}");
    }
    // What is elsewhere counts for nothing, and what somebody pays for is theirs.
    let elsewhere = Some(Elsewhere::blobs("https://blobs.example").unwrap());
    assert!(find("cloudflare-pages").unwrap().render(&Site { blobs_at: elsewhere, ..large.clone() }).is_ok());
    let raised = vec![Raised { measure: Measure::FileSize, at_most: 1 << 30 }];
    assert!(find("cloudflare-pages").unwrap().render(&Site { raised, ..large }).is_ok());

    let repositories: Vec<String> = (0..60).map(|n| format!("repository-{n}")).collect();
    let names: Vec<_> = repositories.iter().map(|name| (&**name, "latest", INDEX)).collect();
    let text = refused("azure-static-web-apps", &site(&names)).to_string();
    assert!(text.contains("20480") && text.contains("learn.microsoft.com"), "{text}");
}

#[test]
fn places_elsewhere_that_a_host_would_not_lead_to() {
    let blobs = |url: &str| Site { blobs_at: Some(Elsewhere::blobs(url).unwrap()), ..site(&[("app", "1", INDEX)]) };
    for (host, url) in [
        ("cloudflare-pages", "http://blobs.example"),
        ("cloudflare-workers", "http://blobs.example"),
        ("firebase", "https://blobs.example:8443"),
        ("firebase", "https://blobs.example/x-{hex}"),
        ("netlify", "https://blobs.example/{hex}"),
        ("azure-static-web-apps", "https://blobs.example"),
    ] {
        let error = refused(host, &blobs(url));
        assert!(matches!(error, Unsupported::Value { .. }), "{host}: {error}");
    }
    let redirects =
        text("cloudflare-pages", &blobs("https://blobs.example/a:b/{algorithm}/{hex}"), "public/_redirects");
    let line = "\n/v2/*/blobs/sha512::hex https://blobs.example/a%3Ab/sha512/:hex 307\n";
    assert!(redirects.contains(line), "{redirects}");
    let redirects = text("netlify", &blobs("https://blobs.example"), "public/_redirects");
    assert!(redirects.contains("\n/v2/app/blobs/* https://blobs.example/v2/app/blobs/:splat 302\n"), "{redirects}");
}

#[test]
fn a_repository_that_would_not_be_uploaded() {
    let names = [("org/node_modules", "1", INDEX)];
    assert!(matches!(refused("cloudflare-pages", &site(&names)), Unsupported::Value { .. }));
    assert!(find("cloudflare-workers").unwrap().render(&site(&names)).is_ok());
}

#[test]
fn names_of_programs_are_no_files_but_lead_to_what_they_name() {
    let host = find("apache-htaccess").unwrap();
    let site = site(&[("app", "1.php", INDEX), ("app", "1.0.tar.gz", INDEX)]);
    let text = text("apache-htaccess", &site, "public/v2/.htaccess");
    let digest = Algorithm::Sha256.digest(b"1.php");
    let line = format!("\nRewriteRule \"^app/manifests/1\\.php$\" \"/v2/app/manifests/{digest}\" [END]\n");
    assert!(text.contains(&line), "{text}");
    for (tag, expected) in [("1.php", true), ("1.PHP8.gz", true), ("1.0.tar.gz", false), ("php", false)] {
        assert_eq!(host.serves_as_page(Form::Site, &tag.parse().unwrap()), expected, "{tag}");
    }
    let blobs_at = Some(Elsewhere::blobs("https://blobs.example/a%20b/{hex}").unwrap());
    let text = self::text("apache-htaccess", &Site { blobs_at, ..site }, "public/v2/.htaccess");
    assert!(text.contains(r#" "https://blobs.example/a\%20b/$3" [R=307,NE,L]"#), "{text}");
}

/// A pattern reaches any depth: what would be taken for another's is refused, and only that.
#[test]
fn manifests_below_manifests() {
    let tags: Vec<String> = (0..9).map(|n| format!("t{n}")).collect();
    let mut names: Vec<_> = tags.iter().map(|tag| ("app", &**tag, INDEX)).collect();
    names.push(("x/manifests/y", "1", INDEX));
    let configuration = text("static-web-server", &site(&names), "sws.toml");
    let at = |pattern: &str| configuration.find(&format!("source = \"{pattern}\"\n")).unwrap();
    assert!(at("/v2/*/manifests/*") < at("/v2/*/tags/list"), "{configuration}");
    names.extend(tags[..5].iter().map(|tag| ("x", &**tag, DOCKER)));
    let error = refused("static-web-server", &site(&names)).to_string();
    assert!(error.contains("x/manifests/y"), "{error}");
}

#[test]
fn a_script_is_the_same_for_every_tree_but_for_what_bytes_do_not_tell() {
    let edge = |names: &[_]| Site { form: Form::Edge, ..site(names) };
    for (host, file) in [("cloudflare-workers", "worker.js"), ("netlify", "netlify/edge-functions/registry.js")] {
        let one = text(host, &edge(&[("app", "1", INDEX)]), file);
        assert_eq!(one, text(host, &edge(&[("b/c", "2", DOCKER), ("d", "3", MANIFEST)]), file));
        let signed = text(host, &edge(&[("app", "old", MediaType::DOCKER_SCHEMA1)]), file);
        let digest = Algorithm::Sha256.digest(b"old");
        assert!(signed.contains(&format!("\"/v2/app/manifests/old\": \"{digest}\"")), "{signed}");
        assert!(!one.contains("*/;"), "something was not filled in: {one}");
    }
}

#[test]
fn every_host_has_a_folder_to_itself_and_refuses_forms_that_it_does_not_know() {
    for host in plain_hosts() {
        let public = host.public().unwrap();
        for file in host.render(&site(&[("app", "1", INDEX)])).unwrap() {
            assert!(!file.name.starts_with('/') && !file.name.contains(".."), "{}", file.name);
            let in_tree = file.name.strip_prefix(&format!("{public}/v2/"));
            // So begins no repository's name.
            let beside = in_tree.is_none_or(|name| name.starts_with(['.', '_']) && name != "_catalog");
            assert!(beside, "{} would be a part of the tree", file.name);
        }
        let error = host.render(&Site { form: Form::Standalone, ..site(&[]) }).expect_err(host.name());
        assert!(matches!(error, Unsupported::Form { .. }), "{error}");
        for budget in host.budgets() {
            assert!(budget.source.starts_with("https://"), "{budget:?}");
        }
    }
}

/// Of hosts that document no order, no two rules say one header of a path, whatever types a tree holds.
#[test]
fn where_no_order_is_known_no_path_has_two_rules() {
    let list = MediaType::DOCKER_LIST;
    let mixed = site(&[
        ("one-type", "1", MANIFEST),
        ("one-type", "@", MANIFEST),
        ("usual", "1", INDEX),
        ("usual", "2", INDEX),
        ("usual", "@", MANIFEST),
        ("mixed", "1", list),
        ("mixed", "2", DOCKER),
        ("mixed", "@", DOCKER),
        ("mixed/below", "1", INDEX),
    ]);
    let said = PathRules::of(&mixed, Overlap::Unknown { host: "x" }).unwrap();
    let mut rules: Vec<(At, Headers)> = Vec::new();
    let Ok(()) = said.each(|at, headers| {
        rules.push((at.clone(), headers.clone()));
        Ok::<_, std::convert::Infallible>(())
    });
    let matching = |path: &str| -> Vec<_> {
        let here = |(at, _): &&(At, Headers)| match at {
            At::Path(exact) => exact == path,
            At::Below(beginning) => path.starts_with(beginning.as_str()),
        };
        rules.iter().filter(here).collect()
    };
    for (repository, named) in mixed.survey.names() {
        let path = format!("/v2/{repository}/manifests/{}", named.reference);
        let [rule @ (_, headers)] = matching(&path)[..] else { panic!("{path}: {:?}", matching(&path)) };
        let types: Vec<_> = headers.iter().filter(|(name, _)| name == "Content-Type").collect();
        assert_eq!(types.len(), 1, "{path}: {rule:?}");
        assert_eq!(types[0].1, named.media_type.as_str(), "{path}");
        assert!(!headers.iter().any(|header| said.everywhere.contains(header)), "{rule:?}");
    }
    for path in ["/v2/", "/v2/_catalog", "/v2/mixed/tags/list", "/v2/mixed/blobs/sha256:x", "/v2/usual/referrers/x"] {
        assert_eq!(matching(path).len(), 1, "{path}");
    }
    let inside = site(&[("x", "1", INDEX), ("x/blobs/y", "1", INDEX)]);
    for host in ["amplify", "render"] {
        let error = refused(host, &inside).to_string();
        assert!(error.contains("x/blobs/y") && error.contains(host), "{error}");
    }
    // Where the first rule holds, the repository inside comes first.
    let routes = text("azure-static-web-apps", &inside, "public/staticwebapp.config.json");
    let at =
        |route: &str| routes.find(&format!("\"route\":\"{route}\"")).unwrap_or_else(|| panic!("{route}: {routes}"));
    assert!(at("/v2/x/blobs/y/manifests/*") < at("/v2/x/blobs/*"), "{routes}");
}

#[test]
fn sites_by_repository() {
    let names = [("app", "1", INDEX), ("app", "2", INDEX), ("app", "odd", DOCKER), ("app", "@", MANIFEST)];
    let with_blobs = |url: &str| Site { blobs_at: Some(Elsewhere::blobs(url).unwrap()), ..site(&names) };
    let site = with_blobs("https://blobs.example");
    let rules = text("amplify", &site, "redirects.json");
    let rules: serde_json::Value = serde_json::from_str(&rules).unwrap();
    assert_eq!(
        rules,
        serde_json::json!([
            { "source": "/v2/app/blobs/<*>", "target": "https://blobs.example/v2/app/blobs/<*>", "status": "302" },
            { "source": "/<*>", "target": "/404.html", "status": "404" },
        ])
    );
    let headers = text("amplify", &site, "customHttp.yml");
    let odd = Algorithm::Sha256.digest(b"odd");
    let lines = format!(
        "  - pattern: \"/v2/app/manifests/odd\"
    headers:
      - key: \"Cache-Control\"
        value: \"public, max-age=60\"
      - key: \"Docker-Distribution-API-Version\"
        value: \"registry/2.0\"
      - key: \"Content-Type\"
        value: \"application/vnd.docker.distribution.manifest.v2+json\"
      - key: \"Docker-Content-Digest\"
        value: \"{odd}\"
"
    );
    assert!(headers.contains(&lines), "{headers}");
    assert!(!headers.contains("/blobs/"), "{headers}");

    let blueprint = text("render", &site, "render.yaml");
    let lines = "      - path: \"/v2/app/manifests/sha256:*\"
        name: \"Content-Type\"
        value: \"application/vnd.oci.image.manifest.v1+json\"
";
    assert!(blueprint.contains(lines), "{blueprint}");
    let lines = "    routes:
      - type: redirect
        source: \"/v2/app/blobs/*\"
        destination: \"https://blobs.example/v2/app/blobs/*\"
";
    assert!(blueprint.ends_with(lines), "{blueprint}");

    let manifests_at = Some(Elsewhere::manifests("https://m.example/{name}/{reference}").unwrap());
    let redirects = text("gitlab-pages", &Site { manifests_at, ..site.clone() }, "public/_redirects");
    assert_eq!(
        redirects,
        "/v2/app/blobs/* https://blobs.example/v2/app/blobs/:splat 302\n\
         /v2/app/manifests/* https://m.example/app/:splat 302\n"
    );
    for host in ["amplify", "render", "gitlab-pages", "h2o"] {
        let error = refused(host, &with_blobs("https://blobs.example/{hex}"));
        assert!(matches!(error, Unsupported::Value { .. }), "{host}: {error}");
    }
    let error = refused("h2o", &with_blobs("https://blobs.example/{digest}/data")).to_string();
    assert!(error.contains("at the end"), "{error}");
    assert!(matches!(refused("azure-blob", &site), Unsupported::Value { .. }));
}

#[test]
fn what_gitlab_takes_is_checked_first() {
    let repositories: Vec<String> = (0..1001).map(|n| format!("repository-{n}")).collect();
    let names: Vec<_> = repositories.iter().map(|name| (&**name, "latest", INDEX)).collect();
    let blobs_at = Some(Elsewhere::blobs("https://b.example").unwrap());
    let text = refused("gitlab-pages", &Site { blobs_at, ..site(&names) }).to_string();
    for part in ["1000", "1001", "docs.gitlab.com", "redirects by pattern"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    // Sixty-four kilobytes are reached sooner with long names.
    let repositories: Vec<String> = (0..600).map(|n| format!("repository-{n}/{}", "x".repeat(100))).collect();
    let names: Vec<_> = repositories.iter().map(|name| (&**name, "latest", INDEX)).collect();
    let blobs_at = Some(Elsewhere::blobs("https://b.example").unwrap());
    let text = refused("gitlab-pages", &Site { blobs_at, ..site(&names) }).to_string();
    assert!(text.contains("65536") && text.contains("bytes of configuration"), "{text}");
    assert!(find("gitlab-pages").unwrap().render(&site(&names)).is_ok(), "nothing is elsewhere");
}

/// A site that a host takes, whatever it is.
fn acceptable(host: &dyn Host) -> Site {
    let root = if host.group() == Group::Bucket { "s3://bucket" } else { "/srv/registry" };
    let mut site = Site { root: root.to_owned(), listen: "127.0.0.1:5000".to_owned(), ..site(&[("app", "1", INDEX)]) };
    site.shell.image = (host.group() == Group::Shell && host.name() != "systemd").then(|| "image".to_owned());
    host.render(&site).unwrap_or_else(|error| panic!("{}: {error}", host.name()));
    site
}

fn texts(files: Vec<ConfigFile<'_>>) -> Vec<String> {
    files.into_iter().map(|file| file.text.to_string()).collect()
}

#[test]
fn what_a_host_can_not_do_is_not_left_out_silently() {
    for host in HOSTS.iter().copied() {
        let (name, site, is_plain) = (host.name(), acceptable(host), host.public().is_some());
        let cors = Site { cors: true, ..site.clone() };
        match host.render(&cors) {
            Ok(files) => assert_ne!(texts(files), texts(host.render(&site).unwrap()), "{name} says nothing of it"),
            Err(_) => assert!(host.headerless().is_some(), "{name} can't"),
        }
        let blobs = Elsewhere::blobs("https://blobs.example").ok();
        let manifests = Elsewhere::manifests("https://manifests.example").ok();
        for (option, site) in [
            ("--blobs-at", Site { blobs_at: blobs, ..site.clone() }),
            ("--manifests-at", Site { manifests_at: manifests, ..site.clone() }),
            ("--limit", Site { raised: vec!["files=100000000".parse().unwrap()], ..site }),
        ] {
            match host.render(&site) {
                Err(Unsupported::Value { what, .. }) if !is_plain => assert_eq!(what, option, "{name}"),
                rendered if !is_plain => panic!("{name} takes {option}: {rendered:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn pages_of_other_origins_are_told_what_they_may_send() {
    let site = Site { cors: true, ..site(&[("app", "1", INDEX)]) };
    let configuration: serde_json::Value =
        serde_json::from_str(&text("vercel", &site, ".vercel/output/config.json")).unwrap();
    let asked = &configuration["routes"][0];
    assert_eq!((&asked["methods"], &asked["status"]), (&serde_json::json!(["OPTIONS"]), &204.into()), "{asked}");
    assert_eq!(asked["headers"]["Access-Control-Allow-Methods"], "GET, HEAD", "{asked}");
    assert_eq!(asked["headers"]["Access-Control-Allow-Origin"], "*", "{asked}");
    let routes = text("azure-static-web-apps", &site, "public/staticwebapp.config.json");
    assert_eq!(routes.matches("Access-Control-Allow-Origin").count(), 1, "it has 20 KB: {routes}");
}

#[test]
fn a_dollar_in_a_media_type_means_itself_or_is_refused() {
    let odd: MediaType = "application/vnd.example.$1&x+json".parse().unwrap();
    let site = site(&[("app", "1", INDEX), ("app", "2", INDEX), ("app", "odd", odd)]);
    let text = self::text("apache-htaccess", &site, "public/v2/.htaccess");
    assert!(text.contains(r#""roadstead_content_type=application/vnd.example.\$1&x+json""#), "{text}");
    let refusal = refused("vercel", &site).to_string();
    for part in ["vnd.example.$1", "of v2/app/manifests/odd", "another host"] {
        assert!(refusal.contains(part), "{part} is missing: {refusal}");
    }
    // What is elsewhere has its type from there.
    let manifests_at = Some(Elsewhere::manifests("https://m.example").unwrap());
    assert!(find("vercel").unwrap().render(&Site { manifests_at, ..site }).is_ok());
}

#[test]
fn a_folder_is_not_taken_for_a_variable() {
    let nginx = find("nginx").unwrap();
    for root in ["/srv/$host", "/srv/a$", "/srv/$registry/tree"] {
        let literal =
            Site { root: root.to_owned(), root_is_literal: true, listen: "5000".to_owned(), ..Site::default() };
        let refusal = nginx.render(&literal).expect_err("it was rendered").to_string();
        assert!(refusal.contains(root) && refusal.contains("variable"), "{refusal}");
        // A unit around nginx names the same folder; in a container it has another name.
        let mut around = literal.clone();
        around.shell.around = crate::site::Around::Nginx;
        assert!(find("systemd").unwrap().render(&around).is_err(), "{root}");
        assert!(find("compose").unwrap().render(&around).is_ok(), "{root}");
    }
    let variable = Site { root: "/srv/$host".to_owned(), listen: "5000".to_owned(), ..Site::default() };
    assert!(nginx.render(&variable).is_ok());
}
