# shellcheck shell=bash
# Sourced by the scripts: strict mode, where things are, how a script speaks.
set -euo pipefail

name=${0##*/}
say() { printf '%s: %s\n' "$name" "$*" >&2; }
die() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }
under_sudo() { is_root && [ "${SUDO_USER:-root}" != root ]; }
# as_caller COMMAND: under sudo, as the user who called it: what is built or cached stays that user's.
as_caller() { if under_sudo; then sudo -u "$SUDO_USER" -H env PATH="$PATH" "$@"; else "$@"; fi; }
# at_least VERSION MINIMUM: 1.100 is more than 1.89.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | sed -n 1p)" = "$2" ]; }


root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if under_sudo; then
    HOME=$(sudo -u "$SUDO_USER" -H sh -c 'echo "$HOME"')
    export HOME
fi
# Where rustup and Go install by default, and where Debian keeps what a plain user lacks on PATH.
PATH=$PATH:$HOME/.cargo/bin:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
# What is built or installed for the tests, outside the tree, so that clones share it.
cache=${TELEPIPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/telepipe}
# The Python environment of the tests: one per content of its list of packages.
# shellcheck disable=SC2034 # for those who source this
venv=$cache/python-$(cksum <"$root/scripts/stack/requirements.txt" | cut -d' ' -f1)
