//! What uploads or opens a bucket by its vendor's command: run with a stand-in for the command, which notes what it is told.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use roadstead::host;
use roadstead::oci::Reference;
use roadstead::site::Site;
use roadstead_parts::{Folder, Invocation, part};

use super::Hosted;

/// Takes what is uploaded, and writes media type, caching and path of each file, in the order in which they came.
const AZ: &str = r#"#!/bin/sh
set -eu
[ "$1 $2 $3" = "storage blob upload-batch" ] || { echo "$*" >>"$NOTES/calls"; exit 0; }
shift 3
while [ $# -gt 0 ]; do
    case $1 in
    --source) source=$2 ;;
    --content-type) type=$2 ;;
    --content-cache-control) caching=$2 ;;
    --destination) [ "$2" = '$web' ] ;;
    --account-name) [ "$2" = images ] ;;
    --auth-mode | --overwrite) ;;
    --no-progress) shift; continue ;;
    *) echo "unknown: $1" >&2; exit 1 ;;
    esac
    shift 2
done
(cd "$source" && find . -type f) | while IFS= read -r path; do
    printf '%s|%s|%s\n' "$type" "$caching" "${path#./}" >>"$NOTES/uploaded"
done
mkdir -p "$NOTES/web"
cp -R "$source/." "$NOTES/web/"
"#;

/// Notes each call, and what is in the file of a setting.
const GCLOUD: &str = r#"#!/bin/sh
echo "$*" >>"$NOTES/calls"
for argument; do
    case $argument in
    --cors-file=* | --lifecycle-file=*) cp "${argument#*=}" "$NOTES/" ;;
    esac
done
[ "$3" != describe ]
"#;

/// A folder with a command of that name.
fn stand_in(name: &str, text: &str) -> Folder {
    let folder = Folder::new();
    let command = folder.write(name, text);
    fs::set_permissions(command, Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn azure_gets_every_file_with_its_type_and_what_it_names_before() {
    let hosted = Hosted::new("azure-blob", |_, site| site.cors = true);
    let (site, az) = (hosted.folder.join("site"), stand_in("az", AZ));
    let upload = Invocation::new(part::installed("env")).arg("--chdir").arg(&site).args(["sh", "upload.sh"]);
    let upload = upload.path_prefix(az.path()).env("ACCOUNT", "images").env("NOTES", az.path());
    upload.run().unwrap();
    let left: Vec<_> = fs::read_dir(&site).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".upload")), "{left:?}");
    let calls = fs::read_to_string(az.join("calls")).unwrap();
    assert!(calls.contains("--static-website --index-document index.html --404-document 404.html"), "{calls}");

    let (cleared, added) = ("storage cors clear --account-name images --services b", "storage cors add ");
    let cors = calls.lines().find(|call| call.starts_with(added)).unwrap_or_else(|| panic!("{calls}"));
    assert!(calls.find(cleared).unwrap() < calls.find(added).unwrap(), "{calls}");
    for part in ["--account-name images --services b", "--origins * ", "--methods GET HEAD ", "Docker-Content-Digest"] {
        assert!(cors.contains(part), "{part} is missing: {cors}");
    }

    // The last upload of a path counts; there is one of each.
    let text = fs::read_to_string(az.join("uploaded")).unwrap();
    let mut came = BTreeMap::new();
    for (order, line) in text.lines().enumerate() {
        let [media_type, caching, path] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(came.insert(path, (order, media_type, caching)).is_none(), "{path} is uploaded twice");
    }
    let same = Invocation::new(part::installed("diff")).arg("-r").arg(site.join("public")).arg(az.join("web")).run();
    same.unwrap_or_else(|failure| panic!("{failure}"));
    let mut lists = 0;
    for (repository, named) in hosted.site.survey.names() {
        let path = format!("v2/{repository}/manifests/{}", named.reference);
        let (order, media_type, caching) = came[&*path];
        assert_eq!(media_type, named.media_type.as_str(), "{path}");
        let is_tag = matches!(named.reference, Reference::Tag(_));
        assert_eq!(caching.contains("immutable"), !is_tag, "{path}: {caching}");
        if is_tag {
            assert!(came[&*format!("v2/{repository}/manifests/{}", named.digest)].0 < order, "{path}");
        }
        let (listed, list_type, _) = came[&*format!("v2/{repository}/tags/list")];
        assert!(listed > order && list_type == "application/json");
        lists += 1;
    }
    assert!(lists > 300);
    assert_eq!(came["v2/index.html"].1, "application/json");
    for (path, (order, media_type, caching)) in &came {
        if path.rsplit('/').nth(1) == Some("blobs") {
            assert!(caching.contains("immutable") && *media_type == "application/octet-stream", "{path}");
            assert!(*order < came["v2/app/manifests/latest"].0, "{path}");
        }
    }
}

#[test]
fn google_is_told_that_one_folder_is_for_everybody() {
    let gcloud = stand_in("gcloud", GCLOUD);
    let site = Site { root: "gs://my-images".to_owned(), cors: true, ..Site::default() };
    let files = host::find("gcs").unwrap().render(&site).unwrap();
    let script = gcloud.write(&files[0].name, files[0].text.to_string());
    let run = Invocation::new(part::installed("sh")).arg(script).path_prefix(gcloud.path());
    run.env("NOTES", gcloud.path()).run().unwrap();
    let calls = fs::read_to_string(gcloud.join("calls")).unwrap();
    let public = "storage managed-folders add-iam-policy-binding gs://my-images/v2/ --member=allUsers \
                  --role=roles/storage.objectViewer";
    assert!(calls.lines().any(|call| call == public), "{calls}");
    assert!(calls.contains("storage managed-folders create gs://my-images/v2/\n"), "{calls}");
    assert_eq!(calls.matches("allUsers").count(), 1, "nothing else is for everybody: {calls}");
    let setting = |name: &str| -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(gcloud.join(name)).unwrap()).unwrap()
    };
    let cors = setting("cors.json");
    assert_eq!((&cors[0]["origin"][0], &cors[0]["method"]), (&"*".into(), &serde_json::json!(["GET", "HEAD"])));
    assert!(cors[0]["responseHeader"].as_array().unwrap().contains(&"Docker-Content-Digest".into()), "{cors}");
    assert_eq!(setting("lifecycle.json")["rule"][0]["condition"]["age"], 7);
    let with_key = Site { root: "s3://my-images".to_owned(), cors: true, ..Site::default() };
    assert_eq!(host::find("gcs").unwrap().render(&with_key).unwrap()[0].text.to_string(), files[0].text.to_string());
    for root in ["/srv/registry", "gs://my-images/below", "s3://my-images/below", "az://my-images"] {
        assert!(host::find("gcs").unwrap().render(&Site { root: root.to_owned(), ..Site::default() }).is_err());
    }
}
