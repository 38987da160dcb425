"""Fixtures for the tests of pipes: each loop, and each kind of pipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.tools import KINDS, LOOPS, Loop


@pytest.fixture(params=LOOPS)
def make_loop(request: pytest.FixtureRequest) -> Loop:
    return LOOPS[request.param]


@pytest.fixture(params=KINDS)
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield both ends of each kind of pipe that a transport supports."""
    read_end, write_end = KINDS[request.param](tmp_path)
    with read_end, write_end:
        yield read_end, write_end
