//! Cloudflare R2 behind a Worker: a few lines that run at the edge, over the objects of a tree in a bucket.
//!
//! The Worker is fixed: it is the same whatever the tree holds. Media types come from the objects' `Content-Type`, digests from
//! their metadata, so that no manifest has to be parsed, and ranges are asked of the bucket.

use serde_json::{Map, Value as Json, json};

use super::script::COMMON;
use super::{ConfigFile, Group, Host, Unsupported, bucket, script};
use crate::oci::Repository;
use crate::site::{BAD_REQUEST, BEHIND_THE_END, Form, METHOD_NOT_ALLOWED, PREFLIGHT, RULES, Site, UNREADABLE};

/// R2 behind a Worker.
pub(super) struct R2;

const NAME: &str = "r2";

const SCRIPT: &str = include_str!("r2.js");

impl Host for R2 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn group(&self) -> Group {
        Group::Bucket
    }

    fn summary(&self) -> &'static str {
        "Cloudflare R2 behind a Worker that answers as the API has it, deployed once"
    }

    fn render<'a>(&self, site: &'a Site) -> Result<Vec<ConfigFile<'a>>, Unsupported> {
        if site.form != Form::Site {
            return Err(Unsupported::Form { host: NAME, form: site.form });
        }
        let place = bucket::place(site, NAME)?;
        let prefix = site.name_prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let answer = |of| script::answer(site, of);
        let mut worker = format!("{SCRIPT}\n{COMMON}");
        for (name, value) in [
            ("/*PREFIX*/", json!(prefix)),
            ("/*RULES*/", rules(site)),
            ("/*METHOD_NOT_ALLOWED*/", answer(&METHOD_NOT_ALLOWED)),
            ("/*PREFLIGHT*/", if site.cors { answer(&PREFLIGHT) } else { Json::Null }),
            ("/*BAD_REQUEST*/", answer(&BAD_REQUEST)),
            ("/*UNREADABLE*/", answer(&UNREADABLE)),
            ("/*BEHIND_THE_END*/", json!(BEHIND_THE_END)),
            // The last, since it may hold what looks like one of the others.
            ("/*BELOW*/", json!(place.prefix().map(|prefix| format!("{prefix}/")).unwrap_or_default())),
        ] {
            worker = worker.replacen(name, &format!("{value:#}"), 1);
        }
        let wrangler = format!(
            "# A registry of the objects in an R2 bucket. Made by roadstead.\n\
             name = \"registry\"\n\
             main = \"worker.js\"\n\
             compatibility_date = \"2026-01-01\"\n\
             # For a name of your own: routes = [{{ pattern = \"registry.example\", custom_domain = true }}]\n\
             workers_dev = true\n\n\
             [[r2_buckets]]\n\
             binding = \"TREE\"\n\
             bucket_name = \"{}\"\n",
            place.bucket()
        );
        Ok(vec![
            ConfigFile {
                name: "worker.js".to_owned(),
                place: "the Worker; `wrangler deploy` beside it uploads it".to_owned(),
                text: worker.into(),
            },
            ConfigFile {
                name: "wrangler.toml".to_owned(),
                place: "what the Worker is called, and its bucket; beside worker.js".to_owned(),
                text: wrangler.into(),
            },
        ])
    }
}

/// The rules, in their order.
fn rules(site: &Site) -> Json {
    let mut rules = Vec::new();
    for of in RULES.iter() {
        let mut push = |prefix: Option<&Repository>, mut rule: Map<String, Json>| {
            rule.insert("path".into(), of.pattern.regex(prefix).into());
            rules.push(Json::Object(rule));
        };
        push(site.name_prefix.as_ref(), script::rule(site, of));
        if let Some(Json::Object(missing)) = script::without_prefix(site, of) {
            push(None, missing);
        }
    }
    rules.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_stays_data() {
        let site = Site { root: "s3://my-bucket/a \"b\" ${c} */x".to_owned(), ..Site::default() };
        let files = R2.render(&site).unwrap();
        let [worker, settings] = [0, 1].map(|file: usize| files[file].text.to_string());
        assert!(worker.contains(r#"const BELOW = "a \"b\" ${c} */x/";"#), "{worker}");
        assert!(settings.contains("bucket_name = \"my-bucket\"\n"), "{settings}");
        for root in ["/srv/registry", "s3://", "s3://a\"b/c", "gs://bucket", "az://bucket"] {
            let refused = R2.render(&Site { root: root.to_owned(), ..Site::default() }).unwrap_err();
            assert!(refused.to_string().contains("s3://BUCKET"), "{refused}");
        }
        assert!(R2.render(&Site { root: "s3://bucket".to_owned(), form: Form::Snippet, ..Site::default() }).is_err());
    }
}
