"""Diagrams in docs/how-it-works.md, which are recorded from a running loop."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from docs.tools.awaits import BLOCK, PAGE
from tests.support.programs import ROOT, TIMEOUT

pytestmark = pytest.mark.once


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="it is recorded with epoll")
def test_the_diagrams_match_a_new_recording() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "RUNTIME_NO_ACCELERATOR": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "tools" / "awaits.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    in_the_page = "\n".join(BLOCK.findall(PAGE.read_text()))
    assert done.stdout.splitlines() == in_the_page.splitlines(), (
        "record them again: "
        "PYTHONPATH=src RUNTIME_NO_ACCELERATOR=1 python docs/tools/awaits.py --write"
    )
