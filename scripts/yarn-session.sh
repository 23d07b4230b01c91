#!/usr/bin/env bash
# Starts a session, or with -id stays with one; the options are those that people know. `spindle session start --help` tells them.
set -euo pipefail
HERE="$(cd "$(dirname "$0")" && pwd)"

# The executable: where SPINDLE_HOME says, else in this installation or this checkout, else on the path.
for DIR in ${SPINDLE_HOME:+"$SPINDLE_HOME/bin" "$SPINDLE_HOME"} "$HERE/../bin" "$HERE" \
    "${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/spindle/target}/release"; do
    [ -x "$DIR/spindle" ] && [ -f "$DIR/spindle" ] && exec "$DIR/spindle" session start "$@"
done
command -v spindle >/dev/null 2>&1 || {
    echo "yarn-session.sh: the executable spindle is not there: set SPINDLE_HOME to its directory, or build it" >&2
    exit 2
}
exec spindle session start "$@"
