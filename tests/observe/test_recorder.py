"""The flight recorder: its events, and the files that are made of them."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.observe import (
    RecordedEvent,
    Recording,
    chrome_trace,
    save_recordings,
    trace_page,
    write_trace,
)
from tests.support.programs import run_code


@pytest.fixture(autouse=True)
def _no_recording_is_left() -> Iterator[None]:
    yield
    owners = {type(getattr(each, "__self__", each)) for each in gc.callbacks}
    assert Recording not in owners


async def child(event: runtime.Event) -> None:
    await event.wait()


async def scene(loop: runtime.Loop) -> None:
    event = runtime.Event()
    waiting = runtime.create_task(child(event), name="child")
    loop.call_soon(int)
    await runtime.sleep(0)
    event.set()
    await waiting
    stubborn = runtime.create_task(runtime.sleep_forever(), name="stubborn")
    await runtime.sleep(0)
    stubborn.cancel("the test is over")
    await runtime.wait([stubborn])


async def record(
    body: Callable[[runtime.Loop], Any] = scene, **options: Any
) -> tuple[Recording, list[RecordedEvent]]:
    loop = runtime.get_running_loop()
    loop.set_debug(False)
    recording = loop.record(**options)
    await runtime.sleep(0)
    await body(loop)
    recording.stop()
    return recording, recording.events()


async def test_steps_calls_wake_ups_and_ends_are_recorded_in_order() -> None:
    _, events = await record()
    assert [event.time for event in events] == sorted(event.time for event in events)
    steps = [event for event in events if event.kind == "step" and event.name == "child"]
    assert [step.text for step in steps] == ["child", "child"]
    wakes = [each for each in events if each.kind == "wake" and each.subject == steps[0].subject]
    assert wakes[0].time <= steps[0].time <= wakes[1].time <= steps[1].time
    assert {event.text for event in events if event.kind == "call"} >= {"int"}
    ends = {event.name: event.text for event in events if event.kind == "ended"}
    assert ends == {"child": "returned", "stubborn": "cancelled: the test is over"}
    assert {"poll", "turn", "connections"} <= {event.kind for event in events}
    turn = max(place for place, event in enumerate(events) if event.kind == "turn")
    ran = [event for event in events[turn:] if event.kind in ("step", "call")]
    assert events[turn].number == len(ran) > 0


async def test_the_end_of_a_task_that_its_group_has_cancelled_shows_the_reason() -> None:
    async def body(loop: runtime.Loop) -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(runtime.sleep_forever(), name="child")
            await runtime.sleep(0)
            group.cancel("enough")

    _, events = await record(body)
    (end,) = [each for each in events if each.kind == "ended" and each.name == "child"]
    assert re.fullmatch(r"cancelled by \S+ at \S+test_recorder\.py:\d+ in .*: enough", end.text)


async def test_collections_are_recorded() -> None:
    async def collect(loop: runtime.Loop) -> None:
        gc.collect(1)

    _, events = await record(collect)
    found = [event for event in events if event.kind.startswith("collect") and event.number == 1]
    assert [event.kind for event in found] == ["collection", "collected"]


async def test_a_task_that_fails_is_recorded_with_its_exception() -> None:
    async def fail(loop: runtime.Loop) -> None:
        task = runtime.create_task(child(None), name="failing")  # type: ignore[arg-type]
        await runtime.wait([task])
        assert task.exception() is not None

    _, events = await record(fail)
    assert [each.text for each in events if each.kind == "ended"] == ["raised AttributeError"]


async def test_timers_that_are_due_or_cancelled_are_recorded() -> None:
    def ring_bell() -> None:
        pass

    handles: list[Any] = []

    async def body(loop: runtime.Loop) -> None:
        handles.append(loop.call_later(0.001, ring_bell))
        handles.append(loop.call_later(3600, ring_bell))
        sleeping = runtime.create_task(runtime.sleep(3600))
        await runtime.sleep(0.003)
        handles[1].cancel()
        async with runtime.timeout(3600):
            await runtime.sleep(0)
        sleeping.cancel()
        await runtime.wait([sleeping])

    _, events = await record(body)
    due = [each for each in events if each.kind == "timer"]
    assert {each.text for each in due if "ring_bell" not in each.text} == {"SleepFuture"}
    (bell,) = [each for each in due if each.subject == id(handles[0])]
    (call,) = [each for each in events if each.kind == "call" and each.subject == bell.subject]
    assert bell.time <= call.time
    assert bell.text == call.text
    cancelled = [each for each in events if each.kind == "timer cancelled"]
    assert id(handles[1]) in {each.subject for each in cancelled}
    assert len(cancelled) == 3
    _, events = await record()
    assert not [each for each in events if each.kind == "timer"]


async def test_steps_are_recorded_in_debug_mode_as_well() -> None:
    loop = runtime.get_running_loop()
    loop.set_debug(True)
    recording = loop.record()
    await runtime.sleep(0)
    await scene(loop)
    recording.stop()
    await runtime.sleep(0)
    loop.set_debug(False)
    events = recording.events()
    steps = [each.text for each in events if each.kind == "step" and each.name == "child"]
    assert steps == ["child", "child"]
    ends = {event.name: event.text for event in events if event.kind == "ended"}
    assert ends == {"child": "returned", "stubborn": "cancelled: the test is over"}
    kinds = {event.kind for event in events}
    assert {"poll", "turn", "connections", "call", "wake"} <= kinds
    assert [event.time for event in events] == sorted(event.time for event in events)


async def test_a_task_that_ends_outside_of_a_turn_is_recorded() -> None:
    async def wait_for(future: Any) -> None:
        await future

    async def end_at_once() -> None:
        pass

    async def body(loop: runtime.Loop) -> None:
        future: Any = asyncio.Future(loop=loop)
        waiting = runtime.create_task(wait_for(future), name="waiting")
        await runtime.sleep(0)
        future.set_result(None)
        await waiting
        runtime.create_task(end_at_once(), name="eager", eager_start=True)

    _, events = await record(body)
    ends = {event.name: event.text for event in events if event.kind == "ended"}
    assert ends == {"waiting": "returned", "eager": "returned"}


async def test_a_cancel_message_whose_text_cannot_be_made_does_not_end_the_loop() -> None:
    class Message:
        def __str__(self) -> str:
            raise ZeroDivisionError

    recording = runtime.get_running_loop().record()
    waiting = runtime.create_task(runtime.sleep(60))
    await runtime.sleep(0)
    for task in (waiting, runtime.create_task(runtime.sleep(60))):
        task.cancel(Message())
        await runtime.wait([task])
        assert task.cancelled()
    recording.stop()
    texts = [event.text for event in recording.events() if event.kind == "ended"]
    assert len(texts) == 2
    assert all("whose str() raised ZeroDivisionError" in text for text in texts)


async def test_tasks_that_had_the_same_address_are_told_apart() -> None:
    async def body(loop: runtime.Loop) -> None:
        for number in range(20):
            await runtime.create_task(runtime.sleep(0), name=f"task {number}")

    _, events = await record(body)
    names = [each.name for each in events if each.kind == "step" and each.name.startswith("task ")]
    assert names == [f"task {number}" for number in range(20) for _ in range(2)]
    steps = [each for each in events if each.kind == "step" and each.name.startswith("task ")]
    if len({each.subject for each in steps}) == 20:
        pytest.skip("this allocator, of a sanitizer, does not use an address again so soon")


async def test_different_functions_in_c_have_their_own_names() -> None:
    async def body(loop: runtime.Loop) -> None:
        callbacks: list[Any] = [bytes, functools.partial(len, ""), gc.get_count, [].copy, [].copy]
        for callback in callbacks:
            loop.call_soon(callback)
            await runtime.sleep(0)

    _, events = await record(body)
    texts = [each.text for each in events if each.kind == "call"]
    assert texts[:5] == ["bytes", "len", "get_count", "list.copy", "list.copy"]


async def test_the_size_and_the_duration_are_limits() -> None:
    recording, events = await record(events=10)
    assert len(events) == 10
    loop = runtime.get_running_loop()
    recording = loop.record(seconds=0.03)
    await runtime.sleep(0)
    await runtime.sleep(0.06)
    found = recording.events()
    assert found[0].time > time.monotonic() - 0.06
    assert recording.is_recording()
    recording.stop()
    recording.stop()
    assert not recording.is_recording()


async def test_one_recording_at_a_time_and_valid_arguments() -> None:
    loop = runtime.get_running_loop()
    recording = loop.record()
    with pytest.raises(RuntimeError, match="is being recorded"):
        loop.record()
    recording.stop()
    with pytest.raises(ValueError, match="positive number of seconds, got 0"):
        loop.record(0)
    with pytest.raises(ValueError, match="1 to 16777216 events"):
        loop.record(events=0)
    with pytest.raises(TypeError, match="whole number of events, got 'x'"):
        loop.record(events="x")  # type: ignore[arg-type]
    loop.record().stop()


def test_a_loop_that_is_closed_ends_its_recording() -> None:
    loop = runtime.new_event_loop()
    loop.set_debug(False)
    recording = loop.record()
    loop.run_until_complete(runtime.sleep(0))
    loop.close()
    assert not recording.is_recording()
    assert recording.events()
    with pytest.raises(RuntimeError, match="closed"):
        loop.record()


async def test_debug_mode_and_recording_may_be_turned_on_and_off_in_any_order() -> None:
    loop = runtime.get_running_loop()
    for first, second in ((True, False), (False, True)):
        loop.set_debug(first)
        recording = loop.record()
        for debug in (second, first, second):
            await runtime.sleep(0)
            loop.set_debug(debug)
            await runtime.sleep(0.001)
        recording.stop()
        await runtime.sleep(0.001)


# -- Files -----------------------------------------------------------------------------------------


async def test_a_trace_has_lanes_slices_and_arrows() -> None:
    recording, _ = await record()
    trace = json.loads(json.dumps(chrome_trace(recording)))["traceEvents"]
    lanes = {each["tid"]: each["args"]["name"] for each in trace if each["name"] == "thread_name"}
    assert {"event loop", "callbacks", "garbage collector", "child", "stubborn"} <= set(
        lanes.values()
    )
    slices = [each for each in trace if each["ph"] == "X"]
    assert all(each["dur"] >= 0 and each["tid"] in lanes for each in slices)
    main = [each for each in slices if lanes[each["tid"]] != "garbage collector"]
    main.sort(key=lambda each: each["ts"])
    for before, after in itertools.pairwise(main):
        assert before["ts"] + before["dur"] <= after["ts"] + 0.01  # The loop does one at a time.
    starts = {each["id"]: each for each in trace if each["ph"] == "s"}
    ends = {each["id"]: each for each in trace if each["ph"] == "f"}
    assert starts.keys() == ends.keys()
    assert all(starts[each]["ts"] <= ends[each]["ts"] for each in starts)
    assert "child" in {lanes[each["tid"]] for each in ends.values()}
    texts = [each["name"] for each in trace if each["ph"] == "i"]
    assert "cancelled: the test is over" in texts
    assert {each["name"] for each in trace if each["ph"] == "C"} == {"ready", "connections"}


PHASES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "M": {"args": dict},
    "X": {"ts": float, "dur": float, "tid": int, "cat": str},
    "s": {"ts": float, "tid": int, "id": int, "cat": str},
    "f": {"ts": float, "tid": int, "id": int, "cat": str, "bp": str},
    "i": {"ts": float, "tid": int, "s": str},
    "C": {"ts": float, "args": dict},
}
"""The fields that an event of each phase must have, besides ``ph``, ``pid`` and ``name``.

Source: the document "Trace Event Format", which both viewers implement.
"""


async def test_a_trace_has_the_format_of_chrome_s_viewer() -> None:
    async def body(loop: runtime.Loop) -> None:
        await scene(loop)
        loop.call_later(3600, int).cancel()
        gc.collect()
        await runtime.sleep(0.001)

    recording, _ = await record(body)
    text = json.dumps(chrome_trace(recording), allow_nan=False)
    trace = json.loads(text)
    assert trace.keys() == {"traceEvents", "displayTimeUnit"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events = trace["traceEvents"]
    assert {event["ph"] for event in events} == PHASES.keys()
    for event in events:
        fields = {"ph": str, "pid": int, "name": str, **PHASES[event["ph"]]}
        allowed = fields.keys() | ({"tid"} if event["ph"] == "M" else set())
        assert fields.keys() <= event.keys() <= allowed, event
        for name, kind in fields.items():
            assert isinstance(event[name], kind), event
    names = {"process_name": "name", "thread_name": "name", "thread_sort_index": "sort_index"}
    for event in (each for each in events if each["ph"] == "M"):
        assert event["args"].keys() == {names[event["name"]]}
        assert ("tid" in event) is (event["name"] != "process_name")
    # Times are in microseconds, and not negative.
    assert all(event.get("ts", 0) >= 0 <= event.get("dur", 0) for event in events)
    assert all(event["s"] in "tpg" for event in events if event["ph"] == "i")
    assert all(event["bp"] == "e" for event in events if event["ph"] == "f")
    assert all(
        isinstance(value, int)
        for event in events
        if event["ph"] == "C"
        for value in event["args"].values()
    )
    # Slices of one lane must not overlap, since they are not nested; each end of an arrow must be
    # inside of a slice of its lane, or a viewer does not draw it.
    lanes: dict[int, list[tuple[float, float]]] = {}
    for event in (each for each in events if each["ph"] == "X"):
        lanes.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
    for slices in lanes.values():
        slices.sort()
        assert all(end <= start + 0.01 for (_, end), (start, _) in itertools.pairwise(slices))
    for event in (each for each in events if each["ph"] in "sf"):
        slices = lanes[event["tid"]]
        assert any(start - 0.01 <= event["ts"] <= end + 0.01 for start, end in slices), event


async def test_tasks_with_the_same_name_have_a_lane_each() -> None:
    async def body(loop: runtime.Loop) -> None:
        both = [loop.create_task(runtime.sleep(0), name="twin") for _ in range(2)]
        await runtime.wait(both)
        both.clear()
        # Such a task may have the address of one that has ended.
        for _ in range(10):
            await loop.create_task(runtime.sleep(0), name="twin")

    recording, _ = await record(body)
    trace = chrome_trace(recording)["traceEvents"]
    lanes = {each["tid"]: each["args"]["name"] for each in trace if each["name"] == "thread_name"}
    twins = [number for number, name in lanes.items() if name == "twin"]
    assert len(twins) == 12
    for number in twins:
        own = [each for each in trace if each.get("tid") == number]
        assert [each["ph"] for each in own].count("X") == 2
        assert [each["name"] for each in own if each["ph"] == "i"] == ["returned"]
    assert trace_page(recording).count(">twin</text>") == 12


async def test_a_trace_has_the_timers_that_were_cancelled() -> None:
    async def body(loop: runtime.Loop) -> None:
        with runtime.fail_after(3600):
            await runtime.sleep(0.001)

    recording, _ = await record(body)
    trace = chrome_trace(recording)["traceEvents"]
    lanes = {each["tid"]: each["args"]["name"] for each in trace if each["name"] == "thread_name"}
    (cancelled,) = [each for each in trace if each["name"] == "timer cancelled"]
    task = runtime.current_task()
    assert task is not None
    assert (cancelled["ph"], lanes[cancelled["tid"]]) == ("i", task.get_name())
    # An arrow leads from the timer that was due to the entry that ran for it.
    ends = [each for each in trace if each["ph"] == "f"]
    assert "callbacks" in {lanes[each["tid"]] for each in ends}


class Tags(HTMLParser):
    """Counts the elements of a page, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)


async def test_a_page_needs_nothing_else_and_escapes_names() -> None:
    async def named(loop: runtime.Loop) -> None:
        await runtime.create_task(runtime.sleep(0), name="<script>alert()</script>")

    recording, _ = await record(named)
    page = trace_page(recording)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.found.count("rect") > 5
    assert "script" not in tags.found
    assert "&lt;script&gt;alert()" in page
    assert not re.search(r"https?://|src=|href=", page)


async def test_files_are_written_as_a_whole(tmp_path: Path) -> None:
    recording, _ = await record()
    write_trace(recording, tmp_path / "trace.json")
    write_trace(recording, str(tmp_path / "trace.html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.html", "trace.json"]
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert (tmp_path / "trace.html").read_text().startswith("<!DOCTYPE html>")


async def test_files_do_not_depend_on_the_encoding_of_the_locale(tmp_path: Path) -> None:
    async def body(loop: runtime.Loop) -> None:
        await asyncio.gather(
            loop.create_task(runtime.sleep(0), name="half \udc80"),
            loop.create_task(runtime.sleep(0), name="\N{GREEK SMALL LETTER PI}"),
        )

    recording, _ = await record(body)
    for name in ("trace.json", "trace.html"):
        write_trace(recording, tmp_path / name)
    names = [
        each["args"]["name"]
        for each in json.loads((tmp_path / "trace.json").read_bytes())["traceEvents"]
        if each["name"] == "thread_name"
    ]
    assert "half \udc80" in names
    page = (tmp_path / "trace.html").read_bytes().decode("utf-8")
    assert "half \\udc80" in page
    assert "\N{GREEK SMALL LETTER PI}" in page


async def test_a_file_that_cannot_be_written_leaves_no_other(tmp_path: Path) -> None:
    recording, _ = await record()
    (tmp_path / "trace.json").mkdir()
    with pytest.raises(OSError, match="trace.json"):
        write_trace(recording, tmp_path / "trace.json")
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_an_empty_recording_can_be_exported() -> None:
    loop = runtime.new_event_loop()
    recording = loop.record()
    assert chrome_trace(recording)["traceEvents"]
    assert "</html>" in trace_page(recording)
    loop.close()


# -- When something goes wrong ---------------------------------------------------------------------


def test_a_deadlock_and_a_fatal_error_save_the_recording(tmp_path: Path) -> None:
    done = run_code(
        "import runtime, sys\n"
        "async def main(fatal):\n"
        "    loop = runtime.get_running_loop()\n"
        f"    runtime.observe.save_recordings(loop.record(), {str(tmp_path)!r})\n"
        "    loop.set_deadlock_reports(True)\n"
        "    await runtime.sleep(0)\n"
        "    if fatal:\n"
        "        loop.call_soon(sys.exit)\n"
        "    await runtime.get_running_loop().create_future()\n"
        "for fatal in (False, True):\n"
        "    try:\n"
        "        runtime.run(main(fatal), debug=False)\n"
        "    except (runtime.DeadlockError, SystemExit):\n"
        "        pass\n"
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir())
    assert names == ["DeadlockError.json", "SystemExit.json"]


def test_a_folder_that_cannot_be_written_does_not_replace_the_exception(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    async def main() -> None:
        loop = runtime.get_running_loop()
        save_recordings(loop.record(), tmp_path / "file")
        loop.call_soon(sys.exit, 3)
        await runtime.sleep(60)

    with pytest.raises(SystemExit) as raised:
        runtime.run(main(), debug=False)
    assert raised.value.code == 3
    assert "The recording for SystemExit cannot be saved" in caplog.text


async def test_a_stall_saves_the_recording_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loop = runtime.get_running_loop()
    loop.set_debug(False)
    recording = loop.record()
    save_recordings(recording, tmp_path / "new")
    loop.watch_slow_callbacks(0.005)
    deadline = time.monotonic() + 30
    with caplog.at_level(logging.CRITICAL, "asyncio"):
        while not (tmp_path / "new").exists() or not list((tmp_path / "new").glob("*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
            await runtime.sleep(0.001)
        for _ in range(3):
            time.sleep(0.03)
            await runtime.sleep(0.001)
        loop.watch_slow_callbacks(None)
    recording.stop()
    (path,) = (tmp_path / "new").iterdir()
    assert path.name.endswith("-stall.json")


async def test_a_signal_saves_the_recording(tmp_path: Path) -> None:
    recording = runtime.get_running_loop().record()
    before = signal.getsignal(signal.SIGUSR2)
    save_recordings(recording, tmp_path, on_signal=signal.SIGUSR2)
    signal.raise_signal(signal.SIGUSR2)
    signal.signal(signal.SIGUSR2, before)
    recording.stop()
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-SIGUSR2.json")
