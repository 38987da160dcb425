from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import native
from bench.catalogue import CASES
from tests.support.programs import run_program

pytestmark = pytest.mark.once


@pytest.mark.slow
def test_a_small_run_with_asyncio_alone(tmp_path: Path) -> None:
    written = tmp_path / "report.json"
    network = [
        "echo_1k_x10",
        "readline_10_x10",
        "accept_close_x10",
        "tls_1k_x10",
        "datagram_1k_x10",
    ]
    cases = ["switch", *network, "memory_stream_client", "memory_task"]
    run = run_program(
        *("-m", "bench", *cases, "--contenders", "asyncio", "--rounds", "2"),
        *("--seconds", "0.01", "--targets", "--json", written),
    )
    assert run.returncode == 0, run.stderr
    assert "asyncio" in run.stdout
    report = json.loads(written.read_text())
    assert report["machine"]["cores"] >= 1
    assert report["baseline"] == "asyncio"
    measured = {result["case"]: result["series"]["asyncio"] for result in report["results"]}
    assert measured.keys() == {name for name in cases if not CASES[name].why_not()}
    for name, series in measured.items():
        assert len(series["samples"]) == 2
        assert all(sample["cost"] > 0 for sample in series["samples"]), name
        assert series["ratio"]["median"] == 1.0


@pytest.mark.skipif(bool(native.why_not()), reason=native.why_not())
@pytest.mark.slow
def test_clients_connect_where_accepted_connections_are_weighed() -> None:
    options = ("--contenders", "asyncio", "--rounds", "1")
    run = run_program("-m", "bench", "memory_stream_server", *options)
    assert run.returncode == 0, run.stderr
    assert "allocated" in run.stdout


def test_the_limit_alone_cannot_run_a_case_without_limit() -> None:
    run = run_program("-m", "bench", "switch", "--contenders", "C")
    if native.why_not():
        assert run.returncode == 2
    else:
        assert run.returncode == 0, run.stderr
        assert "switch: left out: none of the contenders can do it" in run.stdout


def test_the_list_names_every_case_and_contender() -> None:
    run = run_program("-m", "bench", "--list")
    assert run.returncode == 0, run.stderr
    assert all(name in run.stdout for name in (*CASES, "runtime-compiled", "uvloop"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing"], "no case 'nothing'"),
        (["--contenders", "asyncio,curious"], "no contender 'curious'"),
        (["--contenders", "asyncio", "--baseline", "uvloop"], "'uvloop' is not among"),
        (["--rounds", "0"], "at least one round"),
        (["--seconds", "-1"], "at least one round"),
    ],
)
def test_a_mistaken_command_line_is_refused(arguments: list[str], complaint: str) -> None:
    run = run_program("-m", "bench", *arguments)
    assert run.returncode == 2
    assert complaint in run.stderr
    assert "Traceback" not in run.stderr


def test_a_contender_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    source = Path(native.__file__).parent.parent / "src"
    options = ("--contenders", "runtime-compiled", "--compiled", source)
    run = run_program("-m", "bench", "switch", *options)
    assert run.returncode == 2
    assert "runtime-compiled is not compiled" in run.stderr
    assert sys.executable not in run.stderr
