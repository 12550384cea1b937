//! Finding the programs, and saying how to get one that is not there.
//!
//! A missing part is never a reason to skip a test: it fails, and the message is the command that installs it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Returns the path of a program that the system provides; an absolute path stands for itself.
///
/// # Panics
///
/// When it is neither in `PATH` nor in the folders for system programs.
pub fn installed(name: &str) -> PathBuf {
    env::split_paths(search_path())
        // Joining an absolute path gives that path.
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| missing(name))
}

/// Returns the path of a program that `scripts/parts` keeps in its own folder, such as `bin/crane`. One of the same
/// name elsewhere will not do: its version is not the one that the tests were written against.
///
/// # Panics
///
/// When it is not there.
pub fn built(name: &str) -> PathBuf {
    let program = folder().join(name);
    if program.is_file() { program } else { missing(name) }
}

/// Returns the `PATH` that every part is started with: the caller's, the folders for system programs, and our own in
/// front.
pub(crate) fn search_path() -> &'static OsString {
    static PATH: OnceLock<OsString> = OnceLock::new();
    PATH.get_or_init(|| {
        let inherited = variable("PATH").unwrap_or_default();
        let system = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
        env::join_paths([folder().join("bin")].into_iter().chain(env::split_paths(&inherited)).chain(system))
            .expect("a folder in PATH has no colon in its name")
    })
}

/// The folder of `scripts/parts`; both decide it in the same way.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(parts) = variable("ROADSTEAD_PARTS") {
            return PathBuf::from(parts);
        }
        let cache = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")));
        cache.expect("HOME or ROADSTEAD_PARTS is set").join("roadstead/parts")
    })
}

fn missing(program: &str) -> ! {
    let name = if program.starts_with('/') { program.rsplit('/').next().unwrap_or(program) } else { program };
    panic!(
        "`{program}` is not installed: run `scripts/parts {name}` (or `scripts/parts` for everything that the tests need)"
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the parts are is a property of the machine, which the environment describes"
)]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    #[should_panic(expected = "`/usr/bin/no-such-program` is not installed: run `scripts/parts no-such-program`")]
    fn a_missing_system_program_is_named_as_the_script_names_it() {
        super::installed("/usr/bin/no-such-program");
    }

    #[test]
    #[should_panic(expected = "run `scripts/parts bin/no-such-program`")]
    fn a_missing_part_names_the_command_that_installs_it() {
        super::built("bin/no-such-program");
    }
}
