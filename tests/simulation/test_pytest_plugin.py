"""The pytest plugin of the simulation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.testing.inner_pytest import ALONE, run_pytest

# Runs of pytest in processes of their own take long, and the plugin is the same on every build.
pytestmark = pytest.mark.once

PLUGIN = ("-p", "no:runtime_simulation", "-p", "runtime.simulation.pytest_plugin")

RACE = """
async def order(steps):
    log = []
    async def work(name, count):
        for _ in range(count):
            await runtime.sleep(0)
        log.append(name)
    await runtime.gather(work("a", steps), work("b", 3))
    return log
"""


def run(folder: Path, tests: str, *arguments: str) -> tuple[dict[str, int], str]:
    """Run pytest on ``tests`` with both plugins; tasks run in any order by default."""
    if not any(each.startswith("--runtime-order") for each in arguments):
        arguments = (*arguments, "--runtime-order=tasks")
    return run_pytest(folder, RACE + tests, "--runtime", *ALONE, *PLUGIN, *arguments)


def test_tests_are_explored_with_their_fixtures(tmp_path: Path) -> None:
    tests = """
set_up = []

@pytest.fixture
async def number():
    set_up.append(1)
    await runtime.sleep(1)
    yield len(set_up)
    await runtime.sleep(1)

async def test_explored(number):
    assert (await order(2))[0] == "a" or number == 0

async def test_fine(number):
    await runtime.sleep(3600)

def test_fixtures_were_set_up_for_each_run():
    assert len(set_up) > 40
"""
    found, output = run(tmp_path, tests, "--runtime-explore=40")
    assert found == {"passed": 2, "failed": 1}
    assert "explored 2 tests in " in output
    assert "token: sim1-" in output
    assert "asyncio promises no order" in output


def test_without_the_option_nothing_is_explored(tmp_path: Path) -> None:
    tests = """
async def test_once():
    assert await order(2) == ["a", "b"]
"""
    found, output = run(tmp_path, tests)
    assert found == {"passed": 1}
    assert "explored" not in output


def test_marked_tests_are_explored(tmp_path: Path) -> None:
    tests = """
@pytest.mark.simulation(runs=100, strategy="delays", order="tasks")
async def test_marked():
    assert await order(2) == ["a", "b"]

@pytest.mark.simulation(runs=20, order="events")
async def test_events_only():
    assert await order(2) == ["a", "b"]

async def test_not_marked():
    assert await order(2) == ["a", "b"]
"""
    found, output = run(tmp_path, tests)
    assert found == {"passed": 2, "failed": 1}
    assert "_ test_marked _" in output


def test_a_failure_is_repeated_from_its_token_and_tried_first(tmp_path: Path) -> None:
    tests = """
async def test_race():
    assert await order(2) == ["a", "b"]
"""
    found, output = run(tmp_path, tests, "--runtime-explore=100")
    assert found == {"failed": 1}
    token = re.findall(r"--runtime-replay=(\S+)", output)[0]
    found, output = run(tmp_path, tests, f"--runtime-replay={token}")
    assert found == {"failed": 1}
    assert token in output
    (kept,) = (tmp_path / ".runtime" / "failures").iterdir()
    assert token in kept.read_text()
    found, output = run(tmp_path, tests, "--runtime-explore=100", "--runtime-seed=99")
    assert found == {"failed": 1}
    assert "in 1 runs" in output


def test_the_objects_of_a_failed_run_are_not_kept(tmp_path: Path) -> None:
    tests = """
import gc, weakref
kept = []

class Held:
    pass

def test_fails_in_an_ordinary_run():
    held = Held()
    kept.append(weakref.ref(held))
    raise LookupError("ordinary")

async def test_fails_in_each_run():
    held = Held()
    kept.append(weakref.ref(held))
    raise LookupError("simulated")

def test_that_follows():
    gc.collect()
    assert len(kept) > 1
    assert [each() for each in kept] == [None] * len(kept)
"""
    found, output = run(tmp_path, tests, "--runtime-explore=5")
    assert found == {"failed": 2, "passed": 1}, output


def test_leftovers_and_unretrieved_exceptions_fail(tmp_path: Path) -> None:
    tests = """
async def test_leaves_a_task():
    runtime.create_task(runtime.sleep(100))
    await runtime.sleep(0)

async def test_loses_an_exception():
    async def fails():
        raise LookupError("lost")
    runtime.create_task(fails())
    await runtime.sleep(1)
"""
    found, output = run(tmp_path, tests, "--runtime-explore=5")
    assert found == {"failed": 2}
    assert "left behind" in output
    assert "LookupError" in output


def test_a_deadlock_fails(tmp_path: Path) -> None:
    tests = """
async def test_locks():
    first, second = runtime.Lock(), runtime.Lock()
    async def take(one, other, delay):
        for _ in range(delay):
            await runtime.sleep(0)
        async with one:
            await runtime.sleep(0)
            async with other:
                pass
    await runtime.gather(take(first, second, 0), take(second, first, 4))
"""
    found, output = run(tmp_path, tests, "--runtime-explore=50")
    assert found == {"failed": 1}
    assert "Deadlock: no task can ever run again." in output


def test_a_test_with_a_process_runs_once_as_usual(tmp_path: Path) -> None:
    tests = """
import sys

async def test_process():
    process = await runtime.create_subprocess_exec(sys.executable, "-c", "")
    assert await process.wait() == 0
"""
    found, output = run(tmp_path, tests, "--runtime-explore=20")
    assert found == {"passed": 1}
    assert "outside of the simulation, ran once as usual: test_it.py::test_process" in output


def test_wide_fixtures_are_set_up_once(tmp_path: Path) -> None:
    tests = """
calls = []

@pytest.fixture(scope="module")
def wide():
    calls.append("set up")
    yield len(calls)
    calls.append("torn down")

@pytest.fixture(scope="module")
async def wide_and_async():
    yield 1

async def test_uses_a_wide_fixture(wide):
    assert calls == ["set up"]

async def test_uses_an_asynchronous_one(wide_and_async):
    assert await order(2) == ["a", "b"]
"""
    found, output = run(tmp_path, tests, "--runtime-explore=10")
    assert found == {"passed": 2}
    assert "explored 1 test in 10 runs" in output


def test_wrong_arguments_of_the_marker_are_an_error(tmp_path: Path) -> None:
    tests = """
@pytest.mark.simulation(run=5)
async def test_it():
    pass
"""
    _, output = run(tmp_path, tests)
    assert "the marker simulation expected runs, strategy, seed" in output


def test_the_marker_of_a_test_that_is_not_async_is_an_error(tmp_path: Path) -> None:
    ordinary = """
@pytest.mark.simulation
def test_it():
    pass
"""
    of_hypothesis = """
from hypothesis import given, strategies

@pytest.mark.simulation
@given(strategies.booleans())
async def test_it(value):
    pass
"""
    for tests, text in (
        (ordinary, "tests: call simulation.explore() in it instead"),
        (of_hypothesis, "tests: hypothesis makes it an ordinary one: call"),
    ):
        _, output = run(tmp_path, tests)
        assert f"test_it: the marker simulation is for `async def` {text}" in output


def test_tests_that_hypothesis_runs_are_listed(tmp_path: Path) -> None:
    tests = """
from hypothesis import given, settings, strategies

@settings(max_examples=2, database=None, deadline=None)
@given(strategies.booleans())
async def test_examples(value):
    await runtime.sleep(0)

@pytest.mark.simulation
class TestMixed:
    def test_that_is_ordinary(self):
        pass

    @settings(max_examples=2, database=None, deadline=None)
    @given(strategies.booleans())
    async def test_other_examples(self, value):
        await runtime.sleep(0)

    async def test_explored(self):
        await runtime.sleep(0)
"""
    found, output = run(tmp_path, tests, "--runtime-explore=2")
    assert found == {"passed": 4}
    assert "explored 1 test in 2 runs" in output
    outside = re.findall("ran once as usual: .*::(.*)", output)
    assert outside == ["test_examples", "test_other_examples"]


def test_skipped_and_parametrized_tests(tmp_path: Path) -> None:
    tests = """
@pytest.mark.skip
async def test_skipped():
    pass

@pytest.mark.parametrize("number", [1, 2])
async def test_number(number):
    await runtime.sleep(number)
"""
    found, _ = run(tmp_path, tests, "--runtime-explore=5")
    assert found == {"passed": 2, "skipped": 1}


def test_never_reached_labels_are_listed(tmp_path: Path) -> None:
    tests = """
from runtime import simulation

async def test_labels():
    simulation.sometimes(False, "rare case")
"""
    found, output = run(tmp_path, tests, "--runtime-explore=5")
    assert found == {"passed": 1}
    assert "never reached: test_it.py::test_labels: rare case" in output


@pytest.mark.variation
def test_a_test_that_is_expected_to_fail_fails_in_one_of_its_runs(tmp_path: Path) -> None:
    tests = """
@pytest.mark.xfail(strict=True)
async def test_expected_to_fail():
    assert await order(2) == ["a", "b"]

async def test_says_so_itself():
    pytest.xfail("always")
"""
    found, output = run(tmp_path, tests, "--runtime-explore=100")
    assert found == {}, output
    assert "2 xfailed" in output


@pytest.mark.variation
@pytest.mark.parametrize("option", ["runs=0", "seed=-1", "order='any'", "strategy='luck'"])
def test_wrong_values_of_the_marker_are_errors_of_usage(tmp_path: Path, option: str) -> None:
    tests = f"""
@pytest.mark.simulation({option})
async def test_marked():
    pass
"""
    _, output = run(tmp_path, tests)
    assert f"test_it.py::test_marked: {option.partition('=')[0]} must be " in output
    assert "INTERNALERROR" not in output


@pytest.mark.variation
def test_a_token_is_repeated_with_its_own_order(tmp_path: Path) -> None:
    tests = """
async def test_it():
    log = []
    async def wake(name, *naps):
        for seconds in naps:
            await runtime.sleep(seconds)
        log.append(name)
    await runtime.gather(wake("a", 0.25, 0.25), wake("b", 0.5))
    assert log == ["b", "a"]

async def test_other():
    for _ in range(5):
        await runtime.sleep(0)
"""
    _, output = run(tmp_path, tests, "--runtime-explore=100", "--runtime-order=events")
    (token,) = set(re.findall(r"--runtime-replay=(\S+)", output))
    replay = (f"--runtime-replay={token}", "-k")
    found, output = run(tmp_path, tests, *replay, "test_it", "--runtime-order=tasks")
    assert found == {"failed": 1}, output
    assert f"token: {token}" in output
    found, output = run(tmp_path, tests, *replay, "test_other")
    assert found == {}
    assert "test_other: the run diverges from its token" in output
    _, output = run(tmp_path, tests, "--runtime-replay=sim1-")
    assert "is not a token of a simulated run" in output
    assert "INTERNALERROR" not in output


TORN = """
async def exchange():
    async def answer(reader, writer):
        writer.write(b"%d" % len(await reader.read(100)))
        writer.close()
    async with await runtime.start_server(answer, "127.0.0.1", 7):
        reader, writer = await runtime.open_connection("127.0.0.1", 7)
        writer.write(b"a message")
        answered = await reader.read(100)
        writer.close()
    assert answered == b"9"
"""


def test_the_network_of_explored_tests_has_conditions(tmp_path: Path) -> None:
    tests = """
from runtime import simulation

async def test_plain():
    await exchange()

@pytest.mark.simulation(runs=100, network=simulation.Conditions(splitting=0.3), starvation=500)
async def test_marked():
    await exchange()
"""
    found, _ = run(tmp_path, TORN + tests, "--runtime-explore=20")
    assert found == {"passed": 1, "failed": 1}
    network = "--runtime-network=latency=0:0.01,splitting=0.3"
    found, output = run(tmp_path, TORN + tests, "--runtime-explore=100", network)
    assert found == {"failed": 2}
    token = re.findall(rf"--runtime-replay=(\S+) {network}", output)[0]
    found, _ = run(tmp_path, TORN + tests, f"--runtime-replay={token}", network, "-k", "plain")
    assert found == {"failed": 1}
    _, output = run(tmp_path, TORN + tests, "--runtime-explore=1", "--runtime-network=speed=3")
    assert "--runtime-network: network must be conditions such as latency=0.01" in output


def test_a_peer_in_a_thread_runs_once_as_usual_although_another_task_fails(tmp_path: Path) -> None:
    tests = """
import socket

async def test_peer():
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = runtime.get_running_loop()
    async with runtime.TaskGroup() as group:
        received = group.create_task(runtime.to_thread(far.recv, 10))
        await runtime.sleep(0.01)
        await loop.sock_sendall(near, b"x")
    assert received.result() == b"x"
    near.close()
    far.close()

async def test_that_waits_for_it():
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = runtime.get_running_loop()
    def answer():
        far.send(far.recv(10))
    answering = runtime.create_task(runtime.to_thread(answer))
    await runtime.sleep(0.01)
    await loop.sock_sendall(near, b"x")
    assert await loop.sock_recv(near, 1) == b"x"
    await answering
    near.close()
    far.close()
"""
    found, output = run(tmp_path, tests, "--runtime-explore=5")
    assert found == {"passed": 2}, output
    assert output.count("outside of the simulation, ran once as usual") == 2


def test_a_test_that_leaves_the_simulation_in_another_order_runs_once(tmp_path: Path) -> None:
    tests = """
import socket

async def test_peer():
    near, far = socket.socketpair()
    near.setblocking(False)
    loop = runtime.get_running_loop()
    async def send():
        await loop.sock_sendall(near, b"x")
    sending = runtime.create_task(send())
    await runtime.sleep(0.001)
    await runtime.to_thread(int)
    reply = runtime.create_task(runtime.to_thread(far.recv, 10))
    await runtime.sleep(0)
    await loop.sock_sendall(near, b"y")
    assert await reply
    await runtime.gather(runtime.to_thread(far.recv, 10), loop.sock_sendall(near, b"z"))
    await sending
    near.close()
    far.close()
"""
    found, output = run(tmp_path, tests, "--runtime-explore=50", "--runtime-order=tasks")
    assert found == {"passed": 1}, output
    assert "outside of the simulation, ran once as usual" in output
    assert not list((tmp_path / ".runtime").rglob("*.json"))


SERVICE = """
from runtime import simulation

async def serve():
    async def answer(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    async with await runtime.start_server(answer, port=7) as server:
        await server.serve_forever()

def served(world):
    world.host("echo").start(serve)

def rough(world):
    served(world)
    world.after(simulation.choice([9, 0.5], "crash"), world.host("echo").crash)

async def ask():
    reader, writer = await runtime.open_connection("echo", 7)
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()

@pytest.fixture
async def started():
    await runtime.sleep(1)
"""


def test_a_set_up_function_makes_hosts_for_explored_tests(tmp_path: Path) -> None:
    tests = """
@pytest.mark.simulation(runs=20, setup=served)
async def test_marked(started):
    await ask()

async def test_by_option(started):
    await ask()
"""
    setup = f"--runtime-setup={tmp_path / 'test_it.py'}::rough"
    found, output = run(tmp_path, SERVICE + tests, "--runtime-explore=20", setup)
    assert found == {"passed": 1, "failed": 1}, output
    token = re.findall(rf"--runtime-replay=(\S+) {re.escape(setup)}", output)[0]
    replay = (f"--runtime-replay={token}", "-k", "option")
    found, output = run(tmp_path, SERVICE + tests, *replay, setup)
    assert found == {"failed": 1}, output
    assert "TimeoutError" in output
    _, output = run(tmp_path, SERVICE + tests, "--runtime-explore=2", "--runtime-setup=rough")
    assert "--runtime-setup: setup must be named as FILE::FUNCTION" in output
    assert "INTERNALERROR" not in output


@pytest.mark.variation
@pytest.mark.parametrize("value", ["3", "serve"])
def test_a_wrong_set_up_function_is_an_error_of_usage(tmp_path: Path, value: str) -> None:
    tests = f"""
@pytest.mark.simulation(setup={value})
async def test_marked():
    pass
"""
    _, output = run(tmp_path, SERVICE + tests)
    assert "test_it.py::test_marked: setup must be a function that is not async" in output
    assert "INTERNALERROR" not in output


def test_a_host_that_crashes_leaves_nothing_behind(tmp_path: Path) -> None:
    tests = """
@pytest.mark.simulation(runs=10)
async def test_crash():
    world = simulation.current_world()
    served(world)
    await runtime.sleep(1)
    await ask()
    world.host("echo").crash()
"""
    found, output = run(tmp_path, SERVICE + tests)
    assert found == {"passed": 1}, output
