#!/bin/sh
# Install the missing servers for the tests of the ecosystem as Debian packages. This needs root, and a
# system with apt-get. Anywhere else the script prints a message, and the tests that need the servers
# are skipped.
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
# This policy keeps the packages from starting servers, which would not be used.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
apt-get update --quiet --quiet
# shellcheck disable=SC2086 # one word for each package
apt-get install --yes --quiet --quiet --no-install-recommends $missing
