"""What every test gets: a header that names the build, and a guard against leaks."""

from __future__ import annotations

import pytest

from tests.support import build
from tests.support.certificates import certificates
from tests.support.leaks import finalizers_run, no_leaks

__all__ = ["certificates", "finalizers_run", "no_leaks"]


def pytest_report_header() -> str:
    """Head the report with the build that is being tested."""
    return build.header()


def pytest_sessionstart() -> None:
    """Refuse to test another build than the one that was meant."""
    if wrong := build.wrong_build():
        raise pytest.UsageError(wrong)
