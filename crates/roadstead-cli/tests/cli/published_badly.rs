//! Publishing where something is in the way: what is said of it, and what is left.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use roadstead::oci::Algorithm;
use roadstead::store::{Condition, Headers, Store as _};
use roadstead::testing::{ImageBuilder, Layer, Reply, Seen, noise};
use roadstead_parts::{BucketServer, Buckets, Invocation, Port, part};

use crate::published::{BUCKET, Scene, image};
use crate::support::{Faulty, Ran, refusal};

fn scene() -> Scene {
    Scene::new(BucketServer::Versitygw, &[("app:1", &image("one")), ("org/tool:1", &image("two"))])
}

/// Publishes by way of a service that fails.
fn through(scene: &Scene, faulty: &Faulty, arguments: &[&str]) -> Ran {
    let mut command: Command = scene.command(&[&["publish", BUCKET], arguments].concat());
    Ran::of(command.env("AWS_ENDPOINT_URL", faulty.url()))
}

/// Nobody listens, there is no such host, and somebody listens who never says a word.
#[test]
fn a_service_that_is_not_there_is_not_waited_for() {
    let scene = scene();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for (endpoint, words) in [
        (format!("http://{}", Port::free().address()), "can't be reached"),
        ("http://no-such-host.invalid".to_owned(), "can't be reached"),
        (format!("http://{}", mute.local_addr().unwrap()), "nothing came for 1 s"),
    ] {
        for command in [&["publish", BUCKET][..], &["publish", BUCKET, "--dry-run"], &["--tree", BUCKET, "list"]] {
            let mut command = scene.command(&[command, &["--cli-read-timeout", "1"]].concat());
            let ran = Ran::of(command.env("AWS_ENDPOINT_URL", &endpoint));
            assert_eq!(ran.code(), 6, "{endpoint}: {ran}");
            assert!(ran.stderr.contains(&endpoint) && ran.stderr.contains(words), "{endpoint}: {ran}");
            assert!(ran.stderr.contains("hint: look whether the service is there"), "{endpoint}: {ran}");
        }
    }
    scene.run(&["publish", BUCKET]).ok();
}

/// What is refused, with which words it is said, and what it costs.
#[track_caller]
fn refused(
    scene: &Scene,
    arguments: &[&str],
    words: &[&str],
    fault: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
) {
    let faulty = Faulty::start(&scene.buckets, fault);
    let ran = through(scene, &faulty, arguments);
    assert_eq!(ran.code(), 8, "{ran}");
    for word in words {
        assert!(ran.stderr.contains(word), "{word} is missing: {ran}");
    }
    // Whoever is let in again goes on.
    scene.run(&[&["publish", BUCKET], arguments].concat()).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();
}

fn denied() -> Option<Reply> {
    Some(refusal(403, "AccessDenied"))
}

#[test]
fn a_missing_permission_is_named() {
    let scene = scene();
    let writes = |seen: &Seen| seen.method == "PUT" && seen.path().contains("/v2/");
    refused(
        &scene,
        &[],
        &["s3:PutObject", "s3://images/tree/v2/"],
        move |seen| if writes(seen) { denied() } else { None },
    );
    let lists = |seen: &Seen| seen.target.contains("list-type=2");
    refused(&scene, &[], &["s3:ListBucket", "s3://images/tree"], move |seen| if lists(seen) { denied() } else { None });
    scene.run(&["remove", "-q", "org/tool:1"]).ok();
    let delete = ["--delete", "--exclusive", "--repository", "org/tool"];
    let deletes = |seen: &Seen| seen.method == "DELETE";
    refused(&scene, &delete, &["s3:DeleteObject"], move |seen| if deletes(seen) { denied() } else { None });
}

#[test]
fn what_a_service_refuses_is_said_with_the_way_out() {
    let scene = scene();
    let acl =
        |seen: &Seen| seen.headers.contains_key("x-amz-acl").then(|| refusal(400, "AccessControlListNotSupported"));
    let faulty = Faulty::start(&scene.buckets, acl);
    let ran = through(&scene, &faulty, &["--acl", "public-read"]);
    assert_eq!(ran.code(), 8, "{ran}");
    assert!(ran.stderr.contains("AccessControlListNotSupported") && ran.stderr.contains("leave --acl out"), "{ran}");
    through(&scene, &faulty, &[]).ok();
    assert!(faulty.requests().iter().any(|seen| seen.method == "PUT" && !seen.headers.contains_key("x-amz-acl")));

    let skewed = Faulty::start(&scene.buckets, |_| Some(refusal(403, "RequestTimeTooSkewed")));
    let ran = through(&scene, &skewed, &[]);
    assert_eq!(ran.code(), 8, "{ran}");
    assert!(ran.stderr.contains("the clock of this machine is wrong"), "{ran}");

    let nowhere = scene.run(&["publish", "s3://no-such-bucket"]);
    assert_eq!(nowhere.code(), 8, "{nowhere}");
    assert!(nowhere.stderr.contains("there is no such bucket: make it first"), "{nowhere}");
}

#[test]
fn what_is_asked_for_is_asked_of_the_service_and_nothing_else_is() {
    let scene = scene();
    let plain = Faulty::start(&scene.buckets, |_| None);
    through(&scene, &plain, &["--jobs", "2"]).ok();
    let names = ["x-amz-acl", "x-amz-storage-class", "x-amz-server-side-encryption", "x-amz-request-payer"];
    for seen in plain.requests() {
        assert!(names.iter().all(|name| !seen.headers.contains_key(*name)), "{seen:?}");
    }
    scene.run(&["tag", "app:1", "app:2"]).ok();
    // The real service knows not all of these.
    let written = || Reply::ok("").header("etag", "\"1\"").header("date", "Thu, 01 Jan 2026 00:00:00 GMT");
    let asked = Faulty::start(&scene.buckets, move |seen| (seen.method == "PUT").then(written));
    let options = ["--storage-class", "STANDARD_IA", "--sse=AES256", "--request-payer=requester"];
    through(&scene, &asked, &options).ok();
    let put = asked.requests().into_iter().find(|seen| seen.path().ends_with("/manifests/2")).unwrap();
    assert_eq!(put.headers["x-amz-storage-class"], "STANDARD_IA");
    assert_eq!(put.headers["x-amz-server-side-encryption"], "AES256");
    assert_eq!(put.headers["x-amz-request-payer"], "requester");
    // The provider verifies what it gets.
    assert_eq!(put.headers["x-amz-content-sha256"].len(), 64);
}

#[test]
fn what_somebody_else_has_there_stays_and_is_said() {
    let scene = scene();
    let bucket = scene.buckets.folder("images").join("tree");
    let mine = ["notes.txt", "v2/notes.txt", "v2/app/notes/1"].map(|name| bucket.join(name));
    for file in &mine {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "mine").unwrap();
    }
    scene.run(&["publish", BUCKET]).ok();
    let again = scene.run(&["publish", BUCKET, "--delete", "--exclusive"]).ok();
    assert!(again.stderr.contains("2 things among its names that no tree puts there, such as v2/"), "{again}");
    assert!(again.stderr.contains("nothing has changed"), "{again}");
    assert!(mine.iter().all(|file| fs::read_to_string(file).unwrap() == "mine"));
}

/// A list that somebody else writes between our look at it and our own writing.
#[test]
fn a_destination_that_changes_under_our_feet_loses_nothing() {
    let scene = scene();
    let lists = |seen: &Seen| seen.method == "PUT" && seen.path().ends_with("/tags/list") && seen.nth == 0;
    let faulty = Faulty::start(&scene.buckets, move |seen| lists(seen).then(|| refusal(412, "PreconditionFailed")));
    through(&scene, &faulty, &[]).ok();
    scene.run(&["--tree", BUCKET, "verify"]).ok();
    let again = scene.run(&["publish", BUCKET]).ok();
    assert!(again.stderr.contains("nothing has changed"), "{again}");
}

/// Killed, or cut off for good, in the middle of a layer: what was sent of it is there, and isn't sent again.
#[test]
fn parts_that_were_sent_are_not_sent_again() {
    let layer = Layer::new().file("noise", noise(7, 40 << 20), 0o644);
    let large = ImageBuilder::new().layer(layer).build();
    let scene = Scene::new(BucketServer::Versitygw, &[("large:1", &large)]);
    scene.run(&["publish", BUCKET, "--repository", "none"]);
    let part = |number: &'static str| move |seen: &Seen| seen.target.contains(&format!("partNumber={number}&"));
    let (sixth, aborts) = (part("6"), |seen: &Seen| seen.method == "DELETE");
    // Nobody hears that it is called off, as after a kill.
    let faulty =
        Faulty::start(
            &scene.buckets,
            move |seen| {
                if sixth(seen) { denied() } else { aborts(seen).then(|| Reply::status(204)) }
            },
        );
    let cut = through(&scene, &faulty, &[]);
    assert_eq!(cut.code(), 8, "{cut}");
    let sent = |faulty: &Faulty| {
        let parts = faulty.requests().into_iter().filter(|seen| seen.target.contains("partNumber="));
        parts.map(|seen| seen.body.len()).collect::<Vec<_>>()
    };
    let first = sent(&faulty);
    // Four at a time are under way, so two were there before the sixth.
    assert!(first.len() >= 3, "{first:?}");
    let honest = Faulty::start(&scene.buckets, |_| None);
    through(&scene, &honest, &[]).ok();
    let rest = sent(&honest);
    assert!((1..=4).contains(&rest.len()), "two parts were there: {rest:?} after {first:?}");
    let begun =
        honest.requests().iter().filter(|seen| seen.method == "POST" && seen.target.ends_with("?uploads=")).count();
    assert_eq!(begun, 0, "no second upload was begun, of which parts would stay");
    scene.run(&["--tree", BUCKET, "verify"]).ok();
    let left = scene.buckets.folder("images").join(".sgwtmp/multipart");
    let left = fs::read_dir(left).map_or(0, Iterator::count);
    assert_eq!(left, 0, "parts that belong to nothing");
}

/// Writes an object again, with another time to live.
fn caught_for_a_day(scene: &Scene, name: &str) {
    let (store, key) = (scene.store(), name.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let object = store.get(&key, None).await.unwrap().unwrap();
        let headers = Headers { cache_control: Some("max-age=86400".into()), ..object.entry.headers };
        let bytes = object.body.into_bytes(1 << 20, &key).await.unwrap();
        let _ = store.put(&key, bytes, &headers, Condition::Always).await.unwrap();
    });
}

#[test]
fn headers_are_made_what_they_should_be() {
    let scene = scene();
    scene.run(&["publish", BUCKET]).ok();
    let direct = Faulty::start(&scene.buckets, |_| None);
    let renewed = through(&scene, &direct, &["--headers"]).ok();
    assert!(renewed.stderr.contains("looked at all headers"), "{renewed}");
    // But for who is at work there.
    let puts = |faulty: &Faulty| {
        let puts = faulty.requests().into_iter().filter(|seen| seen.method == "PUT").map(|seen| seen.target);
        puts.filter(|target| !target.contains("/.roadstead/writers/")).collect::<Vec<_>>()
    };
    assert!(puts(&direct).is_empty(), "all are right: {:?}", puts(&direct));

    // What older rules wrote: a tag that caches may keep for a day, and a blob that they may not.
    let format = scene.buckets.folder("images").join("tree/.roadstead/format");
    let other = Faulty::start(&scene.buckets, |_| None);
    let tag = "v2/app/manifests/1".to_owned();
    let blob = format!("v2/app/blobs/{}", image("one").manifest.layers()[0].digest);
    [&tag, &blob].into_iter().for_each(|name| caught_for_a_day(&scene, name));
    let nothing = through(&scene, &other, &[]).ok();
    assert!(nothing.stderr.contains("nothing has changed") && puts(&other).is_empty(), "{nothing}");
    let said = fs::read_to_string(&format).unwrap();
    fs::write(&format, said.replace(r#"{"format":1"#, r#"{"format":1,"headers":0"#)).unwrap();
    let renewing = Faulty::start(&scene.buckets, |_| None);
    through(&scene, &renewing, &[]).ok();
    let mut changed = puts(&renewing);
    changed.sort();
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert!(changed[1].contains("/blobs/sha256") && changed[2].ends_with("/manifests/1"), "{changed:?}");
    assert_eq!(fs::read_to_string(&format).unwrap(), said, "what else it says stays");
    let heads: Vec<_> = {
        let again = Faulty::start(&scene.buckets, |_| None);
        through(&scene, &again, &[]).ok();
        again.requests().into_iter().map(|seen| seen.method).collect()
    };
    assert_eq!(heads, ["GET", "GET", "GET"], "the format, and two lists");
    scene.run(&["--tree", BUCKET, "verify"]).ok();
}

#[test]
fn caches_are_told_what_has_changed() {
    let scene = scene();
    let told = scene.place.path().join("told");
    let command = format!("cat > {}", told.display());
    let first = scene.run(&["publish", BUCKET, "--purge", &command]).ok();
    let paths =
        "/v2/_catalog\n/v2/app/manifests/1\n/v2/app/tags/list\n/v2/org/tool/manifests/1\n/v2/org/tool/tags/list\n";
    assert_eq!(first.text(), paths);
    assert_eq!(fs::read_to_string(&told).unwrap(), paths);
    fs::remove_file(&told).unwrap();
    scene.run(&["publish", BUCKET, "--purge", &command]).ok();
    assert!(!told.exists(), "nothing has changed");
    scene.run(&["tag", "app:1", "app:2"]).ok();
    let failed = scene.run(&["publish", BUCKET, "--prefix", "", "--purge", "exit 3"]);
    assert_eq!(failed.code(), 1, "{failed}");
    assert!(failed.stderr.contains("everything is published, but caches were not told"), "{failed}");
    assert_eq!(failed.text(), "/v2/app/manifests/2\n/v2/app/tags/list\n");
}

#[test]
fn a_prefix_may_be_an_option() {
    let scene = scene();
    scene.run(&["publish", "s3://images", "--prefix", "tree", "--max-bandwidth", "1G"]).ok();
    scene.run(&["diff", "registry", BUCKET]).ok();
}

/// A site whose blobs its host doesn't take, and where they are: in one run, the blobs first.
#[test]
fn a_site_and_its_blobs_elsewhere_in_one_run() {
    let scene = scene();
    let site = ["publish", "site:site", "--host", "cloudflare-pages", "--blobs-at", "https://blobs.example"];
    let ran = scene.run(&[&site[..], &["--blobs-to", BUCKET]].concat()).ok();
    assert!(ran.stderr.contains("s3://images/tree: wrote"), "{ran}");
    scene.run(&["diff", "registry", BUCKET]).ok();
    let public = scene.place.path().join("site/public");
    assert!(public.join("v2/app/manifests/1").is_file() && !public.join("v2/app/blobs").exists());
    let refused = scene.run(&["publish", BUCKET, "--blobs-to", BUCKET]);
    assert_eq!(refused.code(), 2, "{refused}");
}

/// The same with nothing but the bucket's name, if everybody may read what is in it.
#[test]
fn a_site_and_its_blobs_in_a_public_bucket() {
    let scene = scene();
    let site = ["publish", "site:site", "--host", "netlify", "--blobs-at", "s3://images"];
    let folder = scene.place.path().join("site/public");
    let closed = scene.run(&site);
    assert_eq!(closed.code(), 5, "{closed}");
    let url = format!("{}/images", scene.buckets.url());
    assert!(closed.stderr.contains(&format!("can't pull from {url}: let everybody read")), "{closed}");
    assert!(closed.stderr.contains("--blobs-at URL --blobs-to s3://images"), "{closed}");
    assert!(!folder.exists(), "the site must not name what nobody may read");
    open_to_all(&scene);
    let ran = scene.run(&site).ok();
    assert!(!folder.join("v2/app/blobs").exists() && folder.join("v2/app/manifests/1").is_file(), "{ran}");
    let redirects = fs::read_to_string(folder.join("_redirects")).unwrap();
    assert!(redirects.contains(&format!("{url}/v2/app/blobs/")), "{redirects}");
    scene.run(&["diff", "registry", "s3://images"]).ok();

    for (option, value) in [("--blobs-to", "mirror"), ("--name-prefix", "mirror")] {
        let refused = scene.run(&[&site[..], &[option, value]].concat());
        assert_eq!(refused.code(), 2, "{refused}");
        assert!(refused.stderr.contains(&format!("{option} doesn't go with --blobs-at s3://images")), "{refused}");
    }
    // Cloudflare's redirects lead to https:// alone, and nothing is sent before that is said.
    let calls = scene.buckets.calls().len();
    let plain = scene.run(&["publish", "site:other", "--host", "cloudflare-pages", "--blobs-at", "s3://images"]);
    assert_ne!(plain.code(), 0, "{plain}");
    assert_eq!(scene.buckets.calls().len(), calls, "{plain}");
}

/// Lets anybody read below `v2/`, and list, which makes what is missing missing.
pub(crate) fn open_to_all(scene: &Scene) {
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
         "Resource":["arn:aws:s3:::images/v2/","arn:aws:s3:::images/v2/*"]},
        {"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::images"}]}"#;
    let file = scene.place.path().join("policy.json");
    fs::write(&file, policy).unwrap();
    let keys = format!("{}:{}", Buckets::ID, Buckets::SECRET);
    let sum = Algorithm::Sha256.digest(policy.as_bytes()).to_string().replace("sha256:", "x-amz-content-sha256: ");
    let put = Invocation::new(part::installed("curl"))
        .args([
            "-sSf",
            "-H",
            &sum,
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "--user",
            &keys,
            "-X",
            "PUT",
            "--data-binary",
        ])
        .args([&format!("@{}", file.display()), &format!("{}/images?policy=", scene.buckets.url())]);
    put.run().unwrap_or_else(|failure| panic!("{failure}"));
}

/// The jobs of the page: they are YAML, and what they run is run, but for the names of places.
#[test]
fn the_jobs_of_the_page_as_they_stand() {
    let read = "import json, sys, yaml\n\
        job = yaml.safe_load(open(sys.argv[1]))\n\
        steps = [s['run'] for j in job.get('jobs', {}).values() for s in j['steps'] if 'run' in s]\n\
        steps += [line for j in job.values() if isinstance(j, dict) for line in j.get('script', [])]\n\
        print(json.dumps(steps))";
    let page = include_str!("../../../../docs/publish.md");
    for name in ["github-actions.yml", "gitlab-ci.yml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/ci").join(name);
        assert!(page.contains(&format!("ci/{name}")), "{name} is not on the page");
        let printed = Invocation::new(part::installed("python3")).arg("-c").arg(read).arg(&file).run();
        let printed = printed.unwrap_or_else(|failure| panic!("{name}: {failure}")).stdout;
        let steps: Vec<String> = serde_json::from_str(&printed).unwrap();
        let scene = scene();
        let mut ours = 0;
        for line in steps.iter().flat_map(|step| step.lines()).filter(|line| line.starts_with("roadstead publish")) {
            ours += 1;
            let line = line.replace("s3://my-images", "s3://images");
            let line = line.split(" --check").next().unwrap();
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            scene.run(&words).ok();
            scene.run(&["diff", "registry", "s3://images"]).ok();
        }
        assert!(ours > 0, "{name} publishes nothing: {steps:?}");
    }
}
