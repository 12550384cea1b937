//! What each client pushes, every other pulls: from the server that took it, and from nginx over the same folder; where
//! the tree is in a bucket, also from another server over it, and from the bucket itself.

use std::fs;

use roadstead::testing::{Format, Image, ImageBuilder, IndexBuilder, MemorySource};
use roadstead_parts::{
    BucketServer, Buckets, Buildah, Buildkit, Bundle, Client, Containerd, Cosign, Crane, Dockerd, Folder, Invocation,
    Isolation, Nginx, Oras, Port, Pusher, Served, Skopeo, clients, part, pushers,
};

use crate::matrix::alone_in_the_engines;
use crate::support::{Place, Ran, write_tree};

/// A registry that takes pushes, and what else shows its tree.
struct Registry {
    place: Place,
    _served: Vec<Served>,
    serve: String,
    /// A server that takes none.
    second: Option<String>,
    nginx: Option<Nginx>,
    buckets: Option<Buckets>,
}

const BUCKET: &str = "s3://images";

/// What says where buckets are, and who asks.
fn variables(buckets: &Buckets) -> [(&'static str, String); 4] {
    [
        ("AWS_ENDPOINT_URL", buckets.url()),
        ("AWS_ACCESS_KEY_ID", Buckets::ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", Buckets::SECRET.to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
    ]
}

impl Registry {
    /// Nginx is over the same folder.
    fn start() -> Self {
        let place = Place::new();
        let (served, serve) = place.serve_pushes();
        let port = Port::free();
        let config = place.run(&["config", "nginx", "--listen", &port.address().to_string()]).ok();
        let nginx = Some(Nginx::start_http(config.text(), port));
        Self { place, _served: vec![served], serve, second: None, nginx, buckets: None }
    }

    /// The tree is in a bucket.
    fn start_over_bucket() -> Self {
        let (place, buckets) = (Place::new(), BucketServer::Versitygw.start(&["images"]));
        let serve = |more: &[&str]| {
            let port = Port::free();
            let authority = port.address().to_string();
            let serve = Invocation::new(env!("CARGO_BIN_EXE_roadstead"));
            let serve = serve.args(["--tree", BUCKET, "serve", "--listen", &authority]).args(more);
            let serve = variables(&buckets).into_iter().fold(serve, |serve, (name, value)| serve.env(name, value));
            (Served::start(&serve, Isolation::None, Folder::new(), || port.answers()), authority)
        };
        let state = place.path().join("state").display().to_string();
        let (first, authority) = serve(&["--push", "--anonymous-push", "--allow-delete", "--state", &state]);
        let (second, other) = serve(&[]);
        let _served = vec![first, second];
        Self { place, _served, serve: authority, second: Some(other), nginx: None, buckets: Some(buckets) }
    }

    /// The same, where everybody may pull from the bucket as `config s3` lets them.
    fn start_over_public_bucket() -> Self {
        let registry = Self::start_over_bucket();
        let buckets = registry.buckets.as_ref().unwrap();
        let script = registry.run(&["--tree", BUCKET, "config", "s3"]).ok();
        let shell = Invocation::new(part::installed("sh")).env("ENDPOINT_URL", buckets.url());
        let shell = variables(buckets).into_iter().fold(shell, |shell, (name, value)| shell.env(name, value));
        let file = Folder::new();
        shell.env("HOME", file.path()).arg(file.write("public.sh", script.text())).run().unwrap();
        // Clients ask for /v2/ where a name begins, which here is that of another server.
        let port = Port::free();
        let at = port.address();
        let http = format!("server {{ listen {at}; location / {{ proxy_pass {}/images/; }} }}", buckets.url());
        Self { nginx: Some(Nginx::start_http(&http, port)), ..registry }
    }

    /// Runs the binary over the tree.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.place.command(arguments);
        if let Some(buckets) = &self.buckets {
            command.env("ROADSTEAD_TREE", BUCKET).envs(variables(buckets));
        }
        Ran::of(&mut command)
    }

    /// Where it is pulled from.
    fn authorities(&self) -> Vec<String> {
        let nginx = self.nginx.as_ref().map(Nginx::authority);
        [Some(self.serve.clone()), self.second.clone(), nginx].into_iter().flatten().collect()
    }

    /// The digest of what a name leads to.
    fn digest(&self, name: &str) -> String {
        let inspected = self.run(&["inspect", "--format", "json", name]).ok();
        let json: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
        json["digest"].as_str().unwrap().to_owned()
    }
}

/// A registry that everybody reads: for each name an image for this platform, and `index:1` for several.
fn others(names: &[String]) -> (Place, Served, String, Image) {
    let (place, source) = (Place::new(), MemorySource::new());
    let native = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    for name in names {
        // Nobody else's layers, so that what pulls it has to fetch them.
        let image =
            ImageBuilder::new().platform(native).greeting(&format!("pushed by {name}\n")).format(Format::Docker);
        source.add(&format!("{name}:1"), &image.build());
    }
    let platforms = ["linux/amd64", "linux/arm64"]
        .map(|platform| ImageBuilder::new().platform(platform).greeting("pushed for several platforms\n").build());
    let index = platforms.into_iter().fold(IndexBuilder::new(), IndexBuilder::image).build();
    source.add("index:1", &index);
    write_tree(&place.tree(), &source);
    let (served, authority) = place.serve(&place.tree());
    (place, served, authority, index)
}

/// What a repository may be called that a client pushes to: `docker (20.10)` becomes `docker-20-10`.
fn repository(client: &dyn Client) -> String {
    let words = client.name().split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// Lets every pusher push, and every puller pull all of it from everywhere. Programs that keep whole indexes push one,
/// too.
fn push_and_pull(registry: &Registry, pushers: &[&dyn Pusher], pullers: &[&dyn Client], whole: &[&dyn Pusher]) {
    let _alone = alone_in_the_engines();
    let names: Vec<String> = pushers.iter().map(|pusher| repository(*pusher)).collect();
    let (_others, _from, from, index) = others(&names);
    let push = |pusher: &dyn Pusher, name: &str, to: &str| {
        let (from, to) = (format!("{from}/{name}:1"), format!("{}/by/{to}", registry.serve));
        pusher.push(&from, &to).unwrap_or_else(|failure| panic!("{}, {from}: {failure}", pusher.name()));
    };
    let mut pushed = Vec::new();
    for (pusher, name) in pushers.iter().zip(&names) {
        push(*pusher, name, &format!("{name}:1"));
        // A second time everything is there.
        push(*pusher, name, &format!("{name}:2"));
        pushed.push(format!("by/{name}:1"));
    }
    for pusher in whole {
        let name = format!("{}/index:1", repository(*pusher));
        push(*pusher, "index", &name);
        assert_eq!(registry.digest(&format!("by/{name}")), index.digest().to_string(), "{}", pusher.name());
        pushed.push(format!("by/{name}"));
    }
    registry.run(&["verify"]).ok();

    // Some say what they chose from an index, and not what that was.
    let chosen: Vec<String> = index.manifests().map(|manifest| manifest.digest().to_string()).collect();
    for authority in registry.authorities() {
        for name in &pushed {
            let (reference, expected) = (format!("{authority}/{name}"), registry.digest(name));
            for client in pullers {
                let pulled = client.pull(&reference).unwrap_or_else(|e| panic!("{} {reference}: {e}", client.name()));
                let is_right = |digest: &String| {
                    *digest == expected || expected == index.digest().to_string() && chosen.contains(digest)
                };
                assert!(pulled.digests.iter().any(is_right), "{} {reference}: {:?}", client.name(), pulled.digests);
                client.forget(&reference).unwrap();
            }
            // And ourselves.
            let added = Place::new().run(&["add", "-q", &reference]).ok();
            assert!(added.text().trim().ends_with(&expected), "{added}");
        }
    }
}

#[test]
fn what_each_client_pushes_all_others_pull() {
    let pullers: Vec<&dyn Client> = clients().into_iter().chain([Buildah::shared() as &dyn Client]).collect();
    let [.., skopeo, crane, oras] = pushers();
    push_and_pull(&Registry::start(), &pushers(), &pullers, &[skopeo, crane, oras]);
}

#[test]
fn what_each_client_pushes_into_a_bucket_all_others_pull() {
    let pullers: Vec<&dyn Client> = clients().into_iter().chain([Buildah::shared() as &dyn Client]).collect();
    let [.., skopeo, crane, oras] = pushers();
    push_and_pull(&Registry::start_over_bucket(), &pushers(), &pullers, &[skopeo, crane, oras]);
}

#[test]
#[ignore = "needs the aws command, which takes long to install"]
fn what_clients_push_into_a_bucket_others_pull_from_it_without_us() {
    let [.., skopeo, crane, oras] = pushers();
    // Others won't take the types of lists, which are the service's to say.
    let pullers: [&dyn Client; 3] = [&Skopeo, &Crane, &Oras];
    push_and_pull(&Registry::start_over_public_bucket(), &[skopeo, crane, oras], &pullers, &[skopeo, crane, oras]);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn what_the_newest_engines_push_all_others_pull_and_they_what_others_push() {
    let (docker, containerd) = (Dockerd::start_29(), Containerd::start_2());
    let cri = containerd.cri();
    let newest: [&dyn Client; 3] = [&docker, &containerd, &cri];
    let all: Vec<&dyn Client> = clients().into_iter().chain(newest).collect();
    push_and_pull(&Registry::start(), &[&docker, &containerd], &all, &[]);
    push_and_pull(&Registry::start(), &pushers(), &newest, &[]);
}

#[test]
fn what_oras_pushes_and_attaches_is_found() {
    pushed_and_attached(&Registry::start());
}

#[test]
fn what_oras_pushes_and_attaches_in_a_bucket_is_found() {
    pushed_and_attached(&Registry::start_over_bucket());
}

fn pushed_and_attached(registry: &Registry) {
    let file = registry.place.path().join("file.txt");
    fs::write(&file, "an artifact").unwrap();
    let file = format!("{}:text/plain", file.display());
    let oras = |arguments: &[&str]| {
        let options = ["--plain-http", "--disable-path-validation"];
        Oras.oras(&[&arguments[..1], &options, &arguments[1..]].concat()).unwrap().stdout
    };
    let artifact = format!("{}/artifact:1", registry.serve);
    oras(&["push", &artifact, &file]);
    let attach = |to: &str, artifact_type: &str| {
        let said = ["attach", "--format=go-template={{.digest}}", "--artifact-type", artifact_type, to, &file];
        oras(&said).trim().to_owned()
    };
    let note = attach(&artifact, "application/vnd.example.note");
    // To what is attached something may be attached.
    let of_note = attach(&format!("{}/artifact@{note}", registry.serve), "application/vnd.example.of-note");
    for authority in registry.authorities() {
        Oras.pull(&format!("{authority}/artifact:1")).unwrap();
        let found = Oras.oras(&["discover", "--plain-http", "--format=tree", &format!("{authority}/artifact:1")]);
        let found = found.unwrap().stdout;
        for expected in [&note, &of_note, "application/vnd.example.note", "application/vnd.example.of-note"] {
            assert!(found.contains(expected), "{authority}: {expected} is missing\n{found}");
        }
    }
    registry.run(&["verify"]).ok();
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn what_cosign_signs_is_verified() {
    let (_others, _from, from, _) = others(&[]);
    let registry = Registry::start();
    let (cosign, stranger) = (Cosign::new(), Cosign::new());
    for bundle in Bundle::ALL {
        let name = format!("signed-{bundle:?}").to_lowercase();
        roadstead_parts::Crane.push(&format!("{from}/index:1"), &format!("{}/{name}:1", registry.serve)).unwrap();
        // By its digest, as cosign wants it; a second signature goes beside the first.
        let signed = format!("{}/{name}@{}", registry.serve, registry.digest(&format!("{name}:1")));
        for signer in [&cosign, &stranger] {
            signer.sign(&signed, bundle).unwrap();
        }
        for authority in registry.authorities() {
            let reference = format!("{authority}/{name}:1");
            for signer in [&cosign, &stranger] {
                signer.verify(&reference, bundle).unwrap_or_else(|failure| panic!("{bundle:?}: {failure}"));
            }
            Cosign::new().verify(&reference, bundle).expect_err("nobody signed it with that key");
        }
    }
    registry.run(&["verify"]).ok();
}

#[test]
#[ignore = "needs helm, which takes long to build"]
fn what_helm_pushes_is_installed() {
    let (registry, folder) = (Registry::start(), Folder::new());
    let helm =
        |arguments: &[&str]| Invocation::new(part::built("bin/helm")).env("HOME", folder.path()).args(arguments).run();
    let at = |name: &str| folder.join(name).display().to_string();
    helm(&["create", &at("chart")]).unwrap();
    helm(&["package", &at("chart"), "--destination", &at("packed")]).unwrap();
    helm(&["push", "--plain-http", &at("packed/chart-0.1.0.tgz"), &format!("oci://{}/charts", registry.serve)])
        .unwrap();
    for authority in registry.authorities() {
        let chart = format!("oci://{authority}/charts/chart");
        let rendered = helm(&["template", "--plain-http", "--version", "0.1.0", "name", &chart]).unwrap().stdout;
        assert!(rendered.contains("kind: Deployment"), "{authority}: {rendered}");
    }
    registry.run(&["verify"]).ok();
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn what_buildkit_pushes_runs_and_its_cache_is_used() {
    let _alone = alone_in_the_engines();
    let (registry, context, further) = (Registry::start(), Folder::new(), Folder::new());
    fs::copy(part::built("bin/busybox"), context.join("busybox")).unwrap();
    let made = r#"RUN ["/busybox", "sh", "-c", "echo built > /made"]"#;
    let cmd = r#"CMD ["/busybox", "cat", "/made"]"#;
    context.write("Dockerfile", format!("FROM scratch\nCOPY busybox /busybox\n{made}\n{cmd}\n"));
    let cache = |authority: &str| format!("type=registry,ref={authority}/built/cache:1,registry.insecure=true");
    let pushed = format!("type=image,name={}/built/app:1,push=true,registry.insecure=true", registry.serve);
    let export = format!("{},mode=max", cache(&registry.serve));
    let built = Buildkit::start().build(context.path(), &["--output", &pushed, "--export-cache", &export]).unwrap();
    assert!(!built.stderr.contains("CACHED"), "{}", built.stderr);
    registry.run(&["verify"]).ok();
    for authority in registry.authorities() {
        // It has nothing but what it is told where to find, and needs all of that to write the image.
        let fresh = Buildkit::start();
        let image = format!("type=oci,dest={}", further.join("image.tar").display());
        let from_cache = ["--import-cache", &cache(&authority), "--output", &image];
        let built = fresh.build(context.path(), &from_cache).unwrap().stderr;
        assert_eq!(built.matches("CACHED").count(), 2, "{authority}: {built}");
        further.write("Dockerfile", format!("FROM {authority}/built/app:1\nCOPY Dockerfile /\n"));
        Buildkit::start().build(further.path(), &["--output", &image]).unwrap();

        let reference = format!("{authority}/built/app:1");
        for client in clients() {
            client.pull(&reference).unwrap_or_else(|failure| panic!("{}, {authority}: {failure}", client.name()));
            if let Some(engine) = client.engine() {
                assert_eq!(engine.run(&reference).unwrap(), "built\n", "{}, {authority}", client.name());
            }
            client.forget(&reference).unwrap();
        }
    }
}
