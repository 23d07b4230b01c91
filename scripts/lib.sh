# Sourced by the scripts beside it: messages, and what is missing on the machine.
# shellcheck shell=bash

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/spindle"
STATE="${XDG_STATE_HOME:-$HOME/.local/state}/spindle"
ME="$(basename "$0")"

say() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# apt_install WHAT-FOR PACKAGE...: installs the first PACKAGE that the system's package manager offers, else exits with one sentence.
apt_install() {
    local why="$1" as_root=() package
    shift
    have apt-get || die "$why is missing and there is no apt-get here: install it (Debian's name: $1) and run this again"
    if [ "$(id -u)" != 0 ]; then
        { have sudo && sudo -n true 2>/dev/null; } || die "$why is missing: install it (apt-get install $1) and run this again"
        as_root=(sudo -n)
    fi
    if [ -z "${APT_UPDATED:-}" ]; then
        say "reading the package lists, since $why is missing"
        "${as_root[@]}" apt-get update -q >/dev/null 2>&1 || say "apt-get update failed, trying with the lists that are here"
        APT_UPDATED=1
    fi
    for package in "$@"; do
        apt-cache show "$package" >/dev/null 2>&1 || continue
        say "installing $package"
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package" >&2 </dev/null ||
            die "apt-get install $package failed, and $why is needed"
        hash -r
        return 0
    done
    die "$why is missing and apt offers none of: $*"
}

# The directory of a Java that runs Hadoop 3.4: 17 to 22 (Hadoop's Subject.getSubject fails on later ones).
find_java_home() {
    local home version
    for home in "${JAVA_HOME:-}" "$(dirname "$(dirname "$(readlink -f "$(command -v java || echo /none/none/none)")")")" /usr/lib/jvm/*; do
        [ -x "$home/bin/java" ] && [ -r "$home/release" ] || continue
        version="$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")"
        if [ "${version:-0}" -ge 17 ] && [ "$version" -le 22 ]; then
            echo "$home"
            return 0
        fi
    done
    return 1
}

# Sets and exports JAVA_HOME, installing a Java where there is none.
need_java() {
    if ! JAVA_HOME="$(find_java_home)"; then
        apt_install "a Java runtime, version 17 to 22," openjdk-17-jre-headless openjdk-21-jre-headless
        JAVA_HOME="$(find_java_home)" || die "no Java runtime of version 17 to 22 was found, also after installing one"
    fi
    export JAVA_HOME
}

# Sets and exports CARGO_TARGET_DIR, so that every clone finds the build cache, and TARGET, where the release binaries are.
need_rust() {
    have cargo || { PATH="$HOME/.cargo/bin:$PATH"; have cargo; } || die "cargo is missing: install Rust (rustup.rs tells how) and run this again"
    have cc || apt_install "a C compiler and linker" build-essential
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$CACHE/target}"
    TARGET="$CARGO_TARGET_DIR/release"
}
