"""Set-up functions: hosts and planned faults around programs that do not mention them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import runtime
from runtime import simulation
from runtime.simulation import World
from runtime.simulation.loading import load_setup


async def serve() -> None:
    async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await runtime.start_server(answer, port=7) as server:
        await server.serve_forever()


async def ask() -> bytes:
    await runtime.sleep(1)
    reader, writer = await runtime.open_connection("echo", 7)
    writer.write(b"hello\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


def served(world: World) -> None:
    world.host("echo").start(serve)


def rough(world: World) -> None:
    server = world.host("echo")
    server.start(serve)
    world.after(simulation.choice([9.0, 0.5], "crash"), server.crash)


async def fine() -> None:
    await runtime.sleep(1)


def test_hosts_are_started_before_the_program() -> None:
    assert simulation.run(ask, setup=served) == b"hello\n"
    assert simulation.explore(ask, runs=20, setup=served).failure is None


@pytest.mark.parametrize("strategy", ["portfolio", "delays", "reduced"])
def test_a_planned_fault_is_found_and_repeated(strategy: str) -> None:
    found = simulation.explore(ask, runs=50, strategy=strategy, setup=rough, check=False)
    assert found.failure is not None
    assert isinstance(found.failure.error, TimeoutError)
    assert found.failure.deviations == 1
    with pytest.raises(TimeoutError):
        simulation.replay(ask, found.failure.token, setup=rough)
    with pytest.raises(simulation.DivergenceError):
        simulation.replay(ask, found.failure.token)


def test_a_decorated_function_is_explored_with_it() -> None:
    check = simulation.simulated(runs=50, setup=rough)(ask)
    with pytest.raises(TimeoutError):
        check()


def test_it_is_called_once_for_each_run_and_in_the_running_loop() -> None:
    loops = []

    def setup(world: World) -> None:
        assert world is simulation.current_world()
        assert world.current_host().name == "main"
        loops.append(asyncio.get_running_loop())

    simulation.explore(fine, runs=3, setup=setup)
    assert len(set(loops)) == 3 == len(loops)


def test_its_hosts_do_not_count_as_leftovers() -> None:
    assert simulation.run(ask, setup=served, leftovers=True) == b"hello\n"

    def restarts(world: World) -> None:
        served(world)
        world.after(3, world.host("echo").crash)

    async def main() -> None:
        await ask()
        await runtime.sleep(5)
        simulation.current_world().host("echo").restart()
        await ask()

    simulation.run(main, setup=restarts, leftovers=True)


def test_hosts_of_the_program_count_as_leftovers() -> None:
    async def main() -> None:
        served(simulation.current_world())
        await ask()

    with pytest.raises(simulation.LeftoverError, match="task .*echo"):
        simulation.run(main, leftovers=True)


def test_an_exception_in_it_fails_the_run() -> None:
    def fails(world: World) -> None:
        raise LookupError(world.host("a").name)

    with pytest.raises(LookupError, match="a") as raised:
        simulation.explore(fine, setup=fails)
    assert "token: sim1-" in "\n".join(raised.value.__notes__)


def test_a_program_that_fails_on_its_host_is_a_failure() -> None:
    async def fails() -> None:
        raise LookupError("on the host")

    def setup(world: World) -> None:
        world.host("a").start(fails)

    with pytest.raises(simulation.UnretrievedError, match="on the host"):
        simulation.run(fine, setup=setup)


CALLS: list[Callable[[object], object]] = [
    lambda setup: simulation.run(fine, setup=setup),  # type: ignore[arg-type]
    lambda setup: simulation.explore(fine, setup=setup),  # type: ignore[arg-type]
    lambda setup: simulation.replay(fine, "sim1-", setup=setup),  # type: ignore[arg-type]
    lambda setup: simulation.simulated(setup=setup),
]


@pytest.mark.parametrize("call", CALLS, ids=["run", "explore", "replay", "simulated"])
def test_another_object_is_refused_at_the_call(call: Callable[[object], object]) -> None:
    for wrong in (3, "served", fine, fine()):
        with pytest.raises(TypeError, match="setup must be a function that is not async"):
            call(wrong)


def test_a_function_that_returns_a_coroutine_is_refused() -> None:
    with pytest.raises(TypeError, match="setup must be a function that is not async"):
        simulation.run(fine, setup=lambda _: fine())


def test_it_is_found_by_its_name() -> None:
    assert load_setup(f"{__name__}:served") is served
    assert load_setup(f"{__file__}::rough") is rough


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("served", ValueError, "FILE::FUNCTION or MODULE:FUNCTION, got 'served'"),
        ("missing.py::served", FileNotFoundError, "there is no file 'missing.py'"),
        ("no_such_module:served", ImportError, "no_such_module"),
        (f"{__file__}::nothing", AttributeError, "nothing"),
        (f"{__name__}:__name__", ValueError, "is not a function"),
    ],
)
def test_a_wrong_name_is_an_error(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_setup(name)
