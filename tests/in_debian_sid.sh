#!/usr/bin/env bash
# tests/in_debian_sid.sh COMMAND...: run a command in a system with CPython 3.14 and 3.15.
#
# The system is a Debian unstable root, in which the current folder has the same path as outside. The
# first call creates it, which takes a minute or two and needs root on Debian. If that is impossible
# or fails, the script prints a message and exits with 0, unless RUNTIME_REQUIRE_SID=1 is set. The
# root is kept for later calls in RUNTIME_SID_ROOT, by default /var/cache/runtime-sid. It also has what
# the benchmarks and the counts need: the headers of OpenSSL for the load generator, strace, valgrind.
#
#   tests/in_debian_sid.sh python3.15 -m tests.pythons --all
#   tests/in_debian_sid.sh make test PYTHON=python3.15 VENV=build/venv-3.15
#
# A virtual environment created inside only works inside: give it a folder of its own, as above.
set -euo pipefail

root=${RUNTIME_SID_ROOT:-/var/cache/runtime-sid}
versions="3.14 3.15"
packages=ca-certificates,g++,gcc,git,libssl-dev,make,openssl,procps,strace,valgrind
for version in $versions; do
  packages+=,python$version,python$version-dev,python$version-venv,libpython$version-testsuite
done

left_out() {
  echo "tests/in_debian_sid.sh: left out: $1" >&2
  [ "${RUNTIME_REQUIRE_SID:-0}" = 0 ] && exit 0
  exit 1
}

make_root() {
  command -v debootstrap > /dev/null || {
    apt-get update -q && apt-get install -y -q --no-install-recommends debootstrap
  } || return 1
  local mirror
  mirror=$(sed -nE 's/^(URIs:|deb( \[[^]]*\])?) *(https?:[^ ]*).*/\3/p' \
    /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | head -n 1)
  rm -rf --one-file-system "$root.new"
  debootstrap --variant=minbase --include="$packages" sid "$root.new" "$mirror" || return 1
  # The commands inside use the same package registries as those outside.
  local path
  for path in /etc/resolv.conf /etc/pip.conf /etc/xdg/pip "$HOME/.config/pip" /etc/ssl/certs \
    /usr/local/share/ca-certificates; do
    [ -e "$path" ] || continue
    mkdir -p "$root.new$(dirname "$path")"
    cp -RL --remove-destination "$path" "$root.new$(dirname "$path")/" 2> /dev/null || true
  done
  # A mirror may lag behind, and packages installed later must fit the installed ones.
  echo 'Acquire::Check-Valid-Until "false";' > "$root.new/etc/apt/apt.conf.d/mirror"
  echo "$packages" > "$root.new/packages"
  mv "$root.new" "$root"
}

# Install packages that an earlier version of this script did not list.
complete_root() {
  [ "$(cat "$root/packages" 2> /dev/null)" != "$packages" ] || return 0
  # shellcheck disable=SC2086 # Each package is an argument.
  chroot "$root" apt-get update -q && chroot "$root" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends ${packages//,/ } || return 1
  echo "$packages" > "$root/packages"
}

if [ -z "${RUNTIME_IN_SID_NAMESPACE:-}" ]; then
  [ "$(uname -s)" = Linux ] || left_out "this is not Linux"
  grep -qx 'ID=debian' /etc/os-release 2> /dev/null || left_out "this is not Debian"
  [ "$(id -u)" = 0 ] || left_out "it needs root"
  # A mount namespace of its own: nothing stays mounted when the command has ended.
  unshare --mount --propagation private true 2> /dev/null || left_out "unshare is not permitted"
  RUNTIME_IN_SID_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

[ -d "$root" ] || make_root >&2 || left_out "the root could not be made, see above"

here=$(pwd -P)
mkdir -p "$root$here"
for folder in /proc /sys /dev; do
  mount --rbind "$folder" "$root$folder"
done
complete_root >&2 || echo "tests/in_debian_sid.sh: some packages could not be installed, see above" >&2
mount --bind "$here" "$root$here"
unset RUNTIME_IN_SID_NAMESPACE
# shellcheck disable=SC2016 # These are the arguments of the inner shell.
exec chroot "$root" /bin/bash -c 'cd "$0" && exec "$@"' "$here" "$@"
