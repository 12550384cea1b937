//! `roadstead config`

mod schema1;
mod shell;

use std::fmt;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::PossibleValuesParser;
use roadstead::host::{self, ConfigFile, FileText};
use roadstead::oci::Repository;
use roadstead::site::{Around, Form, Site, Survey};
use roadstead::tree::{Tree, TreeError};

use self::schema1::Schema1Args;
use self::shell::ShellArgs;
use crate::args::Global;
use crate::bucket_args::TreePlace;
use crate::exit;
use crate::output::Output;
use crate::site_args::{PrivateArgs, SiteArgs};

/// Print the configuration with which a host serves the tree
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    /// The host; without one, all of them are listed
    #[arg(value_name = "HOST", value_parser = PossibleValuesParser::new(host::HOSTS.iter().map(|host| host.name())))]
    host: Option<String>,

    /// Only the paths, for inside a server that is there; what must stand outside it is printed apart
    #[arg(long, conflicts_with = "standalone")]
    snippet: bool,

    /// A whole configuration, with which the host runs as an ordinary user
    #[arg(long)]
    standalone: bool,

    /// With a script that the host runs for each request, and that says what rules can't
    #[arg(long, conflicts_with_all = ["snippet", "standalone"])]
    edge: bool,

    /// Name each tag in the configuration: answered faster, but to be made anew and reloaded when a tag comes or moves
    #[arg(long)]
    pinned: bool,

    /// Where the host finds the tree, if that isn't where it is now; may hold the host's variables
    #[arg(long, value_name = "PATH")]
    server_root: Option<String>,

    /// Where the host listens; 127.0.0.1:5000 if left out
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// Put this in front of every repository's name, without rewriting the tree
    #[arg(long, value_name = "PREFIX")]
    name_prefix: Option<Repository>,

    /// Let pages of other origins, such as a registry's user interface, read the answers
    #[arg(long)]
    cors: bool,

    /// Write into this file, or into this folder if it is one or there are several
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Replace files that are there
    #[arg(long, requires = "output")]
    force: bool,

    #[command(flatten)]
    site: SiteArgs,

    #[command(flatten)]
    schema1: Schema1Args,

    #[command(flatten)]
    shell: ShellArgs,

    #[command(flatten)]
    private: PrivateArgs,
}

pub(crate) async fn run(args: Config, global: &Global, output: &Output) -> anyhow::Result<()> {
    let Some(name) = args.host.clone() else { return list(output) };
    let host = host::find(&name).context("no such host")?;
    if let Some(headerless) = host.headerless() {
        output.note(&format!("{name}: {}\n", headerless.clients));
    }
    let form = match (args.snippet, args.standalone, args.edge) {
        (true, ..) => Form::Snippet,
        (_, true, _) => Form::Standalone,
        (.., true) => Form::Edge,
        _ => Form::Site,
    };
    args.refuse_unused(host, form)?;
    let mut shell = args.shell.within(host, &global.tree)?;
    if args.schema1.is_wanted() {
        let Some(folder) = &args.output else {
            return Err(exit::usage("--flavour needs a folder to write to: -o FOLDER"));
        };
        return args.schema1.run(host, folder, args.force, args.private, global, output).await;
    }
    let site = if host.public().is_some() {
        let tree = super::open(global).await?;
        let without = args.private.check(&tree, &name).await?;
        let survey = if host.limits_files() {
            Survey::without(&tree, &without).await?
        } else {
            Survey::of_manifests(&tree, &without).await?
        };
        let site = args.site.site(&global.bucket)?;
        let site = Site { form, cors: args.cors, name_prefix: args.name_prefix, survey, ..site };
        crate::site_args::note_if_empty(&site, output);
        site
    } else {
        let serves = host.group() == host::Group::Shell && shell.around == Around::Serve;
        if shell.users.is_some() && args.private.authenticated {
            return Err(exit::usage(
                "--authenticated says that somebody in front asks who is there, and `roadstead serve` does by --state: leave it out",
            ));
        }
        match there(host, global).await? {
            // What is private is for those who may see it.
            Some(_) if serves && shell.users.is_some() => {}
            // It asks the same again when it starts, and leaves out what becomes private later.
            Some(tree) if serves => drop(args.private.check(&tree, &name).await?),
            Some(tree) => args.private.check_all(&tree, &name).await?,
            None if args.server_root.is_none() && host.headerless().is_none() => {
                output.note(&format!(
                    "there is no registry tree at {} yet: `roadstead add IMAGE` makes one",
                    global.tree
                ));
            }
            None => {}
        }
        if serves {
            shell.serve_with.extend(args.private.option().map(str::to_owned));
        }
        let root_is_literal = args.server_root.is_none();
        let root = root(args.server_root, host, global)?;
        let listen = args.listen.unwrap_or_else(|| LISTEN.to_owned());
        let (name_prefix, cors) = (args.name_prefix, args.cors);
        let elsewhere = args.site.site(&global.bucket)?;
        let survey = if args.pinned { Survey::of(&super::open(global).await?).await? } else { Survey::default() };
        let site = Site { root, root_is_literal, listen, form, name_prefix, cors, shell, ..elsewhere };
        Site { pinned: args.pinned, survey, ..site }
    };
    let files = host.render(&site)?;
    match args.output {
        None => {
            let Some((first, apart)) = files.split_first() else { return Ok(()) };
            output.note(&format!("{}: {}", first.name, first.place));
            // What belongs elsewhere must not end up in the same file: `-o FOLDER` writes each into its own.
            for file in apart {
                output.note(&format_args!("{}: {}\n\n{}", file.name, file.place, file.text));
            }
            output.result(&Trimmed(&first.text))
        }
        Some(path) => write(&path, &files, args.force, output),
    }
}

/// A text without the space at its end.
struct Trimmed<'a>(&'a FileText<'a>);

impl fmt::Display for Trimmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Writes space when something follows it.
        struct Trimming<'a, 'b> {
            to: &'a mut fmt::Formatter<'b>,
            space: String,
        }
        impl fmt::Write for Trimming<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                let kept = text.trim_end();
                if !kept.is_empty() {
                    self.to.write_str(&self.space)?;
                    self.to.write_str(kept)?;
                    self.space.clear();
                }
                self.space.push_str(&text[kept.len()..]);
                Ok(())
            }
        }
        fmt::Write::write_fmt(&mut Trimming { to: f, space: String::new() }, format_args!("{}", self.0))
    }
}

/// Where a host listens if nobody says.
const LISTEN: &str = "127.0.0.1:5000";

impl Config {
    /// Refuses what the host has no use for.
    fn refuse_unused(&self, host: &dyn host::Host, form: Form) -> anyhow::Result<()> {
        let plain = host.public().is_some() || host.headerless().is_some();
        let listens = !plain && host.group() != host::Group::Bucket;
        let unused = match (&self.listen, &self.server_root) {
            (Some(_), _) if !listens => Some(("--listen", "isn't told where to listen")),
            (Some(_), _) if form == Form::Snippet => {
                Some(("--listen", "listens where the server does that the snippet is for"))
            }
            _ if self.pinned && !host.pins() => Some(("--pinned", "has no configuration that names tags for speed")),
            (_, Some(_)) if plain => Some(("--server-root", "serves a folder of plain files, wherever that is")),
            _ => None,
        };
        match unused {
            Some((option, why)) => Err(exit::usage(format!("{option} has no meaning here: {} {why}", host.name()))),
            None => Ok(()),
        }
    }
}

/// The hosts by their groups, each with a line about it and its page in the documentation.
fn list(output: &Output) -> anyhow::Result<()> {
    let width = host::HOSTS.iter().map(|host| host.name().len()).max().unwrap_or_default();
    let mut text = String::new();
    for group in host::Group::ALL {
        let members: Vec<_> = host::HOSTS.iter().filter(|host| host.group() == group).collect();
        if members.is_empty() {
            continue;
        }
        let between = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{between}{}:\n", group.title()));
        for host in members {
            text.push_str(&format!("  {:width$}  {}\n", host.name(), host.summary()));
        }
    }
    output.result(text.trim_end())
}

/// The tree of `--tree`, if it is there and the host's business: a server may be told of one that is elsewhere.
async fn there(host: &dyn host::Host, global: &Global) -> anyhow::Result<Option<Tree>> {
    if matches!(global.tree, TreePlace::Bucket(_)) && host.group() != host::Group::Bucket {
        return Ok(None);
    }
    match super::open(global).await {
        Ok(tree) => Ok(Some(tree)),
        Err(error) if matches!(error.downcast_ref(), Some(TreeError::Absent(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the host finds the tree.
fn root(server_root: Option<String>, host: &dyn host::Host, global: &Global) -> anyhow::Result<String> {
    match (server_root, host.group()) {
        (Some(root), _) => Ok(root),
        (None, host::Group::Bucket) => Ok(global.tree.to_string()),
        // It is told of no folder.
        (None, host::Group::Headerless) => Ok(String::new()),
        (None, _) => {
            let TreePlace::Folder(folder) = &global.tree else {
                return Err(exit::usage(format!(
                    "{} is a bucket, and {} serves a folder: name its place with --server-root, or let `roadstead serve` answer \
                     from the bucket",
                    global.tree,
                    host.name()
                )));
            };
            // A relative path would mean another place to the host.
            let absolute = std::path::absolute(folder).context("the tree's place can't be told")?;
            let text = absolute.to_str().map(str::to_owned);
            text.with_context(|| format!("{} is not UTF-8: name it by --server-root", absolute.display()))
        }
    }
}

/// Writes all files or, if one is in the way, none.
fn write(to: &Path, files: &[ConfigFile<'_>], force: bool, output: &Output) -> anyhow::Result<()> {
    let folder = files.len() > 1 || to.is_dir();
    anyhow::ensure!(
        !folder || to.is_dir() || to.symlink_metadata().is_err(),
        "{} is no folder, and there are {} files to be written: name one, or a folder that isn't there yet",
        to.display(),
        files.len()
    );
    let place = |file: &ConfigFile<'_>| if folder { to.join(&file.name) } else { to.to_owned() };
    if !force {
        for file in files {
            let path = place(file);
            anyhow::ensure!(
                path.symlink_metadata().is_err(),
                "{} is there already: --force replaces it",
                path.display()
            );
        }
    }
    for file in files {
        let path = place(file);
        if let Some(folder) = path.parent().filter(|_| folder) {
            std::fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).create_new(!force);
        let written = options.open(&path).map(BufWriter::new).and_then(|mut to| {
            write!(to, "{}", file.text)?;
            to.flush()
        });
        written.with_context(|| format!("{} can't be written", path.display()))?;
        output.note(&format!("wrote {}: {}", path.display(), file.place));
    }
    Ok(())
}
