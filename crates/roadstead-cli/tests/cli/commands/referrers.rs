//! What refers to an image, from the registry into the tree and onto the screen.

use super::*;

/// A registry with a signed index, in all the ways in which one is signed.
struct Signed {
    place: Place,
    words: Words,
    authority: String,
    _registry: (Place, Served),
}

impl Signed {
    fn new() -> Self {
        let image = |platform: &'static str| {
            let image = ImageBuilder::new().platform(platform).layer(platform).layer("both");
            image.entrypoint(&["/bin/app", "--in a word"]).label("line", "one\n\u{1b}[31mtwo").build()
        };
        let (amd64, arm64) = (image("linux/amd64"), image("linux/arm64"));
        let index = IndexBuilder::new().attested_image(amd64.clone()).image(arm64).annotation("by", "us").build();
        let referrer = |artifact_type: &str, subject: &Image| {
            let artifact = ImageBuilder::new().artifact_type(artifact_type).annotation("of", artifact_type);
            artifact.blob("text/plain", artifact_type.to_owned()).subject(&subject.descriptor()).build()
        };
        let bom = referrer("application/spdx+json", &amd64);
        let bom_signature = referrer("application/vnd.example.signature", &bom);
        let signature = referrer("application/vnd.example.signature", &index);
        let cosign =
            ImageBuilder::new().blob("application/vnd.dev.cosign.simplesigning.v1+json", "{}".to_owned()).build();
        let source = MemorySource::new();
        source.add("app:1", &index);
        for artifact in [&bom, &bom_signature, &signature] {
            source.add("app", artifact);
        }
        source.add(&format!("app:sha256-{}.sig", index.digest().hex()), &cosign);
        let registry = Place::new();
        write_tree(&registry.tree(), &source);
        let (served, authority) = registry.serve(&registry.tree());
        let place = Place::new();
        let named = [
            ("index", &index),
            ("bom", &bom),
            ("bom-signature", &bom_signature),
            ("signature", &signature),
            ("cosign", &cosign),
        ];
        let mut words = Words::of(&place, &named);
        words.say(&authority, "REGISTRY");
        words.say(&index.digest().hex(), "<index>");
        Self { place, words, authority, _registry: (registry, served) }
    }

    #[track_caller]
    fn check(&self, arguments: &[&str], expected: Expect) {
        let arguments: Vec<String> = arguments.iter().map(|word| word.replace("REGISTRY", &self.authority)).collect();
        snapshot(&self.words, &self.place.run(&arguments), expected);
    }
}

#[test]
fn a_signed_index_with_all_that_refers_to_it() {
    let scene = Signed::new();
    scene.check(
        &["add", "--referrers", "REGISTRY/app:1"],
        expect![[r#"
            $ roadstead add --referrers REGISTRY/app:1
            app:1@sha256:<index>
            --- stderr
            REGISTRY/app:1 is sha256:<index>
              <bom-config>      2 B
              <bom-layer-0>     21 B
              <bom-signature-layer-0>     33 B
              <cosign-config>    276 B
              <index-child-0-config>    496 B
              <index-child-0-layer-0>    104 B
              <index-child-0-layer-1>     97 B
              <index-child-1-config>    280 B
              <index-child-1-layer-0>    292 B
              <index-child-2-config>    496 B
              <index-child-2-layer-0>    104 B
            11 blobs copied (2.20 kB), 5 already there (136 B), TIME s
            with 4 referrers
        "#]],
    );
    scene.check(
        &["list"],
        expect![[r#"
            $ roadstead list
            REPOSITORY   TAG   DIGEST         TYPE
            app          1     <index>   OCI index
        "#]],
    );
    scene.check(
        &["list", "--all", "--flat"],
        expect![[r#"
            $ roadstead list --all --flat
            app:1
            app:sha256-<index>.sig
            app@sha256:<bom>
            app@sha256:<index-child-2>
            app@sha256:<bom-signature>
            app@sha256:<signature>
            app@sha256:<index-child-0>
            app@sha256:<index-child-1>
        "#]],
    );
    scene.check(
        &["inspect", "app:1"],
        expect![[r#"
        $ roadstead inspect app:1
        Name:        app:1
        Digest:      sha256:<index>
        Type:        application/vnd.oci.image.index.v1+json
        Size:        4.26 kB
        Annotations: by=us
        Manifests:   linux/amd64   sha256:<index-child-0>    1.25 kB   application/vnd.oci.image.manifest.v1+json
                     attestation   sha256:<index-child-1>      958 B   application/vnd.oci.image.manifest.v1+json
                     linux/arm64   sha256:<index-child-2>    1.25 kB   application/vnd.oci.image.manifest.v1+json
        Referrers:   application/vnd.example.signature                  sha256:<signature>
                     application/vnd.dev.cosign.simplesigning.v1+json   sha256:<cosign>   sig
                     linux/amd64
                       application/spdx+json                            sha256:<bom>
                         application/vnd.example.signature              sha256:<bom-signature>
    "#]],
    );
    scene.check(
        &["inspect", "app:1", "--platform", "linux/amd64"],
        expect![[r#"
            $ roadstead inspect app:1 --platform linux/amd64
            Name:        app:1
            Digest:      sha256:<index-child-0>
            Type:        application/vnd.oci.image.manifest.v1+json
            Platform:    linux/amd64
            Size:        1.25 kB
            Created:     1970-01-01T00:00:00Z
            Entrypoint:  ["/bin/app","--in a word"]
            Labels:      line=one\n\u{1b}[31mtwo
            Config:      sha256:<index-child-0-config>      496 B   application/vnd.oci.image.config.v1+json
            Layers:      sha256:<index-child-0-layer-0>      104 B   application/vnd.oci.image.layer.v1.tar+gzip
                         sha256:<index-child-0-layer-1>       97 B   application/vnd.oci.image.layer.v1.tar+gzip
            History:     1970-01-01      104 B   roadstead testing
                         1970-01-01       97 B   roadstead testing
            Referrers:   application/spdx+json                 sha256:<bom>
                           application/vnd.example.signature   sha256:<bom-signature>
        "#]],
    );
    scene.check(
        &["inspect", "app:1", "--platform", "linux/amd64", "--format", "json"],
        expect![[r#"
        $ roadstead inspect app:1 --platform linux/amd64 --format json
        {
          "name": "app:1",
          "platform": "linux/amd64",
          "digest": "sha256:<index-child-0>",
          "mediaType": "application/vnd.oci.image.manifest.v1+json",
          "size": 554,
          "totalSize": 1251,
          "config": {
            "digest": "sha256:<index-child-0-config>",
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "size": 496
          },
          "image": {
            "created": "1970-01-01T00:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {
              "Entrypoint": [
                "/bin/app",
                "--in a word"
              ],
              "Labels": {
                "line": "one\n\u001b[31mtwo"
              }
            },
            "rootfs": {
              "type": "layers",
              "diff_ids": [
                "sha256:779b3777066ac65a0e8a282d43cca09bdfa8b8f698ed05d61e5ad197fd121bef",
                "sha256:ae9089911347d76ce97e94064aa412aa433377e99f3068016fd74c2d64c5f5da"
              ]
            },
            "history": [
              {
                "created": "1970-01-01T00:00:00Z",
                "created_by": "roadstead testing"
              },
              {
                "created": "1970-01-01T00:00:00Z",
                "created_by": "roadstead testing"
              }
            ]
          },
          "layers": [
            {
              "digest": "sha256:<index-child-0-layer-0>",
              "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
              "size": 104
            },
            {
              "digest": "sha256:<index-child-0-layer-1>",
              "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
              "size": 97
            }
          ],
          "referrers": [
            {
              "digest": "sha256:<bom>",
              "mediaType": "application/vnd.oci.image.manifest.v1+json",
              "size": 605,
              "artifactType": "application/spdx+json",
              "annotations": {
                "of": "application/spdx+json"
              },
              "referrers": [
                {
                  "digest": "sha256:<bom-signature>",
                  "mediaType": "application/vnd.oci.image.manifest.v1+json",
                  "size": 629,
                  "artifactType": "application/vnd.example.signature",
                  "annotations": {
                    "of": "application/vnd.example.signature"
                  }
                }
              ]
            }
          ]
        }
    "#]],
    );
    scene.check(
        &["inspect", "app:1", "--platform", "linux/s390x"],
        expect![[r#"
        $ roadstead inspect app:1 --platform linux/s390x
        --- stderr
        error: app:1 for linux/s390x is not in the tree
          hint: `roadstead list` shows what there is
        --- exit code 3
    "#]],
    );
    scene.check(
        &["inspect", "app:1", "--config"],
        expect![[r#"
        $ roadstead inspect app:1 --config
        --- stderr
        error: app:1 has no config; of an index, --platform OS/ARCH chooses an image that has one
        --- exit code 1
    "#]],
    );
    scene.check(&["inspect", "app:1", "--config", "--platform", "linux/arm64"], expect![[r#"
        $ roadstead inspect app:1 --config --platform linux/arm64
        {"created":"1970-01-01T00:00:00Z","architecture":"arm64","os":"linux","config":{"Entrypoint":["/bin/app","--in a word"],"Labels":{"line":"one\n\u001b[31mtwo"}},"rootfs":{"type":"layers","diff_ids":["sha256:d2fb3d4d27182c88f891a5a1229917554e55dc657eaecf967d6a04f0474b07a9","sha256:ae9089911347d76ce97e94064aa412aa433377e99f3068016fd74c2d64c5f5da"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"roadstead testing"},{"created":"1970-01-01T00:00:00Z","created_by":"roadstead testing"}]}
    "#]]);
}
