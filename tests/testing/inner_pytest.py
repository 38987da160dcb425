"""Runs of pytest in a process of its own, for the tests of the plugin."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.support.programs import NAMED_PLUGINS, run_program

PLUGIN = ("-p", "no:runtime", "-p", "runtime.testing.pytest_plugin")
SERVER_THAT_BUILDS = ("CI", "BUILD_NUMBER")
ALONE = ("-p", "no:asyncio", "-p", "no:anyio")
"""Options for pytest without the plugins of others, except those that a test itself asks for."""
HEAD = """
import asyncio
import contextvars
import os
import pytest
import runtime

async def hang_up(reader, writer):
    writer.close()
"""


def run_pytest(
    folder: Path, tests: str, *arguments: str, settings: str = ""
) -> tuple[dict[str, int], str]:
    """Run pytest on ``tests``; return the number of tests by outcome, and the output."""
    (folder / "test_it.py").write_text(HEAD + tests)
    configuration = folder / "pytest.ini"
    configuration.write_text(
        f"[pytest]\nfilterwarnings = error\naddopts = --strict-markers\n{settings}"
    )
    command = ["-m", "pytest", "-c", str(configuration), "-p", "no:cacheprovider", *PLUGIN]
    # On a CI server, pytest would print each message twice, and in full.
    kept = {name: value for name, value in os.environ.items() if name not in SERVER_THAT_BUILDS}
    if set(ALONE) <= set(arguments):
        kept |= NAMED_PLUGINS
        if any(each.startswith("--timeout") for each in arguments):
            command += ("-p", "timeout")
        if "from hypothesis import" in tests:
            command += ("-p", "hypothesispytest")
    done = run_program(*command, *arguments, folder, environment=kept)
    output = done.stdout + done.stderr
    summary = done.stdout.rpartition("\n=")[2]
    words = re.findall(r"(\d+) (passed|failed|error|skipped)", summary)
    return {word: int(number) for number, word in words}, output


def check(folder: Path, tests: str, expected: dict[str, int], *arguments: str) -> str:
    """Run pytest with this plugin alone, and with ``--runtime``; return the output."""
    found, output = run_pytest(folder, tests, "--runtime", *ALONE, *arguments)
    assert found == expected, output
    return output
