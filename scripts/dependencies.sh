#!/usr/bin/env bash
# Licences and sources of all dependencies, by cargo alone; the list of licences is deny.toml's.
set -euo pipefail
cd "$(dirname "$0")/.."

allowed=$(sed -n '/^allow = \[/,/^\]/s/^ *"\([^"]*\)".*/\1/p' deny.toml)
[[ -n $allowed ]] || { echo "dependencies: no list of licences in deny.toml" >&2; exit 1; }

# With OR (or the older `/`) and no AND, one allowed licence is enough; otherwise every one must be.
cargo tree --locked --edges normal,build,dev --prefix none --format '{l};{p}' | sed 's/ (\*)$//' | sort -u |
    awk -F ';' -v list="$allowed" '
        BEGIN { count = split(list, names, "\n"); for (i = 1; i <= count; i++) ok[names[i]] = 1 }
        {
            expression = $1
            gsub(/[()]/, "", expression)
            all = expression ~ / AND /
            parts = split(expression, licences, / *\/ *| OR | AND /)
            good = 0
            for (i = 1; i <= parts; i++) good += licences[i] in ok
            if (parts == 0 || (all && good < parts) || good == 0) { print "licence not allowed: " $2 ": " $1; bad = 1 }
        }
        END { print NR " packages looked at"; exit bad }
    '

# One registry, and nothing from a repository or elsewhere.
sources=$(sed -n 's/^source = "\(.*\)"/\1/p' Cargo.lock | sort -u)
if [[ $(wc -l <<<"$sources") -ne 1 || $sources != registry+* ]]; then
    printf 'more than one source of packages in Cargo.lock:\n%s\n' "$sources" >&2
    exit 1
fi
