"""Objects of the package that are alive when the interpreter ends: no crash, and no output.

Objects that a program leaves open are reported in ResourceWarnings, as everywhere in Python, and
nowhere else. Compiled code must not use globals that have been cleared, and no finalizer may need
an object that has ended.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support import alive_at_exit
from tests.support.certificates import Certificates
from tests.support.programs import run_program

PROGRAM = Path(alive_at_exit.__file__)


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates) -> Path:
    shutil.copy(certificates.server, tmp_path / "server")
    shutil.copy(certificates.authority, tmp_path / "authority")
    return tmp_path


def other_output(stderr: str) -> str:
    """Return the output other than ResourceWarnings with their lines of source."""
    warning = r"^(?:\S+:\d+: |sys:1: )?ResourceWarning: .*\n(?:  .*\n|ResourceWarning: .*\n)*"
    return re.sub(warning, "", stderr, flags=re.MULTILINE)


def assert_quiet(kind: str, place: str, folder: Path, *flags: str) -> None:
    ended = run_program(*flags, "-W", "default::ResourceWarning", PROGRAM, kind, place, folder)
    assert (other_output(ended.stderr), ended.stdout, ended.returncode) == ("", "", 0)


@pytest.mark.parametrize("place", list(alive_at_exit.PLACES))
def test_everything_at_once(folder: Path, place: str) -> None:
    assert_quiet("all", place, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(alive_at_exit.KINDS))
@pytest.mark.parametrize(
    "place", ["in_a_global", "in_the_current_loop", "in_a_finalizer_in_another_module"]
)
def test_one_kind_alone(folder: Path, place: str, kind: str) -> None:
    assert_quiet(kind, place, folder)


@pytest.mark.slow
@pytest.mark.parametrize("place", list(alive_at_exit.PLACES))
def test_in_development_mode(folder: Path, place: str) -> None:
    assert_quiet("all", place, folder, "-X", "dev")
