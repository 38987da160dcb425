"""The reasons of cancellations: attributes of the CancelledErrors, notes, reports and logs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import runtime
from runtime.kernel.diagnostics.deadlock import describe_wait
from runtime.testing import wait_all_tasks_blocked
from tests.support.programs import run_code
from tests.sync.tools import Log, never, turns

HERE = __file__


async def reason_in(wait: Callable[[], Awaitable[object]]) -> runtime.CancelReason:
    """Return the reason of the CancelledError that ends a wait; its text is asyncio's."""
    try:
        await wait()
    except runtime.CancelledError as error:
        reason = runtime.cancel_reason(error)
        if reason is None or reason is not vars(error)["cancel_reason"]:
            raise AssertionError("it has no reason") from error
        return reason
    raise AssertionError("the wait was not cancelled")


async def test_a_message_is_the_reason() -> None:
    task = runtime.create_task(reason_in(never))
    await runtime.sleep(0)
    task.cancel("shutting down")
    reason = await task
    assert (reason.kind, reason.text, reason.place) == ("call", "shutting down", None)


async def test_the_text_of_the_error_stays_asyncios() -> None:
    errors: list[BaseException] = []

    async def wait() -> None:
        try:
            await never()
        except runtime.CancelledError as error:
            errors.append(error)
            raise

    for message in ("words", None, 7):
        task = runtime.create_task(wait())
        await runtime.sleep(0)
        task.cancel(message)
        await runtime.wait([task])
    with runtime.move_on_after(0):
        await wait()
    assert [error.args for error in errors] == [("words",), (), (7,), ()]
    assert runtime.cancel_reason(errors[1]) is None
    assert runtime.cancel_reason(errors[2]) is None
    assert runtime.cancel_reason(LookupError()) is None
    assert runtime.cancel_reason(runtime.CancelledError("made")) is not None


async def test_the_call_of_a_scope() -> None:
    task = runtime.current_task()
    assert task is not None
    with runtime.CancelScope() as scope:
        scope.cancel("enough")
        reason = await reason_in(never)
    assert reason is scope.cancel_reason
    assert (reason.kind, reason.text, reason.task) == ("call", "enough", task.get_name())
    assert reason.place is not None
    assert reason.place.startswith(f"{HERE}:")
    assert reason.place.endswith("in test_the_call_of_a_scope()")
    assert str(reason) == f"cancelled by {task.get_name()} at {reason.place}: enough"


async def test_a_reason_that_the_program_makes() -> None:
    cause = LookupError("of the program")
    given = runtime.CancelReason("call", "a text", source=cause)
    with runtime.CancelScope() as scope:
        scope.cancel(given)
        assert await reason_in(never) is given
    assert scope.cancel_reason is given
    assert repr(given) == f"<CancelReason cancelled with {cause!r}: a text>"
    with pytest.raises(AttributeError, match="read-only"):
        given.text = "another"
    with pytest.raises(ValueError, match="kind must be one of call, deadline"):
        runtime.CancelReason("no kind")  # type: ignore[arg-type]


async def test_a_callback_has_no_place() -> None:
    with runtime.CancelScope() as scope:
        runtime.get_running_loop().call_soon(scope.cancel)
        reason = await reason_in(never)
    assert reason.task is None


@pytest.mark.runtime(clock="virtual")
async def test_a_deadline() -> None:
    with runtime.CancelScope(deadline=1, reason="too slow"):
        reason = await reason_in(never)
    assert (reason.kind, reason.text) == ("deadline", "too slow")
    assert reason.place is not None
    assert reason.place.startswith(f"{HERE}:")
    assert str(reason) == f"the deadline has passed, set at {reason.place}: too slow"
    line = int(reason.place.split(":")[1].split()[0])
    with runtime.move_on_after(1) as scope:
        scope.deadline = runtime.get_running_loop().time() + 2
        later = await reason_in(never)
    assert later.place is not None
    assert int(later.place.split(":")[1].split()[0]) > line


@pytest.mark.runtime(clock="virtual")
async def test_timeouts() -> None:
    async def with_timeout() -> runtime.CancelReason:
        async with runtime.timeout(1):
            return await reason_in(never)
        raise AssertionError

    async def with_wait_for() -> runtime.CancelReason:
        found: list[runtime.CancelReason] = []

        async def wait() -> None:
            found.append(await reason_in(never))

        await runtime.wait_for(wait(), 1)
        return found[0]

    for function in (with_timeout, with_wait_for):
        reason = await function()
        assert reason.kind == "deadline"
        assert reason.place is not None
        assert reason.place.startswith(f"{HERE}:")
        assert reason.place.endswith(f"{function.__name__}()")
    with pytest.raises(TimeoutError) as caught:
        async with runtime.timeout(1):
            await never()
    assert runtime.cancel_reason(caught.value.__cause__ or caught.value) is not None


async def test_a_siblings_failure() -> None:
    reasons: list[runtime.CancelReason] = []

    async def wait() -> None:
        reasons.append(await reason_in(never))

    async def fail() -> None:
        raise LookupError("of a sibling")

    with pytest.raises(ExceptionGroup):
        async with runtime.TaskGroup() as group:
            group.create_task(wait())
            group.create_task(fail())
            await wait()
    for reason in reasons:
        assert reason.kind == "sibling"
        assert isinstance(reason.source, LookupError)
        assert reason.place is not None
        assert reason.place.endswith("in test_a_siblings_failure.<locals>.fail()")
    assert len(reasons) == 2


async def test_a_group() -> None:
    async with runtime.TaskGroup() as group:
        child = group.create_task(reason_in(never))
        await turns()
        group.cancel("no more work")
    assert child.result().text == "no more work"
    with pytest.raises(TypeError, match="a text or a CancelReason"):
        group.cancel(3)  # type: ignore[arg-type]


async def test_the_reason_reaches_awaited_tasks_and_gather() -> None:
    """A request passes on along the chain of awaits, and the reason with it."""
    reasons: list[runtime.CancelReason] = []

    async def wait() -> None:
        reasons.append(await reason_in(never))
        raise runtime.CancelledError

    with runtime.CancelScope() as scope:
        runtime.get_running_loop().call_later(0.001, scope.cancel, "all of them")
        await runtime.gather(wait(), runtime.create_task(wait()))
    with runtime.CancelScope() as scope:
        runtime.get_running_loop().call_later(0.001, scope.cancel, "all of them")
        await asyncio.gather(wait(), wait())
    assert [reason.text for reason in reasons] == ["all of them"] * 4


async def test_a_request_that_waits_for_the_next_await_keeps_its_reason() -> None:
    send, receive = runtime.open_channel[int](0)
    log = Log()

    async def work() -> None:
        log.add(await receive.receive())
        try:
            await never()
        except runtime.CancelledError as error:
            log.add(error.args, runtime.cancel_reason(error))
            raise

    async with runtime.TaskGroup() as group:
        group.create_task(work())
        await runtime.sleep(0)
        send.send_nowait(1)
        group.cancel(runtime.CancelReason("call", "enough"))
    assert log == ["1", "() cancelled: enough"]


def test_the_end_of_the_run() -> None:
    reasons: list[runtime.CancelReason] = []

    async def wait() -> None:
        reasons.append(await reason_in(never))

    async def main() -> runtime.Task[None]:
        task = runtime.create_task(wait())
        await runtime.sleep(0)
        return task

    runtime.run(main())
    assert [reason.kind for reason in reasons] == ["end"]


def test_ctrl_c() -> None:
    done = run_code(
        """
import runtime, signal

async def main():
    runtime.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
    try:
        await runtime.sleep_forever()
    except runtime.CancelledError as error:
        print(error.cancel_reason)

try:
    runtime.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert done.stdout == "Ctrl-C was pressed\n"


@pytest.mark.runtime(debug=True)
async def test_notes_in_debug_mode() -> None:
    with runtime.CancelScope() as scope:
        scope.cancel("enough")
        with pytest.raises(runtime.CancelledError) as caught:
            await never()
    assert caught.value.__notes__ == [f"Reason: {scope.cancel_reason}"]


async def test_no_notes_otherwise() -> None:
    runtime.get_running_loop().set_debug(False)
    with runtime.CancelScope() as scope:
        scope.cancel("enough")
        with pytest.raises(runtime.CancelledError) as caught:
            await never()
    assert not hasattr(caught.value, "__notes__")


async def test_reports_of_waiting_tasks() -> None:
    loop = runtime.get_running_loop()
    futures: list[runtime.Future[None]] = [loop.create_future() for _ in range(2)]

    async def refuse() -> None:
        for each in futures:
            try:
                await each
            except runtime.CancelledError:
                continue

    async def refuse_in_scope(scope: runtime.CancelScope) -> None:
        with scope:
            while not futures[1].done():
                try:
                    await runtime.shield(futures[1])
                except runtime.CancelledError:
                    continue

    scope = runtime.CancelScope()
    refusing = runtime.create_task(refuse())
    in_scope = runtime.create_task(refuse_in_scope(scope))
    await turns()
    refusing.cancel(runtime.CancelReason("end", "really"))
    scope.cancel("enough")
    await wait_all_tasks_blocked()
    assert "  is being cancelled: the run has ended: really" in describe_wait(refusing)
    assert f"  is being cancelled: {scope.cancel_reason}" in describe_wait(in_scope)
    futures[1].set_result(None)
    await runtime.wait([refusing, in_scope])


def test_logs_of_unhandled_errors() -> None:
    done = run_code(
        """
import runtime

async def fail():
    try:
        await runtime.sleep_forever()
    finally:
        raise LookupError

async def start():
    with runtime.CancelScope() as scope:
        scope.cancel("enough")
        await fail()

async def main():
    await runtime.wait([runtime.create_task(start(), name="failing")])

runtime.run(main())
"""
    )
    assert "cancel reason: cancelled by failing at <string>:12 in start(): enough" in done.stderr
