"""``suspend``: resumption from callbacks, threads and finalizers, its timing, and cancellation."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any, NoReturn, assert_type

import pytest

import runtime
from runtime import Resume


def resumed_by(call: Callable[[Resume[Any]], object]) -> Any:
    """Run a coroutine that ``call(resume)`` resumes, from a callback; return its result."""

    async def main() -> Any:
        loop = runtime.get_running_loop()
        return await runtime.suspend(lambda resume: loop.call_soon(call, resume).cancel)

    return runtime.run(main())


def test_it_returns_the_value() -> None:
    assert resumed_by(lambda resume: resume(5)) == 5
    assert resumed_by(lambda resume: resume(value=5)) == 5
    assert resumed_by(lambda resume: resume()) is None


def test_it_raises_the_error() -> None:
    with pytest.raises(LookupError, match="this one"):
        resumed_by(lambda resume: resume(error=LookupError("this one")))
    with pytest.raises(ZeroDivisionError):
        resumed_by(lambda resume: resume(error=ZeroDivisionError))


def test_an_error_of_any_kind_reaches_the_coroutine() -> None:
    async def main() -> str:
        def arm(resume: Resume[None]) -> None:
            resume(error=kind("given"))

        try:
            await runtime.suspend(arm)
        except BaseException as error:
            return f"{type(error).__name__} {error}"
        return "nothing"

    for kind in (runtime.CancelledError, KeyboardInterrupt, ValueError):
        assert runtime.run(main()) == f"{kind.__name__} given"


async def test_bad_arguments_of_resume_are_refused_at_the_call() -> None:
    def arm(resume: Resume[int]) -> None:
        call: Any = resume
        with pytest.raises(TypeError, match="got both"):
            call(1, error=ValueError)
        with pytest.raises(TypeError, match="exception"):
            call(error="oops")
        with pytest.raises(TypeError, match="exception"):
            call(error=int)
        resume(6)

    assert await runtime.suspend(arm) == 6


async def test_resumed_inside_arm_it_goes_on_without_a_turn() -> None:
    events: list[str] = []

    def arm(resume: Resume[str]) -> None:
        runtime.get_running_loop().call_soon(events.append, "a turn later")
        resume("at once")

    events.append(await runtime.suspend(arm))
    await runtime.sleep(0)
    assert events == ["at once", "a turn later"]


async def test_a_second_call_is_an_error() -> None:
    kept: list[Resume[int]] = []

    def arm(resume: Resume[int]) -> None:
        kept.append(resume)
        assert "waiting" in repr(resume)
        assert "arm" in repr(resume)
        resume(1)
        with pytest.raises(runtime.InvalidStateError, match="resumed once"):
            resume(2)

    assert assert_type(await runtime.suspend(arm), int) == 1
    with pytest.raises(runtime.InvalidStateError, match="used"):
        kept[0](error=ValueError)


class Race:
    """Threads that resume one coroutine at the same time."""

    def __init__(self, threads: int) -> None:
        self.refused: list[int] = []
        self.together = threading.Barrier(threads)
        self.threads = threads

    def arm(self, resume: Resume[int]) -> None:
        self.started = [
            threading.Thread(target=self.work, args=(resume, number))
            for number in range(self.threads)
        ]
        for thread in self.started:
            thread.start()

    def work(self, resume: Resume[int], number: int) -> None:
        self.together.wait()
        try:
            resume(number)
        except runtime.InvalidStateError:
            self.refused.append(number)


async def test_of_many_threads_one_resumes() -> None:
    for _ in range(50):
        race = Race(4)
        winner = await runtime.suspend(race.arm)
        for thread in race.started:
            thread.join()
        assert sorted([*race.refused, winner]) == [0, 1, 2, 3]


def test_a_signal_handler_may_resume() -> None:
    async def main(before: Any) -> int:
        def arm(resume: Resume[int]) -> None:
            signal.signal(signal.SIGUSR1, lambda number, frame: resume(number))
            main_thread = threading.main_thread().ident
            assert main_thread is not None
            timer = threading.Timer(0.02, signal.pthread_kill, (main_thread, signal.SIGUSR1))
            timer.start()

        try:
            return await runtime.suspend(arm)
        finally:
            signal.signal(signal.SIGUSR1, before)

    assert runtime.run(main(signal.getsignal(signal.SIGUSR1))) == signal.SIGUSR1


async def test_exceptions_of_arm_are_raised_and_later_calls_do_nothing() -> None:
    kept: list[Resume[int]] = []

    def arm(resume: Resume[int]) -> NoReturn:
        kept.append(resume)
        raise LookupError("in arm")

    with pytest.raises(LookupError, match="in arm"):
        await runtime.suspend(arm)
    kept[0](1)
    kept[0](2)
    assert "given up" in repr(kept[0])


async def test_arm_returns_none_or_a_function() -> None:
    wrong: Any = lambda resume: resume  # noqa: E731
    assert callable(wrong(runtime.sleep))
    with pytest.raises(TypeError, match="undoes its arrangement"):
        await runtime.suspend(lambda resume: 5)  # type: ignore[arg-type,return-value]


class Waiting:
    """A task that waits in ``suspend``, and the function that resumes it."""

    def __init__(self, take_back: Callable[[], object] | None = None) -> None:
        self.take_back = take_back
        self.log: list[object] = []
        self.task = runtime.create_task(self.wait())
        self.resume: Resume[int]

    async def wait(self) -> int:
        value = await runtime.suspend(self.arm)
        self.log.append(value)
        await runtime.sleep(0)
        self.log.append("not reached when cancelled")
        return value

    def arm(self, resume: Resume[int]) -> Callable[[], object]:
        self.resume = resume
        return self.take_back or (lambda: self.log.append("taken back"))


async def test_a_cancelled_wait_calls_the_undo_function() -> None:
    waiting = Waiting()
    await runtime.sleep(0)
    waiting.task.cancel("enough")
    with pytest.raises(runtime.CancelledError, match="enough"):
        await waiting.task
    assert waiting.log == ["taken back"]
    # Other holders of the function need not know that the task has been resumed.
    waiting.resume(1)
    waiting.resume(error=ValueError())
    await runtime.to_thread(waiting.resume, 2)


async def test_an_error_in_taking_back_is_reported_and_the_cancellation_is_not_lost() -> None:
    def fail() -> NoReturn:
        raise LookupError("cannot")

    reports: list[dict[str, Any]] = []
    runtime.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context))
    waiting = Waiting(fail)
    await runtime.sleep(0)
    waiting.task.cancel()
    await runtime.wait([waiting.task])
    assert waiting.task.cancelled()
    (report,) = reports
    assert "undoes the arrangement" in report["message"]
    assert str(report["exception"]) == "cannot"


@pytest.mark.parametrize("thread", [False, True])
async def test_cancelled_after_it_was_resumed_the_value_is_not_lost(thread: bool) -> None:
    waiting = Waiting()
    await runtime.sleep(0)
    if thread:
        other = threading.Thread(target=waiting.resume, args=(7,))
        other.start()
        other.join()
    else:
        waiting.resume(7)
    waiting.task.cancel("late")
    with pytest.raises(runtime.CancelledError, match="late"):
        await waiting.task
    assert waiting.log == [7]
    assert waiting.task.cancelled()


async def test_a_timeout_that_comes_too_late_to_matter() -> None:
    kept: list[Resume[int]] = []

    def arm(resume: Resume[int]) -> None:
        kept.append(resume)

    loop = runtime.get_running_loop()
    async with runtime.timeout(0.01) as limit:
        when = limit.when()
        assert when is not None
        # It is due in the same turn as the deadline, and runs before the deadline's own
        # cancellation.
        loop.call_at(when - 0.000001, lambda: kept[0](8))
        try:
            value = await runtime.suspend(arm)
        except runtime.CancelledError:
            pytest.fail("the value was there")
    assert value == 8


async def test_a_timeout_ends_the_wait() -> None:
    log: list[str] = []
    with pytest.raises(TimeoutError):
        async with runtime.timeout(0.001):
            await runtime.suspend(lambda resume: lambda: log.append("taken back"))
    assert log == ["taken back"]


async def test_a_closed_coroutine_takes_back_too() -> None:
    log: list[str] = []
    coro: Any = runtime.suspend(lambda resume: lambda: log.append("taken back"))
    coro.send(None)
    coro.close()
    assert log == ["taken back"]


def test_after_the_loop_was_closed_a_call_does_nothing() -> None:
    kept: list[Resume[int]] = []

    async def wait() -> None:
        def arm(resume: Resume[int]) -> None:
            kept.append(resume)

        await runtime.suspend(arm)

    loop = runtime.new_event_loop()
    task = loop.create_task(wait())
    task._log_destroy_pending = False
    loop.run_until_complete(runtime.sleep(0))
    loop.close()
    kept[0](1)
    assert not task.done()


def test_it_needs_a_loop_of_ours() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="must be one of runtime's"):
            await runtime.suspend(lambda resume: None)

    asyncio.run(main())


async def test_a_task_of_asyncio_s_own_class_can_suspend() -> None:
    loop: Any = runtime.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop))
    task = loop.create_task(
        runtime.suspend(lambda resume: loop.call_soon(resume, 9).cancel), name="theirs"
    )
    loop.set_task_factory(None)
    assert int(await task) == 9


async def result_of(future: concurrent.futures.Future[Any]) -> Any:
    """Adapt a future of threads, as docs/howto/callbacks.md does."""

    def arm(resume: Resume[Any]) -> Callable[[], object]:
        def ended(future: concurrent.futures.Future[Any]) -> None:
            if not future.cancelled():
                resume(future)

        future.add_done_callback(ended)
        return future.cancel

    return (await runtime.suspend(arm)).result()


async def test_a_future_of_threads_is_adapted_in_ten_lines() -> None:
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert await result_of(pool.submit(sum, [1, 2])) == 3
        with pytest.raises(ZeroDivisionError):
            await result_of(pool.submit(lambda: 1 // 0))
    never: concurrent.futures.Future[int] = concurrent.futures.Future()
    with pytest.raises(TimeoutError):
        await runtime.wait_for(result_of(never), 0.001)
    assert never.cancelled()


@pytest.mark.usefixtures("no_collector")
def test_nothing_circular_is_left() -> None:
    async def main() -> None:
        calls: list[Callable[[Resume[int]], object]] = [
            lambda resume: resume(1),
            lambda resume: resume(error=LookupError()),
        ]
        for call in calls:
            kept: list[Any] = []

            def arm(resume: Resume[int], kept: list[Any] = kept) -> None:
                kept.append(resume)

            task = runtime.create_task(runtime.suspend(arm))
            await runtime.sleep(0)
            call(kept.pop())
            await runtime.wait([task])
            if task.exception() is not None:
                assert isinstance(task.exception(), LookupError)
            gone = weakref.ref(task)
            del task
            await runtime.sleep(0)
            assert gone() is None

    runtime.run(main())
    assert not gc.isenabled()
