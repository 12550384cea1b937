//! Each layout keeps the promises of a source, in a folder and, as far as there may be one, in a bucket.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use roadstead::image::Source;
use roadstead::medium::distribution_disk::DistributionDisk;
use roadstead::medium::registrish::Registrish;
use roadstead::medium::static_container_registry::StaticContainerRegistry;
use roadstead::oci::Digest;
use roadstead::testing::Fault;
use roadstead::testing::contract::source::{self, Subject};

use crate::support::{Files, Fixture, data, distribution, fixture, folders, registrish, state, stored, write};

fn subject<'a>(implementation: &'a str, source: &'a dyn Source, fixture: &'a Fixture) -> Subject<'a> {
    Subject {
        implementation,
        source,
        repository: "org/app".parse().expect("a name"),
        tag: "1".parse().expect("a tag"),
        image: &fixture.image,
        referrers: Some(vec![fixture.referrer.digest()]),
    }
}

/// Makes a file go wrong.
fn spoil(path: &Path, right: &[u8], fault: Option<Fault>) {
    let mut bytes = right.to_vec();
    match fault {
        None => {}
        Some(Fault::WrongBytes) => bytes[0] ^= 1,
        Some(Fault::Short) => bytes.truncate(bytes.len() - 1),
        Some(Fault::Cut) => bytes.truncate(bytes.len() / 2),
        Some(Fault::Long) => bytes.push(b' '),
        Some(Fault::Missing) => return fs::remove_file(path).expect("it is there"),
        Some(Fault::NeverEnding) => {
            return File::create(path).expect("a file").set_len(1 << 40).expect("a file of no blocks");
        }
    }
    fs::write(path, bytes).expect("a file");
}

/// Reading changes nothing, and every fault of a file shows.
async fn keeps_its_promises(
    implementation: &str,
    source: &dyn Source,
    fixture: &Fixture,
    folder: &Path,
    files: &Files,
    path: impl Fn(&Digest) -> String,
) {
    let before = state(folder);
    let subject = subject(implementation, source, fixture);
    source::run_all(&subject).await;
    assert_eq!(state(folder), before, "{implementation}: something was written");
    source::faults_show(&subject, &|digest, fault| {
        let name = path(&digest);
        spoil(&folder.join(&name), &files[&name], fault);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registrys_storage() {
    let (fixture, folder) = (fixture(), tempfile::tempdir().unwrap());
    let files = distribution("org/app", &fixture.tagged());
    write(folder.path(), &files);
    let source = DistributionDisk::open(folder.path()).await.unwrap();
    keeps_its_promises("a registry's storage", &source, &fixture, folder.path(), &files, data).await;

    for level in ["docker", "docker/registry", "docker/registry/v2"] {
        let inner = folder.path().join(level);
        let source = DistributionDisk::open(&inner).await.unwrap();
        source::run_all(&subject(level, &source, &fixture)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registrys_bucket() {
    let fixture = fixture();
    let store = Arc::new(stored(&distribution("org/app", &fixture.tagged())).await);
    let source = DistributionDisk::in_store(store, "distribution:memory".to_owned()).await.unwrap();
    source::run_all(&subject("a registry's bucket", &source, &fixture)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_for_registrish() {
    let (fixture, folder) = (fixture(), tempfile::tempdir().unwrap());
    let files = registrish("org/app", &fixture.tagged());
    write(folder.path(), &files);
    let source = Registrish::open(folder.path()).await.unwrap();
    let manifests: Vec<Digest> = fixture.image.manifests().map(|manifest| *manifest.digest()).collect();
    let path = |digest: &Digest| {
        let kind = if manifests.contains(digest) { "manifests" } else { "blobs" };
        format!("v2/org/app/{kind}/{digest}")
    };
    keeps_its_promises("a folder for registrish", &source, &fixture, folder.path(), &files, path).await;

    let source = Registrish::open(&folder.path().join("v2")).await.unwrap();
    source::run_all(&subject("registrish's v2", &source, &fixture)).await;
}

/// Its manifests have no names but their tags, so a manifest that was altered is another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_for_static_container_registry() {
    let (fixture, folder) = (fixture(), tempfile::tempdir().unwrap());
    write(folder.path(), &folders("org/app", &fixture.tagged()));
    let before = state(folder.path());
    for inner in ["", "images"] {
        let source = StaticContainerRegistry::open(&folder.path().join(inner)).await.unwrap();
        source::run_all(&subject("a folder for static-container-registry", &source, &fixture)).await;
    }
    assert_eq!(state(folder.path()), before, "something was written");
}
