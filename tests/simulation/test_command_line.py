"""``python -m runtime simulate``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from runtime.simulation.command_line import main
from runtime.simulation.loading import load
from tests.support.programs import run_program

PROGRAM = """
import runtime
from runtime import simulation


async def race():
    log = []

    async def work(name, count):
        for _ in range(count):
            await runtime.to_thread(int)
        log.append(name)

    await runtime.gather(work("a", 2), work("b", 3))
    assert log == ["a", "b"]


async def fine():
    simulation.sometimes(False, "rare")
    await runtime.sleep(1)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "a_program_to_simulate.py"
    path.write_text(PROGRAM)
    return path


def test_it_explores_and_repeats(program: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = ("-m", "runtime", "simulate", f"{program}::race")
    keep = ("--keep", tmp_path / "kept")
    done = run_program(*command, *keep, "--report", tmp_path / "report", environment=environment)
    assert done.returncode == 1, done.stderr
    assert "AssertionError" in done.stdout
    assert (tmp_path / "report" / "failure.html").exists()
    assert list((tmp_path / "kept").iterdir())
    token = done.stdout.split()[-1]
    done = run_program(*command, "--replay", token, environment=environment)
    assert done.returncode == 1, done.stderr
    assert f"token: {token}" in done.stdout


def test_it_says_that_nothing_was_found(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"{program}::fine", "--runs", "5", "--keep", str(tmp_path / "kept")]) == 0
    assert "5 runs" in (output := capsys.readouterr().out)
    assert "no failure" in output
    assert "never reached: rare" in output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}", "FILE::FUNCTION"),
        ("{}::nothing", "nothing"),
        ("missing.py::main", "there is no file"),
        ("{}::__name__", "is not a function"),
    ],
)
def test_a_wrong_program_is_an_error(
    program: Path, name: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name.format(program)]) == 2
    assert message in capsys.readouterr().err


def test_a_token_of_another_program_is_an_error(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = ["--keep", str(tmp_path / "kept")]
    assert main([f"{program}::race", *keep]) == 1
    token = capsys.readouterr().out.split()[-1]
    assert main([f"{program}::fine", "--replay", token]) == 2
    assert "diverges" in capsys.readouterr().err
    assert main([f"{program}::fine", "--replay", "xyz"]) == 2
    assert "not a token" in capsys.readouterr().err


def test_a_function_is_loaded_by_its_name(program: Path) -> None:
    assert load(f"{program}::race").__name__ == "race"


@pytest.mark.parametrize(
    ("option", "value"), [("runs", "0"), ("seed", "-1"), ("lateness", "-1"), ("steps", "0")]
)
def test_a_number_that_is_out_of_range_is_an_error(
    program: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert main([f"{program}::fine", f"--{option}", value]) == 2
    assert capsys.readouterr().err.startswith(f"simulate: {option} must be ")


def test_the_command_to_repeat_a_run_has_its_settings(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spinning = tmp_path / "spins.py"
    spinning.write_text(PROGRAM + SPINS)
    options = ["--starvation", "2", "--network", "latency=0:0.1", "--keep", str(tmp_path / "kept")]
    assert main([f"{spinning}::spins", *options]) == 1
    command = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(command.partition(" simulate ")[2])
    assert main(words) == 1
    assert "StarvationError" in capsys.readouterr().out


SPINS = """

async def spins():
    async def spin():
        for _ in range(3):
            await runtime.sleep(0)

    await runtime.gather(*[spin() for _ in range(6)])
"""


def test_a_report_that_cannot_be_written_does_not_hide_the_token(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--report", str(program / "report"), "--keep", str(tmp_path / "kept")]
    assert main([f"{program}::race", *options]) == 1
    shown = capsys.readouterr()
    assert "--replay sim1-" in shown.out
    assert "the report cannot be written" in shown.err


SERVICE = """
import runtime
from runtime import simulation

ANSWER = []


async def serve():
    async def answer(reader, writer):
        writer.write(ANSWER[0] + await reader.readline())
        writer.close()

    async with await runtime.start_server(answer, port=7) as server:
        await server.serve_forever()


def rough(world):
    ANSWER[:] = [b"hello "]
    server = world.host("echo")
    server.start(serve)
    world.after(simulation.choice([9, 0.5], "crash"), server.crash)


async def ask():
    await runtime.sleep(1)
    reader, writer = await runtime.open_connection("echo", 7)
    writer.write(b"you\\n")
    answer = await reader.readline()
    writer.close()
    assert answer == ANSWER[0] + b"you\\n"
"""


def test_a_set_up_function_makes_hosts_and_plans_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = tmp_path / "a_service_to_simulate.py"
    service.write_text(SERVICE)
    options = ["--setup", f"{service}::rough", "--keep", str(tmp_path / "kept")]
    assert main([f"{service}::ask", *options, "--runs", "1"]) == 0
    assert "no failure" in capsys.readouterr().out
    assert main([f"{service}::ask", *options]) == 1
    output = capsys.readouterr().out
    assert "TimeoutError" in output
    words = shlex.split(output.splitlines()[-1].partition(" simulate ")[2])
    assert main(words) == 1
    assert "TimeoutError" in capsys.readouterr().out
    assert main([f"{service}::ask", "--setup", f"{service}::serve"]) == 2
    assert "simulate: setup must be a function that is not async" in capsys.readouterr().err
    assert main([f"{service}::ask", "--setup", "rough"]) == 2
    assert "simulate: setup must be named as FILE::FUNCTION" in capsys.readouterr().err


def test_characters_that_cannot_be_encoded_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "odd_\udc80_program.py"
    odd.write_text(
        "import runtime\n\n"
        "async def fails():\n"
        "    await runtime.get_running_loop().create_task(wait(), name='half \\udc81')\n"
        "    raise ValueError('message \\udc82')\n\n"
        "async def wait():\n"
        "    await runtime.sleep(1)\n"
    )
    options = ["--keep", str(tmp_path / "kept"), "--report", str(tmp_path / "report")]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    command = ("-m", "runtime", "simulate", f"{odd}::fails")
    done = run_program(*command, *options, environment=environment)
    assert done.returncode == 1, done.stderr
    assert r"ValueError: message \udc82" in done.stdout
    assert r"half \udc81" in done.stdout
    token = done.stdout.split()[-1]
    assert main([f"{odd}::fails", "--replay", token]) == 1
    assert r"message \udc82" in capsys.readouterr().out
    assert main([f"{odd}::missing_\udc83"]) == 2
    assert r"missing_\udc83" in capsys.readouterr().err
