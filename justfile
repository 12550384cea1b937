# Everything that is done to this repository, by name. `.ci/run` is `just check` and `just test` from nothing.

set shell := ["bash", "-euo", "pipefail", "-c"]

cache := env("XDG_CACHE_HOME", env("HOME") / ".cache")
export ROADSTEAD_PARTS := env("ROADSTEAD_PARTS", cache / "roadstead/parts")
export PATH := ROADSTEAD_PARTS / "bin" + ":" + env("PATH")

[private]
default:
    @just --list --unsorted

# What every change passes, apart from the tests: format, lints, documentation, dependencies, scripts.
check: fmt clippy doc deny scripts

# Is everything formatted?
fmt:
    cargo fmt --all --check

# Compiler and clippy, every warning an error.
clippy:
    cargo clippy --workspace --all-targets --all-features --locked -- --deny warnings

# The library's documentation, every broken link an error. The command's comments are its help, where brackets are no links.
doc:
    RUSTDOCFLAGS='--deny warnings' cargo doc --workspace --exclude roadstead-cli --all-features --no-deps --document-private-items --locked

# Licences, banned crates and sources of the dependencies.
deny: (parts "cargo-deny")
    cargo deny --all-features --locked check --hide-inclusion-graph licenses bans sources

# Known vulnerabilities of the dependencies; fetches the list of them.
advisories: (parts "cargo-deny")
    cargo deny --all-features --locked check advisories

# The shell scripts.
scripts: (parts "shellcheck")
    shellcheck scripts/* .ci/run

# Every test; `just test --all` also those that need parts which take long to build.
test *arguments:
    scripts/test {{ arguments }}

# Kills a server again and again while it is pushed to, 200 times each round.
soak rounds="5":
    for round in $(seq {{ rounds }}); do scripts/test -p roadstead-cli --test cli -- a_killed_server; done

# Publishes into a bucket, so many times each: killed at any moment beside others who live, and two beside a removal.
soak-publish rounds="300":
    ROADSTEAD_ROUNDS={{ rounds }} scripts/test -p roadstead-cli --test cli -- --nocapture publishers_that_are_killed
    ROADSTEAD_ROUNDS={{ rounds }} scripts/test -p roadstead --test bucket -- --nocapture --ignored beside_hundreds_of_removals

# Runs the specification's own conformance suite, which no package registry has, against our server.
conformance suite *arguments:
    scripts/conformance {{ suite }} {{ arguments }}

# Measures Roadstead beside its peers, as docs/benchmarks.md explains: `just bench --runs 15`, `just bench --quick`.
bench *arguments: (parts "crane" "registry" "skopeo" "nginx" "caddy" "caddy-2.11/caddy" "apache2" "lighttpd" "mod_magnet.so" "lua-filesystem" "wrk" "strace" "openssl" "minio" "s5cmd" "rclone" "aws" "ipfs")
    cargo build --release --locked --package roadstead-cli
    cargo run --quiet --locked --package roadstead-bench -- --roadstead "${CARGO_TARGET_DIR:-target}/release/roadstead" --work "${CARGO_TARGET_DIR:-target}/bench" {{ arguments }}

# Installs the real parts that are missing: `just parts --all`, `just parts --check`, `just parts NAME…`.
parts *arguments:
    @scripts/parts {{ arguments }}

# Feeds a fuzz target for some seconds; without a name, says which there are.
fuzz target="" seconds="60": (parts "cargo-fuzz")
    {{ if target == "" { "cargo fuzz list" } else { "RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none " + target + " -- -max_total_time=" + seconds } }}
