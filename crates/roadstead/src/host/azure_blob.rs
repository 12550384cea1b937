//! Azure Blob Storage: the static website of an account, that is the container `$web`.
//!
//! Media types stand with each object, so they are said when a file is uploaded: a script does that with the vendor's command,
//! one call for each media type, what others name first.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::budget::Limits;
use super::{ConfigFile, Group, Host, Unsupported, bucket, plain};
use crate::oci::{MediaType, Reference};
use crate::site::{Form, Site};
use crate::tree::{FOR_EVER, SHORTLY};

/// The static website of a storage account.
pub(super) struct AzureBlob;

const NAME: &str = "azure-blob";

const SCRIPT: &str = r#"#!/bin/sh
# Uploads a registry of plain files to the static website of a storage account. Made by roadstead.
#
# Needs the `az` command, logged in as somebody who may write the account's blobs. Run it where the folder `public` is:
# ACCOUNT=name sh upload.sh
set -eu

: "${ACCOUNT:?the name of the storage account}"
staged=$(mktemp -d ./.upload-XXXXXX)
trap 'rm -rf "$staged"' EXIT

# What is asked for and isn't there is 404.html, with 404.
az storage blob service-properties update --account-name "$ACCOUNT" --auth-mode login \
    --static-website --index-document index.html --404-document 404.html >/dev/null

# upload TYPE CACHING: the files of `public` whose paths are read, all with this media type.
upload() {
    rm -rf "$staged/batch"
    while IFS= read -r path; do
        folder=/${path}
        mkdir -p "$staged/batch${folder%/*}"
        ln "public/$path" "$staged/batch/$path"
    done
    [ -d "$staged/batch" ] || return 0
    az storage blob upload-batch --account-name "$ACCOUNT" --auth-mode login --destination '$web' \
        --source "$staged/batch" --content-type "$1" --content-cache-control "$2" --overwrite true --no-progress >/dev/null
}

"#;

impl Host for AzureBlob {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Bucket
    }

    fn summary(&self) -> &'static str {
        "the static website of an Azure storage account (`$web`); plain files"
    }

    fn public(&self) -> Option<&'static str> {
        Some("public")
    }

    fn render(&self, site: &Site) -> Result<Vec<ConfigFile>, Unsupported> {
        let limits = Limits { host: NAME, budgets: self.budgets(), site };
        if site.form != Form::Site {
            return Err(Unsupported::Form { host: NAME, form: site.form });
        }
        for (what, place) in [("--blobs-at", &site.blobs_at), ("--manifests-at", &site.manifests_at)] {
            if let Some(place) = place {
                let problem = "it has no redirects; another host of plain files has";
                return Err(Unsupported::Value { host: NAME, what, value: place.to_string(), problem });
            }
        }
        plain::check_files(&limits, "no redirect of this host can send blobs elsewhere")?;
        Ok(vec![
            ConfigFile {
                name: "upload.sh".to_owned(),
                place: "uploads the folder `public` beside it; run it whenever that has changed".to_owned(),
                text: script(site),
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing(),
            },
        ])
    }
}

fn script(site: &Site) -> String {
    let mut text = SCRIPT.to_owned();
    if site.cors {
        text += &cors();
    }
    // A name may hold the words of the API, so the last two components decide.
    text += &found("Blobs", "/blobs/[^/]+$", "application/octet-stream", FOR_EVER);
    // By digest and then by tag, indexes last: what names something comes after it.
    let indexes = [MediaType::OCI_INDEX, MediaType::DOCKER_LIST];
    let mut batches: BTreeMap<(bool, bool, &MediaType), Vec<String>> = BTreeMap::new();
    for (repository, named) in site.survey.names() {
        let is_tag = matches!(named.reference, Reference::Tag(_));
        let path = format!("v2/{}/manifests/{}", plain::full_name(site, repository), named.reference);
        let key = (is_tag, indexes.contains(&named.media_type), &named.media_type);
        batches.entry(key).or_default().push(path);
    }
    for ((is_tag, _, media_type), paths) in batches {
        let caching = if is_tag { SHORTLY } else { FOR_EVER };
        let _ = write!(text, "upload '{media_type}' '{caching}' <<'PATHS'\n{}\nPATHS\n\n", paths.join("\n"));
    }
    text += &found("Lists of referrers", "/referrers/[^/]+$", "application/vnd.oci.image.index.v1+json", SHORTLY);
    let lists = "/tags/list$|^v2/(_catalog|index[.]html)$";
    text += &found("Other lists, and what says that here is a registry", lists, "application/json", SHORTLY);
    text += "printf '404.html\\n' | upload application/json no-cache\n";
    text
}

/// Lets pages of other origins read. The service has one list of rules for all of an account's blobs.
fn cors() -> String {
    let bucket::Cors { origins, methods, headers, exposed } = bucket::cors();
    let list = |words: Vec<&str>| words.iter().map(|word| format!(" '{word}'")).collect::<String>();
    format!(
        "# Pages of other origins may read. This takes the place of the rules that the account has.\n\
         az storage cors clear --account-name \"$ACCOUNT\" --services b\n\
         az storage cors add --account-name \"$ACCOUNT\" --services b --origins{} --methods{} \\\n    \
         --allowed-headers{} --exposed-headers{} --max-age {}\n\n",
        list(origins),
        list(methods),
        list(headers),
        list(exposed),
        bucket::CORS_SECONDS
    )
}

/// The lines that upload what is found by its path.
fn found(what: &str, expression: &str, media_type: &str, caching: &str) -> String {
    format!(
        "# {what}.\n(cd public && find v2 -type f) | {{ grep -E '{expression}' || true; }} |\n    \
         upload '{media_type}' '{caching}'\n\n"
    )
}
