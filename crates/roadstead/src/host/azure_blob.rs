//! Azure Blob Storage: the static website of an account, that is the container `$web`.
//!
//! Media types stand with each object, so they are said when a file is uploaded: a script does that with the vendor's command,
//! one call for each media type, what others name first.

use std::collections::BTreeMap;

use super::{ConfigFile, FileText, Group, Host, Unsupported, bucket, plain};
use crate::oci::{MediaType, Reference, Repository};
use crate::site::{Named, Site};
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

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        plain::begin_without_redirects(self, site, "it has no redirects; another host of plain files has")?;
        Ok(vec![
            ConfigFile {
                name: "upload.sh".to_owned(),
                place: "uploads the folder `public` beside it; run it whenever that has changed".to_owned(),
                text: script(site),
            },
            ConfigFile {
                name: "public/404.html".to_owned(),
                place: "what is missing, in the folder of the site".to_owned(),
                text: plain::missing().into(),
            },
        ])
    }
}

/// Names of manifests, without their texts.
type Names<'a> = Vec<(&'a Repository, &'a Reference)>;

fn script(site: &Site) -> FileText<'_> {
    // By digest and then by tag, indexes last: what names something comes after it.
    let indexes = [MediaType::OCI_INDEX, MediaType::DOCKER_LIST];
    let mut batches: BTreeMap<(bool, bool, &MediaType), Names<'_>> = BTreeMap::new();
    for (repository, Named { reference, media_type, .. }) in site.survey.names() {
        let is_tag = matches!(reference, Reference::Tag(_));
        batches.entry((is_tag, indexes.contains(media_type), media_type)).or_default().push((repository, reference));
    }
    FileText::written(move |f| {
        f.write_str(SCRIPT)?;
        if site.cors {
            f.write_str(&cors())?;
        }
        // A name may hold the words of the API, so the last two components decide.
        f.write_str(&found("Blobs", "/blobs/[^/]+$", "application/octet-stream", FOR_EVER))?;
        for ((is_tag, _, media_type), names) in &batches {
            let caching = if *is_tag { SHORTLY } else { FOR_EVER };
            writeln!(f, "upload '{media_type}' '{caching}' <<'PATHS'")?;
            for (repository, reference) in names {
                writeln!(f, "v2/{}/manifests/{reference}", plain::full_name(site, repository))?;
            }
            f.write_str("PATHS\n\n")?;
        }
        let index = "application/vnd.oci.image.index.v1+json";
        f.write_str(&found("Lists of referrers", "/referrers/[^/]+$", index, SHORTLY))?;
        let lists = "/tags/list$|^v2/(_catalog|index[.]html)$";
        let what = "Other lists, and what says that here is a registry";
        f.write_str(&found(what, lists, "application/json", SHORTLY))?;
        f.write_str("printf '404.html\\n' | upload application/json no-cache\n")
    })
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
