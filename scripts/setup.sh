#!/usr/bin/env bash
# Installs what a build needs and the machine lacks, from Debian's packages; with `test`, also what the tests need.
# Does nothing, and asks no server, when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/lib.sh

# The system's package commands, as root or through a sudo that asks no password; else says what to install.
as_root() {
    if ((EUID == 0)); then
        "$@"
    elif have sudo && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

updated=
apt_update() {
    [[ -n $updated ]] && return
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq && updated=1
}

install_packages() {
    echo "setup: installing $*"
    if ! have apt-get; then
        echo "setup: no apt-get here; install these (Debian's names) with your package manager: $*" >&2
        exit 1
    fi
    if ! apt_update || ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2; then
        echo "setup: could not install; run as root: apt-get update && apt-get install -y $*" >&2
        exit 1
    fi
}

missing=()
have cc || missing+=(gcc libc6-dev)
have c++ || missing+=(g++)
have cmake || missing+=(cmake) # libz-ng-sys builds with it
have make || missing+=(make)
have curl || missing+=(curl) # the demo's printed tour
[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
((${#missing[@]} == 0)) || install_packages "${missing[@]}"

if ! have cargo; then
    rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    echo "setup: cargo is missing. Install Rust $rust or newer with rustup (rustup.rs), then open a new shell." >&2
    exit 1
fi

# promtool tests the alert rules. Its package also holds a server that Debian would start, so only the file is taken.
get_promtool() {
    local dir
    dir="$(tools_dir)"
    mkdir -p "$dir"
    dir="$(cd "$dir" && pwd)"
    have apt-get && have dpkg-deb || return 1
    if ! (cd "$dir" && apt-get download -qq prometheus) >/dev/null 2>&1; then
        apt_update && (cd "$dir" && apt-get download -qq prometheus) >/dev/null 2>&1 || return 1
    fi
    dpkg-deb --fsys-tarfile "$dir"/prometheus_*.deb | tar -x -C "$dir" ./usr/bin/promtool && rm -f "$dir"/prometheus_*.deb
}

# Servers that tests start for themselves, on ports of their own; openssl makes their certificates. Debian would start
# services of its own on installing them: a policy forbids that meanwhile (invoke-rc.d(8)).
servers=()
have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || servers+=(postgresql)
have redis-server || servers+=(redis-server)
have openssl || servers+=(openssl)

install_servers() {
    local policy=/usr/sbin/policy-rc.d made='' status=0
    if [[ ! -e $policy ]] && as_root sh -c "printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy"; then
        made=yes
    fi
    (install_packages "$@") || status=$?
    [[ -z $made ]] || as_root rm -f "$policy"
    return "$status"
}

if [[ ${1:-} == test ]] && ((${#servers[@]} > 0)); then
    install_servers "${servers[@]}"
fi

if [[ ${1:-} == test ]] && ! promtool_path >/dev/null; then
    echo "setup: fetching promtool"
    get_promtool || echo "setup: no promtool (Debian's package prometheus); the alert rules' tests will be skipped" >&2
fi
