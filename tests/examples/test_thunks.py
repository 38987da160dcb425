"""Tests of the example with new kinds of suspension."""

from __future__ import annotations

import concurrent.futures

import pytest

import runtime
from docs.examples.thunks import Exchange, nap, result_of, scripted, simulated_loop
from tests.support.programs import ROOT, run_program

PROGRAM = ROOT / "docs" / "examples" / "thunks.py"
OUTPUT = "after 1 h: good\nafter 2 h: evening\na thread says 6\n"


def test_in_simulated_time() -> None:
    done = run_program(PROGRAM)
    assert (done.returncode, done.stdout, done.stderr) == (0, OUTPUT, "")


def test_in_real_time() -> None:
    done = run_program(PROGRAM, "--real-time", "0.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "a thread says 6"


def test_naps_end_in_the_order_of_their_moments() -> None:
    woken: list[tuple[float, str]] = []

    async def sleeper(seconds: float, name: str) -> None:
        await nap(seconds)
        woken.append((runtime.get_running_loop().time(), name))

    async def main() -> None:
        await runtime.gather(sleeper(3600, "hour"), sleeper(86400, "day"), sleeper(60, "minute"))

    runtime.run(main(), loop_factory=simulated_loop)
    assert woken == [(60.0, "minute"), (3600.0, "hour"), (86400.0, "day")]


def test_a_nap_that_is_cancelled_takes_its_timer_back() -> None:
    async def main() -> float:
        task = runtime.create_task(nap(3600))
        await nap(1)
        task.cancel()
        await runtime.wait([task])
        await nap(1)
        return runtime.get_running_loop().time()

    assert runtime.run(main(), loop_factory=simulated_loop, until="idle") == 2.0


async def test_an_exchange_passes_items_in_order_from_either_side() -> None:
    exchange: Exchange[int] = Exchange()
    async with runtime.TaskGroup() as group:
        takers = [group.create_task(exchange.take()) for _ in range(2)]
        await runtime.sleep(0)
        for number in range(4):
            group.create_task(exchange.give(number))
        takers += [group.create_task(exchange.take()) for _ in range(2)]
    assert [taker.result() for taker in takers] == [0, 1, 2, 3]


def test_an_item_is_withdrawn_when_its_giver_is_cancelled() -> None:
    async def main() -> int:
        exchange: Exchange[int] = Exchange()
        given_up = runtime.create_task(exchange.give(1))
        await runtime.sleep(0)
        given_up.cancel()
        await runtime.wait([given_up])
        async with runtime.TaskGroup() as group:
            group.create_task(exchange.give(2))
            return await exchange.take()
        raise AssertionError

    assert runtime.run(main()) == 2


def test_an_exception_of_a_thread_reaches_the_waiting_task() -> None:
    async def main() -> None:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            await result_of(pool.submit(int, "three"))

    with pytest.raises(ValueError, match="three"):
        runtime.run(main())


def test_input_is_one_coroutine_function_that_can_be_replaced() -> None:
    async def main() -> list[str]:
        read = scripted("a", "b", every=1)
        return [await read() for _ in range(3)]

    assert runtime.run(main(), loop_factory=simulated_loop) == ["a", "b", ""]
