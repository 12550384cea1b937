//! A diagnosis for people.

use roadstead::doctor::{Diagnosis, Finding, Judgement, Mark, Step, Verdict};
use roadstead::oci::Reference;

use super::way_out;
use crate::output::Table;

pub(super) fn render(diagnosis: &Diagnosis, base: &str) -> String {
    let findings = diagnosis.findings();
    let groups = grouped(diagnosis, &findings);
    let mut parts = vec![heading(diagnosis, base), table(diagnosis, &groups)];
    let explained: Vec<String> =
        groups.iter().enumerate().map(|(number, group)| explain(diagnosis, number, group)).collect();
    if !explained.is_empty() {
        parts.push(explained.join("\n"));
    }
    parts.push(conclusion(diagnosis));
    parts.join("\n\n")
}

/// Findings of one cause, which one change mends.
type Group<'a> = Vec<&'a Finding>;

fn grouped<'a>(diagnosis: &Diagnosis, findings: &[&'a Finding]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mends = |finding: &Finding| (finding.cause, diagnosis.host_of(finding), finding.question.is_blob());
    for finding in findings {
        match groups.iter_mut().find(|group| mends(group[0]) == mends(finding)) {
            Some(group) => group.push(finding),
            None => groups.push(vec![finding]),
        }
    }
    groups
}

fn heading(diagnosis: &Diagnosis, base: &str) -> String {
    let separator = if matches!(diagnosis.reference, Reference::Tag(_)) { ':' } else { '@' };
    let mut text = format!("{base}/{}{separator}{}", diagnosis.repository, diagnosis.reference);
    if let (Reference::Tag(_), Some(digest)) = (&diagnosis.reference, diagnosis.digest) {
        text.push_str(&format!("\n{digest}"));
    }
    if diagnosis.found {
        text.push_str("\nfound in the registry's own lists");
    }
    if let Some(host) = diagnosis.host {
        text.push_str(&format!("\nserved by {}", host.title()));
    }
    if let Some((place, host)) = &diagnosis.blobs_at {
        let host = host.map_or_else(String::new, |host| format!(" ({})", host.title()));
        text.push_str(&format!("\nblobs at {place}{host}"));
    }
    text
}

fn table(diagnosis: &Diagnosis, groups: &[Group<'_>]) -> String {
    let mut headings = vec!["CLIENT".to_owned(), "PULLS".to_owned()];
    headings.extend(Step::ALL.map(|step| step.name().to_uppercase()));
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for judgement in &diagnosis.judgements {
        let mut row = vec![judgement.profile.title.to_owned(), pulls(diagnosis, judgement).to_owned()];
        row.extend(Step::ALL.map(|step| cell(judgement.of(step), groups)));
        table.row(row);
    }
    table.render()
}

fn pulls(diagnosis: &Diagnosis, judgement: &Judgement) -> &'static str {
    match (diagnosis.pulls(judgement), judgement.profile.is_client()) {
        (true, true) => "yes",
        (false, true) => "NO",
        (true, false) => "met",
        (false, false) => "not met",
    }
}

/// How a step ends, with the numbers of what is explained below.
fn cell(verdict: &Verdict, groups: &[Group<'_>]) -> String {
    let numbers =
        verdict.findings.iter().filter_map(|finding| groups.iter().position(|group| group.contains(&finding)));
    let mut numbers: Vec<usize> = numbers.map(|number| number + 1).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let numbers = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match verdict.mark {
        Mark::Works => "ok".to_owned(),
        Mark::Impaired => format!("ok ({numbers})"),
        Mark::Fails => format!("FAILS {numbers}"),
        Mark::Unknown => "?".to_owned(),
        Mark::Unasked => "-".to_owned(),
    }
}

fn explain(diagnosis: &Diagnosis, number: usize, group: &Group<'_>) -> String {
    let finding = group[0];
    let mut text = format!("{:>2}  {}: {}.", number + 1, finding.cause.code(), finding.says);
    let others = group.iter().map(|other| other.question.to_string());
    let mut others: Vec<String> = others.filter(|other| *other != finding.question.to_string()).collect();
    others.dedup();
    if let Some((last, others)) = others.split_first() {
        let more = if others.len() > 3 { format!(", and {} more", others.len()) } else { join(others) };
        text.push_str(&format!("\n    Likewise {last}{more}."));
    }
    match way_out(diagnosis, finding) {
        Some(change) => format!("{text}\n    {change}"),
        None => text,
    }
}

fn join(others: &[String]) -> String {
    others.iter().map(|other| format!(", {other}")).collect()
}

fn conclusion(diagnosis: &Diagnosis) -> String {
    let counted: Vec<_> = diagnosis.counted().collect();
    let failing = counted.iter().filter(|judgement| !diagnosis.pulls(judgement));
    let failing: Vec<&str> = failing.map(|judgement| judgement.profile.title).collect();
    let requests = diagnosis.requests;
    match (counted.as_slice(), failing.as_slice()) {
        ([only], []) if !only.profile.is_client() => format!("The specification is met ({requests} requests)."),
        ([only], _) if !only.profile.is_client() => format!("The specification is not met ({requests} requests)."),
        (_, []) => format!("Every client that was asked about can pull ({requests} requests)."),
        (all, _) if failing.len() == all.len() => {
            format!("No client that was asked about can pull ({requests} requests).")
        }
        _ => format!("These can't pull: {} ({requests} requests).", failing.join("; ")),
    }
}
