"""What every test gets: a header that names the build, and a guard against leaks."""

from __future__ import annotations

import pytest

from tests.support import build
from tests.support.certificates import certificates
from tests.support.leaks import finalizers_run, no_collector, no_leaks, pytest_sessionfinish

__all__ = ["certificates", "finalizers_run", "no_collector", "no_leaks", "pytest_sessionfinish"]


def pytest_report_header() -> str:
    """Head the report with the build that is being tested."""
    return build.header()


def pytest_sessionstart() -> None:
    """Refuse to test another build than the one that was meant."""
    if wrong := build.wrong_build():
        raise pytest.UsageError(wrong)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is run on asyncio itself: it shows that the scenario is right, on any build."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "asyncio" in callspec.id.split("-"):
            item.add_marker("yardstick")
