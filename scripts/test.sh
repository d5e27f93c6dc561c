#!/usr/bin/env bash
# Every test. The tests proper come last, so that their summary closes the output.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

# Rule files, each beside its tests (NAME.yml and NAME_test.yml or NAME.test.yml), and the scrape configuration.
alert_rules() {
    local promtool=$1 file
    for file in conf/prometheus/*.yml; do
        case $file in
        *[._]test.yml) "$promtool" test rules "$file" ;;
        */prometheus.yml) "$promtool" check config "$file" ;;
        *) "$promtool" check rules "$file" ;;
        esac
    done
}

if promtool=$(promtool_path); then
    step "alert rules" alert_rules "$promtool"
else
    skip "alert rules" "promtool is not installed"
fi

step "examples in the documentation" cargo test --locked --doc

if have cargo-nextest; then
    step "tests" cargo nextest run --locked
else
    step "tests" cargo test --locked --lib --bins --tests
fi
