#!/usr/bin/env bash
# Everything but the tests: format, lints, documentation, dependencies, scripts.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

shell_scripts() {
    shellcheck -x .ci/run scripts/*.sh
}

documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items
}

step "format" cargo fmt --all --check
step "lints" cargo clippy --locked --all-targets -- -D warnings
step "documentation" documentation
step "dependencies" scripts/dependencies.sh
# Advisories need a database that is fetched at run time, so they are left to machines that can reach it:
# `cargo deny check advisories`.
if have cargo-deny; then
    step "cargo-deny" cargo deny --locked --offline check bans licenses sources
else
    skip "cargo-deny" "it is not installed; the step above checks licences and sources"
fi
if have shellcheck; then
    step "shell scripts" shell_scripts
else
    skip "shell scripts" "shellcheck is not installed"
fi
