"""Test that fails because it leaves a task behind: ``tests/test_support.py`` runs it."""

from __future__ import annotations

import runtime


async def test_it() -> None:
    runtime.create_task(runtime.sleep(3600), name="left-behind")
