//! `roadstead doctor`

mod text;

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use roadstead::doctor::{
    Cause, Diagnosis, DoctorError, Finding, Judgement, MAX_REQUESTS, MAX_REQUESTS_DEEP, Mark, Options, PROFILES,
    Profile, Step, Subject, examine, remedy,
};
use roadstead::host;
use roadstead::http::{BaseUrl, Timeouts};
use roadstead::oci::{Platform, Reference, Repository};

use crate::args::{Global, Printed};
use crate::exit;
use crate::output::Output;
use crate::registry_args::RegistryArgs;

/// Say which clients can pull from a registry, which can't, and why
///
/// Asks what docker, containerd, podman, crane, oras and the specification would ask, and judges the answers as they
/// would. Changes nothing anywhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// The registry, and what to ask it for: URL[/REPOSITORY[:TAG|@DIGEST]]; found in its lists if left out
    #[arg(value_name = "URL")]
    place: Place,

    /// Judge for this client only; may be repeated
    #[arg(long = "client", value_name = "NAME", value_parser = client)]
    clients: Vec<&'static str>,

    /// The platform whose image is looked at; linux/amd64 where an index has it
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Read every byte of the image, for all its platforms
    #[arg(long)]
    deep: bool,

    /// How long nothing may come
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,

    #[command(flatten)]
    registry: RegistryArgs,
}

/// A URL, and what to ask for.
#[derive(Debug, Clone)]
struct Place {
    base: BaseUrl,
    /// Whether it was written as a URL, so that the scheme is a decision.
    decided: bool,
    subject: Subject,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("docker", rest)) => (None, rest),
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if scheme.is_none() && !authority.contains(['.', ':']) && authority != "localhost" {
            return Err(anyhow!("{text:?} is no URL: write https://HOST[:PORT][/REPOSITORY[:TAG]]"));
        }
        let base: BaseUrl = format!("{}://{authority}", scheme.unwrap_or("https")).parse()?;
        let path = path.trim_end_matches('/');
        let path = if path == "v2" { "" } else { path };
        if path.ends_with("/v2") {
            return Err(anyhow!(
                "clients ask for /v2/ at the root of a host, so nothing can be pulled from below a path"
            ));
        }
        let subject = if path.is_empty() { (None, None) } else { name(path)? };
        Ok(Self { base, decided: scheme.is_some(), subject: Subject { repository: subject.0, reference: subject.1 } })
    }
}

/// What stands behind the host.
fn name(path: &str) -> anyhow::Result<(Option<Repository>, Option<Reference>)> {
    let within = |error| anyhow!("{path:?} is no REPOSITORY[:TAG]: {error}");
    let (repository, reference) = match path.split_once('@') {
        Some((name, digest)) => (name.split(':').next().unwrap_or(name), Some(digest)),
        None => match path.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (path, None),
        },
    };
    let repository = repository.parse().map_err(within)?;
    Ok((Some(repository), reference.map(str::parse).transpose().map_err(within)?))
}

/// The name of a client, if one has it.
fn client(name: &str) -> Result<&'static str, String> {
    let names = PROFILES.iter().flat_map(|profile| std::iter::once(&profile.name).chain(profile.also));
    let mut names: Vec<&'static str> = names.copied().collect();
    names.sort_unstable();
    names.dedup();
    names.iter().find(|known| **known == name).copied().ok_or_else(|| format!("there are {}", names.join(", ")))
}

pub(crate) async fn run(args: Doctor, _global: &Global, output: &Output) -> anyhow::Result<()> {
    let patience = Duration::from_secs(args.timeout);
    let timeouts = Timeouts { connect: patience, answer: patience, stall: patience };
    let endpoint = args.registry.lone_endpoint(args.place.base.registry(), args.place.base.plain_http(), timeouts)?;
    if args.place.decided && !args.place.base.plain_http() {
        endpoint.insist_on_tls();
    }
    let asked =
        |profile: &&&Profile| args.clients.is_empty() || args.clients.iter().any(|name| profile.is_called(name));
    let profiles = PROFILES.iter().collect::<Vec<_>>();
    let options = Options {
        platform: args.platform,
        deep: args.deep,
        profiles: profiles.iter().filter(asked).copied().collect(),
    };
    let bar = output.spinner();
    let most = if args.deep { MAX_REQUESTS_DEEP } else { MAX_REQUESTS };
    let count = AtomicUsize::new(0);
    let diagnosis = examine(&endpoint, &args.place.subject, &options, &|question| {
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(%question, "asking");
        if let Some(bar) = &bar {
            bar.set_message(format!("{count} of at most {most}: {question}"));
            bar.tick();
        }
    })
    .await;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let diagnosis = diagnosis.map_err(|error| undiagnosed(&error, &args.place.base))?;
    let base = endpoint.url();
    match output.format {
        Printed::Json => output.json(&json(&diagnosis, &base, &options))?,
        Printed::Text => output.result(&text::render(&diagnosis, &base))?,
    }
    if diagnosis.all_pull() { Ok(()) } else { Err(exit::unpullable()) }
}

/// An error about what can't be judged, with the code and the way out.
fn undiagnosed(error: &DoctorError, base: &BaseUrl) -> anyhow::Error {
    let code = match error {
        DoctorError::NoAnswer(_) => exit::UNREACHABLE,
        DoctorError::NotARegistry(_) => exit::UNPULLABLE,
        DoctorError::NoImage(_) => exit::NOT_FOUND,
    };
    let way_out = match error {
        DoctorError::NoAnswer(finding) | DoctorError::NotARegistry(finding) => remedy(finding.cause, None),
        DoctorError::NoImage(_) => None,
    };
    let text = format!("{base}: {error}");
    exit::failure(code, way_out.map_or_else(|| text.clone(), |way_out| format!("{text}\n  hint: {way_out}")))
}

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Unasked => "unasked",
        Mark::Works => "works",
        Mark::Impaired => "impaired",
        Mark::Unknown => "unknown",
        Mark::Fails => "fails",
    }
}

/// What scripts read.
fn json(diagnosis: &Diagnosis, base: &str, options: &Options) -> serde_json::Value {
    let findings = diagnosis.findings();
    let number = |finding: &Finding| findings.iter().position(|known| *known == finding);
    let steps = |judgement: &Judgement| -> serde_json::Map<String, serde_json::Value> {
        let step = |step: Step| {
            let verdict = judgement.of(step);
            let of: Vec<_> = verdict.findings.iter().filter_map(number).collect();
            (step.name().to_owned(), serde_json::json!({ "result": mark(verdict.mark), "findings": of }))
        };
        Step::ALL.into_iter().map(step).collect()
    };
    let clients = diagnosis.judgements.iter().map(|judgement| {
        serde_json::json!({
            "name": judgement.profile.name,
            "title": judgement.profile.title,
            "isClient": judgement.profile.is_client(),
            "pulls": diagnosis.pulls(judgement),
            "steps": steps(judgement),
        })
    });
    let mut value = serde_json::json!({
        "url": base,
        "repository": diagnosis.repository,
        "reference": diagnosis.reference.to_string(),
        "found": diagnosis.found,
        "platform": diagnosis.platform.to_string(),
        "deep": options.deep,
        "pulls": diagnosis.all_pull(),
        "clients": clients.collect::<Vec<_>>(),
        "requests": diagnosis.requests,
    });
    let shown = findings.iter().map(|finding| {
        let mut shown = serde_json::json!({
            "code": finding.cause.code(),
            "request": finding.question.to_string(),
            "says": finding.says,
        });
        add(&mut shown, "remedy", way_out(diagnosis, finding));
        shown
    });
    value["findings"] = shown.collect();
    add(&mut value, "digest", diagnosis.digest.map(|digest| digest.to_string()));
    add(&mut value, "host", diagnosis.host.map(|host| host.name().to_owned()));
    if let Some((place, host)) = &diagnosis.blobs_at {
        value["blobsAt"] = place.as_str().into();
        add(&mut value, "blobsHost", host.map(|host| host.name().to_owned()));
    }
    value
}

fn add(value: &mut serde_json::Value, name: &str, text: Option<String>) {
    if let Some(text) = text {
        value[name] = text.into();
    }
}

/// The change that mends it: at the host that was recognised, and by a configuration of ours where there is one for it.
fn way_out(diagnosis: &Diagnosis, finding: &Finding) -> Option<String> {
    let recognised = diagnosis.host_of(finding);
    let text = remedy(finding.cause, recognised)?;
    let ours = recognised.and_then(|recognised| host::find(recognised.name()));
    let configures = matches!(
        finding.cause,
        Cause::TypeMissing
            | Cause::TypeWrong
            | Cause::TypeParameters
            | Cause::DigestHeaderMissing
            | Cause::DigestHeaderWrong
            | Cause::MissingAnswered
            | Cause::MissingForbidden
            | Cause::EncodedOnTheWay
    );
    // Hosts without headers and policies of buckets set none, and rules over plain files say no digest of a tag.
    let about_digests = matches!(finding.cause, Cause::DigestHeaderMissing | Cause::DigestHeaderWrong);
    let can = |host: &dyn host::Host| {
        host.headerless().is_none()
            && !["s3", "gcs"].contains(&host.name())
            && (host.public().is_none() || !about_digests)
    };
    match ours {
        Some(ours) if configures && can(ours) && !text.contains("roadstead config") => {
            Some(format!("{text} `roadstead config {}` prints a configuration that does.", ours.name()))
        }
        _ => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about() {
        for (text, base, repository, reference) in [
            ("https://r.example", "https://r.example", None, None),
            ("https://r.example/v2/", "https://r.example", None, None),
            ("r.example/app", "https://r.example", Some("app"), None),
            ("localhost:5000/a/b:1.0", "https://localhost:5000", Some("a/b"), Some("1.0")),
            ("docker://r.example/app:x", "https://r.example", Some("app"), Some("x")),
            ("http://[::1]:5000/app:x", "http://[::1]:5000", Some("app"), Some("x")),
        ] {
            let place: Place = text.parse().unwrap();
            let subject = &place.subject;
            assert_eq!(place.base.to_string(), base, "{text}");
            assert_eq!(subject.repository.as_ref().map(Repository::as_str), repository, "{text}");
            assert_eq!(subject.reference.as_ref().map(ToString::to_string).as_deref(), reference, "{text}");
        }
        let digest = format!("https://r.example/app:1@sha256:{}", "a".repeat(64));
        assert!(matches!(digest.parse::<Place>().unwrap().subject.reference, Some(Reference::Digest(_))));
        for bad in ["", "app", "ftp://r.example", "https://r.example/UPPER", "https://r.example/registry/v2/"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_client_has_a_name() {
        for profile in PROFILES {
            assert_eq!(client(profile.name), Ok(profile.name));
        }
        assert!(client("docker").is_ok());
        assert!(client("lynx").unwrap_err().contains("crane"));
    }
}
