#!/bin/sh
# Install the servers that the tests of the ecosystem talk to, as Debian packages, where they are
# missing and this can be done: by root, on a system with apt-get. Anywhere else it says so, and the
# tests that need them are skipped.
set -eu
missing=
command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ||
	missing="postgresql"
command -v redis-server >/dev/null || command -v valkey-server >/dev/null ||
	missing="$missing redis-server"
if [ -z "$missing" ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "not installed, so that tests will be skipped: $missing (needs root and apt-get)" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
# The packages would start servers of their own, in the way of nobody but for no use either.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update --quiet --quiet
# shellcheck disable=SC2086 # one word for each package
apt-get install --yes --quiet --quiet --no-install-recommends $missing
