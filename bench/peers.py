"""Installation of the peers: event loops that have wheels for some Pythons and systems only."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Sequence

PEERS = {
    "uvloop": "0.23.0",
    "rloop": "0.5.0",
    "zuvloop": "0.0.17",
    "zloop": "0.0.1",
    "rsloop": "0.1.66",
    "blazio": "0.1.0",
    "loopmini": "0.2.3",
    "veloxloop": "0.2.0",
}
"""The version of each peer that the suite was tried with."""

NO_WHEEL = "No matching distribution found"


def install(name: str, version: str) -> str:
    """Install a peer from a wheel into the running Python; return an error, or an empty string.

    A source distribution is not used: the peers are written in Rust, Zig, C and Cython, and their
    compilers are rarely there.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--only-binary", ":all:", f"{name}=={version}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return ""
    if NO_WHEEL in done.stderr:
        return f"no wheel for CPython {platform.python_version()} on this system"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"pip ended with status {done.returncode}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Install every peer that has a wheel, and print the result; return the exit status 0."""
    argparse.ArgumentParser(prog="python -m bench peers", description=__doc__).parse_args(arguments)
    for name, version in PEERS.items():
        error = install(name, version)
        print(f"{name:<11}{version:<9}{f'left out: {error}' if error else 'installed'}", flush=True)
    return 0
