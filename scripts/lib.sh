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

# Sets and exports what has RocksDB linked into the crates that want it, and not built: ten minutes and more of C++, which every clone and every
# profile then shares. What is linked is an archive: programs need no RocksDB where they run. After need_rust, in the repository.
need_rocksdb() {
    local version directory build
    version="$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)"
    [ -n "$version" ] || die "Cargo.lock has no librocksdb-sys"
    have c++ || apt_install "a C++ compiler" build-essential
    # Its header is read at each build of the crate, also where the library is there.
    [ -n "${LIBCLANG_PATH:-}" ] || ls /usr/lib/*/libclang*.so* /usr/lib/llvm-*/lib/libclang.so* /usr/lib*/libclang.so* >/dev/null 2>&1 ||
        apt_install "libclang" libclang-dev
    directory="$CACHE/rocksdb/$version-$(uname -m)"
    if [ ! -s "$directory/librocksdb.a" ]; then
        say "building RocksDB, once: this takes ten minutes and more"
        build="$CACHE/rocksdb/build-$$"
        env -u ROCKSDB_LIB_DIR -u ROCKSDB_STATIC CARGO_PROFILE_RELEASE_OPT_LEVEL=2 \
            cargo build --quiet --release -p spindle-state-rocksdb --target-dir "$build" ||
            { rm -rf "$build"; die "RocksDB cannot be built"; }
        mkdir -p "$directory"
        cp "$build"/release/build/librocksdb-sys-*/out/librocksdb.a "$directory/librocksdb.a.$$"
        mv "$directory/librocksdb.a.$$" "$directory/librocksdb.a"
        rm -rf "$build"
    fi
    export ROCKSDB_LIB_DIR="$directory" ROCKSDB_STATIC=1
}
