from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.contenders import (
    CONTENDERS,
    LIMIT,
    SOURCE,
    Contender,
    ContenderError,
    enter,
    environment_of,
)
from bench.process import ROOT, Process, ProcessError, UnsupportedError, python_environment

pytestmark = pytest.mark.once


def test_the_pure_build_is_the_source_folder_without_the_accelerator() -> None:
    environment = environment_of(CONTENDERS["runtime-pure"])
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(SOURCE)
    assert environment["RUNTIME_NO_ACCELERATOR"] == "1"
    entry = enter(CONTENDERS["runtime-pure"])
    assert "interpreted, no accelerator" in entry.version
    assert entry.notes == ()


def test_the_compiled_build_is_the_installed_one_or_that_of_a_folder(tmp_path: Path) -> None:
    compiled = CONTENDERS["runtime-compiled"]
    assert str(SOURCE) not in environment_of(compiled)["PYTHONPATH"].split(os.pathsep)
    first, *_ = environment_of(compiled, tmp_path)["PYTHONPATH"].split(os.pathsep)
    assert first == str(tmp_path.resolve())


def test_a_build_that_contradicts_its_name_is_refused() -> None:
    with pytest.raises(ContenderError, match="runtime-compiled is not compiled"):
        enter(CONTENDERS["runtime-compiled"], compiled_in=SOURCE)


def test_a_package_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(ContenderError, match="No module named 'nowhere'"):
        enter(Contender("nowhere", "made up", "nowhere"))


def test_the_environment_of_the_caller_does_not_reach_the_contender(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    monkeypatch.setenv("RUNTIME_NO_ACCELERATOR", "1")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    environment = python_environment()
    assert "PYTHONASYNCIODEBUG" not in environment
    assert "RUNTIME_NO_ACCELERATOR" not in environment
    assert environment["PYTHONPATH"] == str(ROOT)


def test_the_limit_needs_no_python() -> None:
    assert LIMIT.api == ""
    assert LIMIT.build == ()


def test_a_missing_feature_is_distinguished_from_a_failure() -> None:
    lacking = """import json; print(json.dumps({"unsupported": "TLS"}))"""
    with (
        Process("the lacking one", [sys.executable, "-c", lacking]) as process,
        pytest.raises(UnsupportedError, match="TLS"),
    ):
        process.hear()


def test_a_process_that_ends_too_early_is_an_error() -> None:
    with (
        Process("the short one", ["/bin/sh", "-c", "exit 3"]) as short,
        pytest.raises(ProcessError, match="the short one ended too early, with status 3"),
    ):
        short.hear()
