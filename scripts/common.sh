# shellcheck shell=bash
# Sourced by the scripts: strict mode, paths, messages.
set -euo pipefail

name=${0##*/}
log() { printf '%s: %s\n' "$name" "$*" >&2; }
die() {
    log "$*"
    exit 1
}
# usage: prints the comment at the head of the script.
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }
under_sudo() { is_root && [ "${SUDO_USER:-root}" != root ]; }
# as_caller COMMAND: under sudo, runs it as the user who called sudo, so that builds and caches belong to that user.
as_caller() { if under_sudo; then sudo -u "$SUDO_USER" -H env PATH="$PATH" "$@"; else "$@"; fi; }
# at_least VERSION MINIMUM: compares versions, so that 1.100 is more than 1.89.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | sed -n 1p)" = "$2" ]; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if under_sudo; then
    HOME=$(sudo -u "$SUDO_USER" -H sh -c 'echo "$HOME"')
    export HOME
fi
# The default folders of rustup and Go, and the sbin folders, which are not on a plain user's PATH in Debian.
PATH=$PATH:$HOME/.cargo/bin:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
# What is built or installed for the tests lives outside the tree, so that clones share it.
cache=${TELEPIPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/telepipe}
# The Python environment of the tests: one per content of its list of packages.
# shellcheck disable=SC2034 # for those who source this
venv=$cache/python-$(cksum <"$root/scripts/stack/requirements.txt" | cut -d' ' -f1)
