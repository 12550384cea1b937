//! `roadstead du`

use roadstead::oci::Repository;
use roadstead::tree::{TreeError, Usage};

use crate::args::{Global, Printed};
use crate::output::{Output, Table, size};

/// Show how much space repositories take
///
/// OWN is what only that repository names, and what its removal would free; SHARED is what others name as well. The last line
/// counts everything once.
#[derive(Debug, clap::Args)]
pub(crate) struct Du {
    /// Only these
    #[arg(value_name = "REPOSITORY")]
    repositories: Vec<Repository>,
}

pub(crate) async fn run(args: Du, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    let mut usage = tree.usage().await?;
    for wanted in &args.repositories {
        if !usage.repositories.iter().any(|of| of.repository == *wanted) {
            return Err(TreeError::Unknown(wanted.to_string()).into());
        }
    }
    if !args.repositories.is_empty() {
        usage.repositories.retain(|of| args.repositories.contains(&of.repository));
    }
    match output.format {
        Printed::Json => output.json(&usage),
        Printed::Text => output.result(&table(&usage).render()),
    }
}

fn table(usage: &Usage) -> Table {
    let mut table = Table::new(&["REPOSITORY", "OWN", "SHARED", "TOTAL"]);
    for of in &usage.repositories {
        table.row(vec![of.repository.to_string(), size(of.own), size(of.shared), size(of.total)]);
    }
    if usage.unnamed > 0 {
        table.row(vec!["named by none".to_owned(), size(usage.unnamed), size(0), size(usage.unnamed)]);
    }
    table.row(vec!["the whole tree".to_owned(), String::new(), String::new(), size(usage.total)]);
    table
}
