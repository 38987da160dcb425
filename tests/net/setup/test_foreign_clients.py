"""The echo service, used by client programs of other projects."""

from __future__ import annotations

import shutil
import subprocess

import pytest

import runtime
from tests.net.tools import serving

PAYLOAD = bytes(range(256)) * 4096


def converse(command: list[str]) -> bytes:
    return subprocess.run(
        command, input=PAYLOAD, stdout=subprocess.PIPE, timeout=60, check=True
    ).stdout


@pytest.mark.parametrize("tool", ["nc", "ncat", "socat", "perl", "bash"])
async def test_a_tool_gets_its_bytes_back(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")

    async with serving() as (host, port):
        commands = {
            "nc": ["nc", "-N", host, str(port)],
            "ncat": ["ncat", host, str(port)],
            "socat": ["socat", "-t30", "-", f"TCP:{host}:{port}"],
            "perl": ["perl", "-MIO::Socket::INET", "-e", PERL, host, str(port)],
            "bash": ["bash", "-c", BASH, "bash", host, str(port), str(len(PAYLOAD))],
        }
        received = await runtime.to_thread(converse, commands[tool])
        assert received == PAYLOAD


PERL = """
binmode STDIN; binmode STDOUT;
my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => $ARGV[1]) or die $!;
if (my $child = fork) {
    print while read($s, $_, 65536);
    waitpid $child, 0;
} else {
    print $s $_ while read(STDIN, $_, 65536);
    shutdown $s, 1;
}
"""
BASH = 'exec 3<>"/dev/tcp/$1/$2" 4<&0; cat <&4 >&3 & head -c "$3" <&3; wait'
