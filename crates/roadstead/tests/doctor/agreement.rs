//! The doctor is right when it agrees with the clients.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use roadstead::doctor::{Diagnosis, Judgement, Mark, Step};
use roadstead_parts::{Client, Containerd, Crane, Dockerd, Oras, Podman, Skopeo};
use tokio::runtime::Runtime;

use crate::broken::Broken;
use crate::cases::{Asks, cases};
use crate::document::{self, Row};

/// A client, and the profile that stands for it.
pub(crate) struct Pair<'a> {
    pub(crate) title: &'static str,
    pub(crate) profile: &'static str,
    pub(crate) client: &'a dyn Client,
}

/// What a client was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    Tag,
    Digest,
    Referrers,
    Lists,
}

/// What came of it.
pub(crate) struct Cell {
    pub(crate) case: usize,
    pub(crate) pair: usize,
    pub(crate) deed: Deed,
    /// What the client said when it failed.
    pub(crate) failure: Option<String>,
    pub(crate) verdict: bool,
    /// The doctor's code, if it says that it fails.
    pub(crate) code: Option<&'static str>,
}

#[test]
fn the_doctor_agrees_with_the_clients() {
    let docker = Dockerd::start_without_retries();
    let clients = [
        Pair { title: "docker 20.10", profile: "docker-20.10", client: &docker },
        Pair { title: "containerd 1.6", profile: "containerd-1", client: Containerd::shared() },
        Pair { title: "podman", profile: "podman", client: Podman::shared() },
        Pair { title: "skopeo", profile: "skopeo", client: &Skopeo },
        Pair { title: "crane", profile: "crane", client: &Crane },
        Pair { title: "oras", profile: "oras", client: &Oras },
    ];
    agree("the_doctor_agrees_with_the_clients", &clients);
}

#[test]
#[ignore = "needs the parts of `scripts/parts --all`"]
fn the_doctor_agrees_with_the_newest_engines() {
    let (docker, graph) = (Dockerd::start_29(), Dockerd::start_29_with_graph_store());
    // As Kubernetes asks it: `ctr --local` differs, and wants all of an index.
    let containerd = Containerd::start_2();
    let cri = containerd.cri();
    let clients = [
        Pair { title: "docker 29, graph store", profile: "docker-graph", client: &graph },
        Pair { title: "docker 29", profile: "containerd-2", client: &docker },
        Pair { title: "containerd 2 (CRI)", profile: "containerd-2", client: &cri },
    ];
    agree("the_doctor_agrees_with_the_newest_engines", &clients);
}

fn agree(test: &str, pairs: &[Pair<'_>]) {
    let cases = cases();
    let runtime = Runtime::new().unwrap();
    let broken: Vec<Broken> = cases.iter().map(|case| runtime.block_on(Broken::start(case))).collect();
    // By tag, and by digest: who knows the digest needs no tag to find it.
    let diagnose = |broken: &Broken, name: &str| {
        [false, true].map(|by_digest| {
            let diagnosis = runtime.block_on(broken.examined(by_digest));
            diagnosis.unwrap_or_else(|error| panic!("{name}: {error}"))
        })
    };
    let diagnoses: Vec<[Diagnosis; 2]> =
        broken.iter().zip(&cases).map(|(broken, case)| diagnose(broken, case.name)).collect();

    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        // Clients wait for each other's failures more than for the processor, so all work at once.
        for _ in pairs {
            scope.spawn(|| {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let pair = &pairs[at];
                for (number, case) in cases.iter().enumerate() {
                    let broken = &broken[number];
                    for deed in deeds(case, pair) {
                        let failure = done(pair, deed, broken);
                        let diagnosis = &diagnoses[number][usize::from(matches!(deed, Deed::Digest | Deed::Referrers))];
                        let mut judgements = diagnosis.judgements.iter();
                        let judgement = judgements.find(|judgement| judgement.profile.name == pair.profile).unwrap();
                        let (verdict, code) = judged(judgement, deed);
                        let cell = Cell { case: number, pair: at, deed, failure, verdict, code };
                        cells.lock().unwrap().push(cell);
                    }
                }
            });
        }
    });
    let mut cells = cells.into_inner().unwrap();
    cells.sort_by_key(|cell| (cell.case, cell.pair));
    let mut disagreements = String::new();
    for cell in &cells {
        if cell.failure.is_none() == cell.verdict {
            continue;
        }
        let (case, pair) = (&cases[cell.case], &pairs[cell.pair]);
        let said = cell.failure.as_deref().map_or_else(|| "it works".to_owned(), |said| format!("it fails: {said}"));
        let doctor = if cell.verdict { "it works".to_owned() } else { format!("it fails: {:?}", cell.code) };
        writeln!(
            disagreements,
            "{}, {}, {:?}\n  the doctor says: {doctor}\n  {said}\n",
            case.name, pair.title, cell.deed
        )
        .unwrap();
    }
    assert!(disagreements.is_empty(), "the doctor and the clients disagree\n\n{disagreements}");
    let titles: Vec<&str> = pairs.iter().map(|pair| pair.title).collect();
    let rows: Vec<Row> = cases.iter().enumerate().map(|(number, case)| Row { number, name: case.name }).collect();
    document::conclude(test, &titles, &rows, &cells);
}

fn deeds(case: &crate::cases::Case, pair: &Pair<'_>) -> Vec<Deed> {
    let mut deeds = vec![Deed::Tag];
    if case.by_digest {
        deeds.push(Deed::Digest);
    }
    match (case.asks, pair.title) {
        (Asks::Referrers, "oras") => deeds.push(Deed::Referrers),
        (Asks::Lists, "oras" | "crane" | "skopeo") => deeds.push(Deed::Lists),
        _ => {}
    }
    deeds
}

/// What a client says when it fails at something.
fn done(pair: &Pair<'_>, deed: Deed, broken: &Broken) -> Option<String> {
    let tagged = broken.tagged();
    let outcome = match deed {
        Deed::Tag => pair.client.pull(&tagged).map(drop),
        Deed::Digest => {
            // Of what isn't there nobody needs to forget anything.
            let _ = pair.client.forget(&tagged);
            pair.client.pull_by_digest(&broken.repository(), &broken.digest.to_string()).map(drop)
        }
        Deed::Referrers => {
            let subject = format!("{}@{}", broken.repository(), broken.digest);
            Oras.oras(&["discover", "--plain-http", &subject]).map(drop)
        }
        Deed::Lists => match pair.title {
            "oras" => Oras.oras(&["repo", "tags", "--plain-http", &broken.repository()]).map(drop),
            "crane" => Crane.crane(&["ls", "--insecure", &broken.repository()]).map(drop),
            _ => {
                let repository = format!("docker://{}", broken.repository());
                Skopeo.skopeo(&["list-tags", "--tls-verify=false", &repository]).map(drop)
            }
        },
    };
    let failure = outcome.err()?;
    let said = failure.output().stderr.trim().lines().last().unwrap_or_default().to_owned();
    Some(said)
}

/// Whether the doctor says that it works, and the code if not.
fn judged(judgement: &Judgement, deed: Deed) -> (bool, Option<&'static str>) {
    let steps: &[Step] = match deed {
        Deed::Tag => &[Step::Ping, Step::Tag, Step::Children, Step::Blobs],
        Deed::Digest => &[Step::Ping, Step::Digest, Step::Children, Step::Blobs],
        Deed::Referrers => &[Step::Ping, Step::Referrers],
        Deed::Lists => &[Step::Ping, Step::Tags],
    };
    let works = match deed {
        Deed::Tag => judgement.pulls_by_tag(),
        Deed::Digest => judgement.pulls_by_digest(),
        _ => steps.iter().all(|step| judgement.of(*step).mark < Mark::Unknown),
    };
    let failing = steps.iter().map(|step| judgement.of(*step)).find(|verdict| verdict.mark == Mark::Fails);
    let code = failing.and_then(|verdict| verdict.findings.first()).map(|finding| finding.cause.code());
    (works, if works { None } else { code.or(Some("unknown")) })
}
