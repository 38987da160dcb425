"""Entry points: the ways to run a program written for asyncio on a ``runtime.Loop``."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from tests.support.programs import run_code

with_policies = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="policies are deprecated from 3.14"
)
since_3_12 = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio.run() takes a loop factory from 3.12"
)


@pytest.fixture
def installed() -> Iterator[None]:
    runtime.install()
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(None)


async def running_loop() -> Any:
    return asyncio.get_running_loop()


def test_a_runner_of_asyncio_s_with_a_loop_factory() -> None:
    for factory in (runtime.Loop, runtime.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert type(runner.run(running_loop())) is runtime.Loop
            assert runner.run(running_loop()) is runner.get_loop()
        assert runner._loop is None  # type: ignore[attr-defined]


def test_a_runner_of_asyncio_s_keeps_its_context_and_debug_mode() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def add() -> tuple[int, bool]:
        variable.set(variable.get() + 1)
        return variable.get(), asyncio.get_running_loop().get_debug()

    with asyncio.Runner(loop_factory=runtime.Loop, debug=True) as runner:
        assert runner.run(add()) == (1, True)
        assert runner.run(add()) == (2, True)


@since_3_12
def test_asyncio_s_run_with_a_loop_factory() -> None:
    run: Any = asyncio.run
    loop = run(running_loop(), loop_factory=runtime.Loop)
    assert type(loop) is runtime.Loop
    assert loop.is_closed()


@with_policies
@pytest.mark.usefixtures("installed")
def test_asyncio_s_run_once_installed() -> None:
    loop = asyncio.run(running_loop())
    assert type(loop) is runtime.Loop
    assert loop.is_closed()


@with_policies
@pytest.mark.usefixtures("installed")
def test_a_new_event_loop_once_installed() -> None:
    loop = asyncio.new_event_loop()
    assert type(loop) is runtime.Loop
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    asyncio.set_event_loop(None)
    with pytest.raises(RuntimeError, match="no current event loop"):
        asyncio.get_event_loop_policy().get_event_loop()
    loop.close()


@with_policies
@pytest.mark.usefixtures("installed")
def test_an_implicit_loop_is_made_where_asyncio_makes_one() -> None:
    with warnings.catch_warnings(record=True) as ours:
        warnings.simplefilter("always")
        loop = asyncio.get_event_loop_policy().get_event_loop()
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    assert type(loop) is runtime.Loop
    loop.close()
    with warnings.catch_warnings(record=True) as asyncio_s:
        warnings.simplefilter("always")
        asyncio.DefaultEventLoopPolicy().get_event_loop().close()
    # From Python 3.12 on, asyncio warns about it.
    assert [each.category for each in ours] == [each.category for each in asyncio_s]


@with_policies
@pytest.mark.usefixtures("installed")
def test_there_is_no_implicit_loop_in_other_threads() -> None:
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            asyncio.get_event_loop_policy().get_event_loop()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert "no current event loop" in str(errors[0])


@with_policies
@pytest.mark.usefixtures("installed")
def test_the_running_loop_is_the_current_one() -> None:
    async def main() -> None:
        assert asyncio.get_event_loop() is asyncio.get_running_loop()
        assert runtime.get_running_loop() is asyncio.get_running_loop()

    asyncio.run(main())
    runtime.run(main())


@with_policies
def test_the_policy_is_an_asyncio_policy_and_refuses_other_objects() -> None:
    policy = runtime.EventLoopPolicy()
    no_loop: Any = "no loop"
    assert isinstance(policy, asyncio.AbstractEventLoopPolicy)
    with pytest.raises((TypeError, AssertionError)):
        policy.set_event_loop(no_loop)


def test_the_policy_s_loops_are_ours_on_every_python() -> None:
    loop = runtime.EventLoopPolicy().new_event_loop()
    assert type(loop) is runtime.Loop
    loop.close()


def test_install_without_policies_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(asyncio, "set_event_loop_policy")
    with pytest.raises(RuntimeError, match="loop_factory=runtime.Loop"):
        runtime.install()


def test_both_packages_report_the_same_running_loop() -> None:
    async def main() -> None:
        assert asyncio.get_running_loop() is runtime.get_running_loop()
        assert asyncio.current_task() is runtime.current_task()  # type: ignore[comparison-overlap]
        other = asyncio.create_task(asyncio.sleep(0))
        assert asyncio.all_tasks() == runtime.all_tasks()  # type: ignore[comparison-overlap]
        assert len(runtime.all_tasks()) == 2
        await other

    runtime.run(main())
    with asyncio.Runner(loop_factory=runtime.Loop) as runner:
        runner.run(main())


def test_after_an_error_at_the_start_nothing_is_left() -> None:
    async def fail() -> None:
        raise LookupError

    with (
        pytest.raises(LookupError),
        asyncio.Runner(loop_factory=runtime.Loop) as runner,
    ):
        runner.run(fail())
    with asyncio.Runner(loop_factory=functools.partial(runtime.new_event_loop)) as runner:
        assert runner.run(asyncio.sleep(0, "again")) == "again"


INTERRUPTED = """
import asyncio, os, runtime, signal
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("cleaned up")

try:
    with asyncio.Runner(loop_factory=runtime.Loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


def test_ctrl_c_under_asyncio_s_runner() -> None:
    result = run_code(INTERRUPTED)
    assert result.stdout == "cleaned up\nKeyboardInterrupt\n", result.stderr


@with_policies
def test_the_whole_program_unchanged_but_for_install() -> None:
    result = run_code(
        "import asyncio, runtime; runtime.install()\n"
        "async def main():\n"
        "    async with asyncio.TaskGroup() as group, asyncio.timeout(30):\n"
        "        kind = type(asyncio.get_event_loop())\n"
        "        task = group.create_task(asyncio.sleep(0, kind.__name__))\n"
        "    print(task.result(), type(task).__module__)\n"
        "asyncio.run(main())\n"
        "loop = asyncio.new_event_loop()\n"
        "asyncio.set_event_loop(loop)\n"
        "print(loop.run_until_complete(asyncio.sleep(0, 'classic')))\n"
        "loop.close()\n"
    )
    assert result.stdout == "Loop runtime.kernel.public_types\nclassic\n", result.stderr
    assert result.stderr == ""
