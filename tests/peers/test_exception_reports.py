"""Exceptions in callbacks and finalizers, which must be reported and must not end the loop."""

from __future__ import annotations

import gc
import socket
from typing import Any

import pytest

import runtime


class Oops(Exception):
    pass


def oops(*args: object) -> None:
    raise Oops


def test_every_kind_of_callback_reaches_the_exception_handler_and_the_loop_goes_on() -> None:
    async def generate() -> Any:
        try:
            yield 1
        finally:
            oops()

    async def main() -> list[dict[str, Any]]:
        loop = runtime.get_running_loop()
        reports: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        future = loop.create_future()
        future.add_done_callback(oops)
        future.set_result(None)
        task = runtime.create_task(runtime.sleep(0))
        task.add_done_callback(oops)
        loop.call_soon(oops)
        loop.call_later(0, oops)
        loop.call_soon_threadsafe(oops)
        one, two = socket.socketpair()
        with one, two:
            loop.add_writer(one, oops)
            await runtime.sleep(0.001)
            loop.remove_writer(one)
        lost: Any = loop.create_future()
        lost.set_exception(Oops())
        del lost
        gc.collect()
        seen = len(reports)
        generator = generate()
        await anext(generator)
        del generator
        gc.collect()
        await runtime.sleep(0.001)
        gc.collect()
        assert len(reports) > seen, "the exception of the dropped generator must be reported"
        return reports

    reports = runtime.run(main())
    assert all(isinstance(report["exception"], Oops) for report in reports)
    assert all(report["message"] for report in reports)
    assert sum("handle" in report for report in reports) >= 6
    assert sum("future" in report for report in reports) >= 2


async def test_a_handler_that_fails_itself() -> None:
    loop = runtime.get_running_loop()
    ran: list[str] = []
    loop.set_exception_handler(oops)
    loop.call_soon(oops)
    loop.call_soon(ran.append, "the next callback")
    await runtime.sleep(0)
    assert ran == ["the next callback"]


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_system_exit_and_keyboard_interrupt_pass(fatal: type[BaseException]) -> None:
    def stop() -> None:
        raise fatal

    async def main() -> None:
        runtime.get_running_loop().call_soon(stop)
        await runtime.sleep(3600)

    with pytest.raises(fatal):
        runtime.run(main())
