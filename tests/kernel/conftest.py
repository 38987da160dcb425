"""Fixtures for the tests of the kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import runtime


@pytest.fixture
def loop() -> Iterator[runtime.Loop]:
    """Return a loop that is not in debug mode, whatever the interpreter's options are."""
    loop = runtime.new_event_loop()
    loop.set_debug(False)
    yield loop
    loop.close()
