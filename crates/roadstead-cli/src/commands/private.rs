//! `roadstead private`

use roadstead::tree::{Pattern, Private as Marked};

use crate::args::{Global, Printed};
use crate::exit;
use crate::output::Output;

/// Say which repositories are not for everybody, or list the patterns that say so
///
/// `config`, `publish` and `serve` refuse a tree with private repositories, unless they are left out or who asks is asked who they
/// are. A web server that is there already goes on handing out what lies in its folder.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  roadstead private secret/app 'internal/**'
  roadstead private
  roadstead private --remove secret/app")]
pub(crate) struct Private {
    /// Names of repositories, as the tree has them: ? is a character, * any number of them, neither a slash; ** also slashes
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Pattern>,

    /// Take these patterns off the list
    #[arg(long, requires = "patterns")]
    remove: bool,
}

#[derive(serde::Serialize)]
struct Report {
    patterns: Vec<String>,
    repositories: Vec<String>,
}

pub(crate) async fn run(args: Private, global: &Global, output: &Output) -> anyhow::Result<()> {
    let tree = super::open(global).await?;
    if args.remove {
        let had = tree.make_public(&args.patterns).await?;
        if let Some(unknown) = args.patterns.iter().find(|pattern| !had.contains(pattern)) {
            let place = tree.store().describe();
            let (list, unknown) = (Marked::PLACE, unknown.to_string());
            return Err(exit::failure(exit::NOT_FOUND, format!("{unknown} is not in {list} of {place}")));
        }
    } else if !args.patterns.is_empty() {
        tree.make_private(&args.patterns).await?;
    }
    let private = tree.private().await?;
    let repositories = tree.private_repositories(&private).await?;
    let patterns: Vec<_> = private.patterns().iter().map(ToString::to_string).collect();
    if output.format == Printed::Json {
        let repositories = repositories.iter().map(ToString::to_string).collect();
        return output.json(&Report { patterns, repositories });
    }
    if args.patterns.is_empty() {
        if patterns.is_empty() {
            output.note("no repository is private");
            return Ok(());
        }
        return output.result(&patterns.join("\n"));
    }
    if args.remove {
        for still in repositories.iter().filter(|name| args.patterns.iter().any(|gone| gone.matches(name.as_str()))) {
            output.note(&format!("{still} is private still, by another pattern"));
        }
        return Ok(());
    }
    for pattern in &args.patterns {
        let count = repositories.iter().filter(|name| pattern.matches(name.as_str())).count();
        let held = if count == 1 { "one repository".to_owned() } else { format!("{count} repositories") };
        output.note(&format!("{pattern}: private, {held} so far"));
    }
    Ok(())
}
