//! Every source keeps every promise.

use roadstead::testing::contract::source::{self, Subject};
use roadstead::testing::{ImageBuilder, IndexBuilder, Layer, MemorySource, noise};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory() {
    let of = |platform| {
        let large = Layer::new().file("large", noise(1, 300_000), 0o644);
        ImageBuilder::new().layer(large).platform(platform).build()
    };
    let image = IndexBuilder::new().attested_image(of("linux/amd64")).image(of("linux/arm64")).build();
    let referrer = ImageBuilder::new()
        .artifact_type("application/x.y")
        .subject(&image.descriptor())
        .blob("text/plain", "x")
        .build();
    let memory = MemorySource::new();
    memory.add("org/app:1", &image);
    memory.add("org/app", &referrer);
    let subject = Subject {
        implementation: "memory",
        source: &memory,
        repository: "org/app".parse().unwrap(),
        tag: "1".parse().unwrap(),
        image: &image,
        referrers: Some(vec![referrer.digest()]),
    };
    source::run_all(&subject).await;
    source::faults_show(&subject, &|digest, fault| match fault {
        Some(fault) => memory.inject(digest, fault),
        None => memory.mend(),
    })
    .await;
}
