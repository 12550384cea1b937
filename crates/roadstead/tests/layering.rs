//! Who may import whom, and what the library never does, as `ARCHITECTURE.md` says it.
//!
//! Every source file of the library is parsed. A path counts as an import wherever it stands, in `use` and in code; what is
//! compiled for tests only may import anything. Words inside macros are scanned as tokens, since nobody parses those.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::Visit;

/// Which top-level modules each one may import, besides itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("image", &["oci"]),
    ("store", &["oci", "http"]),
    ("http", &["oci"]),
    ("medium", &["image", "oci", "http", "store"]),
    ("tree", &["store", "image", "oci"]),
    ("site", &["tree", "oci"]),
    ("host", &["site", "tree", "store", "image", "oci"]),
    ("publish", &["site", "tree", "store", "image", "oci", "http"]),
    ("server", &["site", "tree", "store", "image", "oci", "http"]),
    ("doctor", &["oci", "site", "http"]),
    // What it offers is tests' alone.
    ("testing", &["oci", "image", "store", "http", "medium", "tree", "site", "host", "publish", "server", "doctor"]),
];

/// What the library never calls: the command line resolves these and passes values.
const BANNED: &[(&[&str], &str)] = &[
    (&["env", "var"], "reads the environment"),
    (&["env", "var_os"], "reads the environment"),
    (&["env", "vars"], "reads the environment"),
    (&["env", "vars_os"], "reads the environment"),
    (&["env", "args"], "reads the command line"),
    (&["env", "args_os"], "reads the command line"),
    (&["env", "home_dir"], "reads the home folder"),
    (&["env", "current_dir"], "depends on the working directory"),
    (&["env", "set_current_dir"], "changes the working directory"),
    (&["env", "set_var"], "changes the environment"),
    (&["env", "temp_dir"], "reads the environment"),
    (&["process", "exit"], "ends the process"),
    (&["io", "stdin"], "reads the terminal"),
    (&["io", "stdout"], "writes to the terminal"),
    (&["io", "stderr"], "writes to the terminal"),
    (&["io", "IsTerminal"], "asks for a terminal"),
    (&["tempfile", "tempdir"], "reads the environment"),
    (&["tempfile", "tempfile"], "reads the environment"),
    (&["tempfile", "NamedTempFile", "new"], "reads the environment"),
];

const BANNED_MACROS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

/// A breach of the rules.
struct Breach {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// Reads one file of the library.
struct Scanner<'a> {
    file: &'a Path,
    /// The modules that the file stands for, such as `["oci", "digest"]`; grows inside inline modules.
    module: Vec<String>,
    breaches: Vec<Breach>,
}

impl Scanner<'_> {
    fn breach(&mut self, span: Span, what: String) {
        self.breaches.push(Breach { file: self.file.to_owned(), line: span.start().line, what });
    }

    fn is_testing(&self) -> bool {
        self.module.first().is_some_and(|top| top == "testing")
    }

    /// Judges one path, as it is written.
    fn path(&mut self, segments: &[(String, Span)]) {
        let Some((first, span)) = segments.first() else { return };
        let names: Vec<&str> = segments.iter().map(|(name, _)| name.as_str()).collect();
        self.import(&names, *span);
        if self.is_testing() {
            return;
        }
        for (banned, why) in BANNED {
            // `std::env::var`, and `env::var` after `use std::env`.
            let starts = if matches!(first.as_str(), "std" | "core" | "tokio") { 1 } else { 0 };
            if names.get(starts..).is_some_and(|names| names.starts_with(banned)) {
                self.breach(*span, format!("{} {why}", names.join("::")));
            }
        }
    }

    /// Judges where a path leads that begins with `crate`, `super` or the crate's own name.
    fn import(&mut self, names: &[&str], span: Span) {
        let absolute: Vec<&str> = match names[0] {
            "crate" | "roadstead" => names[1..].to_vec(),
            "super" | "self" => {
                let ups = names.iter().take_while(|name| **name == "super").count();
                let own = names.iter().take_while(|name| **name == "self").count();
                let Some(depth) = self.module.len().checked_sub(ups) else { return };
                let above = self.module[..depth].iter().map(String::as_str);
                above.chain(names[ups + own..].iter().copied()).collect()
            }
            _ => return,
        };
        let (Some(from), Some(to)) = (self.module.first(), absolute.first()) else { return };
        if from == to {
            return;
        }
        let allowed = ALLOWED.iter().find(|(module, _)| module == from);
        let what = match allowed {
            None => format!("module {from} is not in the table of layers"),
            Some((_, allowed)) if allowed.contains(to) => return,
            Some(_) => format!("{from} may not import {to}: {}", names.join("::")),
        };
        self.breach(span, what);
    }

    /// The paths that a `use` names, each from its beginning.
    fn uses(&mut self, tree: &syn::UseTree, prefix: &[(String, Span)]) {
        let with = |ident: &syn::Ident| {
            let mut path = prefix.to_vec();
            path.push((ident.to_string(), ident.span()));
            path
        };
        match tree {
            syn::UseTree::Path(path) => self.uses(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.path(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.path(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.path(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.uses(tree, prefix)),
        }
    }

    /// Paths among the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<(String, Span)> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.path(&std::mem::take(&mut path));
                    }
                    path.push((ident.to_string(), ident.span()));
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.path(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.path(&path);
    }
}

/// Whether an item is compiled for tests only: `#[test]`, `#[cfg(test)]` or the like.
fn only_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().segments.last().is_some_and(|segment| segment.ident == "test") {
            return true;
        }
        let syn::Meta::List(list) = &attribute.meta else { return false };
        // `cfg(not(test))` is the opposite.
        attribute.path().is_ident("cfg")
            && list.tokens.clone().into_iter().any(|token| match token {
                TokenTree::Ident(ident) => ident == "test",
                TokenTree::Group(group) => group.stream().to_string().contains("test"),
                _ => false,
            })
            && !list.tokens.to_string().contains("not")
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Scanner<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !only_for_tests(attributes(item)) {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !only_for_tests(&function.attrs) {
            syn::visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.module.push(module.ident.to_string());
        syn::visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.uses(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> =
            path.segments.iter().map(|segment| (segment.ident.to_string(), segment.ident.span())).collect();
        self.path(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.segments.last().map(|segment| segment.ident.clone())
            && BANNED_MACROS.iter().any(|banned| name == banned)
            && !self.is_testing()
        {
            self.breach(name.span(), format!("{name}! writes to the terminal"));
        }
        self.tokens(call.tokens.clone());
        syn::visit::visit_macro(self, call);
    }
}

/// The breaches of a file that stands for the module `module`.
fn scan(file: &Path, module: &[&str], source: &str) -> Vec<Breach> {
    let parsed = match syn::parse_file(source) {
        Ok(parsed) => parsed,
        Err(error) => panic!("{}: {error}", file.display()),
    };
    let mut scanner =
        Scanner { file, module: module.iter().map(|name| (*name).to_owned()).collect(), breaches: Vec::new() };
    scanner.visit_file(&parsed);
    scanner.breaches
}

/// Every source file of the library, with the module that it stands for.
fn library() -> BTreeMap<PathBuf, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder can be read to its end").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let relative = path.strip_prefix(&root).expect("it lies below").with_extension("");
            let mut module: Vec<_> =
                relative.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
            module.pop_if(|last| last == "lib" || last == "mod");
            files.insert(path, module);
        }
    }
    files
}

#[test]
fn nobody_imports_what_the_table_does_not_allow() {
    let mut breaches = Vec::new();
    let files = library();
    for (path, module) in &files {
        let source = std::fs::read_to_string(path).unwrap();
        let module: Vec<_> = module.iter().map(String::as_str).collect();
        breaches.extend(scan(path, &module, &source));
    }
    assert!(files.len() > 10, "only {} files were found", files.len());
    let lines: Vec<_> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), lines.join("\n"));
}

#[test]
fn every_module_of_the_library_is_in_the_table() {
    for (path, module) in library() {
        if let Some(top) = module.first() {
            let known = ALLOWED.iter().any(|(module, _)| module == top);
            assert!(known, "{}: module {top} is not in the table of layers", path.display());
        }
    }
}

#[test]
fn the_table_has_no_circles() {
    fn visit(module: &str, above: &mut Vec<String>) {
        assert!(!above.contains(&module.to_owned()), "a circle: {above:?} and {module} again");
        above.push(module.to_owned());
        for (_, allowed) in ALLOWED.iter().filter(|(name, _)| *name == module) {
            allowed.iter().for_each(|next| visit(next, above));
        }
        above.pop();
    }
    for (module, _) in ALLOWED {
        visit(module, &mut Vec::new());
    }
}

/// The scanner must be able to fail.
mod scanner {
    use super::*;

    fn breaches(module: &[&str], source: &str) -> Vec<String> {
        scan(Path::new("x.rs"), module, source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_every_way_to_import() {
        for source in [
            "use crate::tree::Tree;",
            "use crate::tree;",
            "use crate::tree as other;",
            "use crate::{oci::Digest, tree::{Tree, keys}};",
            "use crate::tree::*;",
            "pub use super::tree::Tree;",
            "use super::super::tree::Tree;",
            "fn f(tree: &crate::tree::Tree) {}",
            "fn f() { crate::tree::f(); }",
            "fn f() { g::<crate::tree::Tree>(); }",
            "fn f() { assert!(x == crate::tree::F); }",
            "impl crate::tree::T for X {}",
            "struct X(Vec<Option<crate::tree::T>>);",
            "mod inner { use super::super::super::tree::Tree; }",
            "mod inner { fn f() { vec![crate::tree::F]; } }",
            "use roadstead::tree::Tree;",
            "#[cfg(not(test))] use crate::tree::Tree;",
        ] {
            let module: &[&str] = if source.starts_with("pub use super::tree") { &["oci"] } else { &["oci", "digest"] };
            let found = breaches(module, source);
            assert!(!found.is_empty(), "{source:?} was allowed");
            assert!(found.iter().all(|breach| breach.starts_with("x.rs:1: oci may not import tree")), "{found:?}");
        }
        assert_eq!(
            breaches(&["oci"], "\n\nuse crate::store::Key;"),
            ["x.rs:3: oci may not import store: crate::store::Key"]
        );
        assert_eq!(breaches(&["novel"], "use crate::oci::Digest;").len(), 1);
    }

    #[test]
    fn allows_what_the_table_allows() {
        for (module, source) in [
            (&["tree", "sink"][..], "use crate::oci::Digest; use crate::image::Sink; use super::keys;"),
            (&["oci", "manifest"], "use super::digest::Digest; use crate::oci::Platform;"),
            (&["oci"], "use self::digest::Digest; mod digest;"),
            (&["oci"], "#[cfg(test)] mod tests { use crate::tree::Tree; }"),
            (&["oci"], "#[test] fn f() { crate::tree::f(); }"),
            (&["oci"], "#[cfg(all(test, unix))] use crate::tree::Tree;"),
            (&["oci"], "use std::collections::BTreeMap; fn f() { tree::f(); }"),
            (&["testing", "image"], "use crate::oci::Digest; use crate::tree::Tree;"),
            (&[], "pub mod oci; pub use oci::Digest; pub use crate::tree::Tree;"),
        ] {
            assert_eq!(breaches(module, source), [""; 0], "{source:?}");
        }
    }

    #[test]
    fn finds_what_the_library_never_does() {
        for source in [
            "fn f() { std::env::var(\"HOME\"); }",
            "use std::env; fn f() { env::var_os(\"HOME\"); }",
            "use std::env::var;",
            "use std::{env::{self, home_dir}};",
            "fn f() { println!(\"x\"); }",
            "fn f() { eprint!(\"x\"); }",
            "fn f() { std::println!(\"x\"); }",
            "fn f() { writeln!(std::io::stdout(), \"x\"); }",
            "fn f() { x(std::env::temp_dir()); }",
            "use std::io::IsTerminal as _;",
            "fn f() { std::process::exit(1); }",
            "fn f() { tokio::io::stdin(); }",
        ] {
            assert_eq!(breaches(&["oci"], source).len(), 1, "{source:?}: {:?}", breaches(&["oci"], source));
        }
        for source in ["fn f() { env!(\"CARGO_PKG_VERSION\"); }", "fn var() {}", "fn f() { std::io::copy(); }"] {
            assert_eq!(breaches(&["oci"], source), [""; 0], "{source:?}");
        }
    }
}
