# Sourced by the other scripts: steps with their durations, and the target folder.
# shellcheck shell=bash

# step TITLE COMMAND...: runs the command, says how long it took, and ends the script when it fails.
step() {
    local title=$1 start=$SECONDS status=0
    shift
    printf '\n== %s\n' "$title"
    "$@" || status=$?
    if ((status != 0)); then
        printf '== %s: FAILED with exit code %d after %d s\n' "$title" "$status" $((SECONDS - start)) >&2
        exit "$status"
    fi
    printf '== %s: ok, %d s\n' "$title" $((SECONDS - start))
}

# skip TITLE REASON: says what is not done here, and why.
skip() {
    printf '\n== %s: skipped, %s\n' "$1" "$2"
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Where downloaded tools go: below cargo's target folder, which is never committed.
tools_dir() {
    printf '%s/tools' "${CARGO_TARGET_DIR:-target}"
}

# promtool: prints its path; fails when there is none.
promtool_path() {
    command -v promtool && return
    local unpacked
    unpacked="$(tools_dir)/usr/bin/promtool"
    [[ -x $unpacked ]] && printf '%s\n' "$unpacked"
}
