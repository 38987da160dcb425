"""Parts of the answers of an observed process, as objects and as text."""

from __future__ import annotations

from typing import Any

from runtime.observe.task_info import Place, TaskInfo


def printable(text: Any) -> Any:
    """Return a text in which characters that a terminal may interpret are escaped."""
    if not isinstance(text, str) or text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def task_from(fields: dict[str, Any]) -> TaskInfo:
    """Return the task with the fields of an answer."""
    fields = {name: value for name, value in fields.items() if name != "source"}
    for name in ("name", "coroutine", "waits_for"):
        fields[name] = printable(fields[name])
    fields["stack"] = tuple(
        Place(**{name: printable(value) for name, value in place.items()})
        for place in fields["stack"]
    )
    fields["awaits"] = tuple(fields["awaits"])
    fields["held_by"] = tuple(map(printable, fields["held_by"]))
    return TaskInfo(**fields)


def entries_from(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the connections or timers of an answer, whose texts a terminal can show."""
    return [{name: printable(value) for name, value in each.items()} for each in entries]


def format_stack(loop: dict[str, Any]) -> list[str]:
    """Return the lines of the stacks of the tasks in a part of an answer."""
    lines: list[str] = []
    for fields in loop["tasks"]:
        task = task_from(fields)
        lines.append(f"{task.name}: {task.coroutine}(), {task.state}")
        for place, source in zip(task.stack, fields["source"], strict=True):
            lines += [f'  File "{place.file}", line {place.line}, in {place.function}']
            lines += [f"    {printable(source)}"] if source else []
        if task.waits_for:
            lines.append(f"  waits for {task.waits_for}")
    return lines
