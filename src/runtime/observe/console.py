"""The console ``python -m runtime top PID``, on the library ``textual``.

Import this module only where the console is wanted: the library is an extra of this package. The
questions to the observed process are asked in a thread, so that the console stays usable while the
process is slow to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static, TabbedContent, TabPane

from runtime.observe.answers import format_stack
from runtime.observe.client import ask
from runtime.observe.endpoint import ObserveError
from runtime.observe.top_view import MOST_ROWS, SORTS, LoopView, Row, bars, views

_HISTORY = 500
"""Moments that the curve of the utilization keeps. It shows as many as the terminal is wide."""

_COLUMNS = {
    "tasks": ("STATE", "AGE", "NAME", "COROUTINE", "WHERE", "WAITS FOR"),
    "connections": ("FD", "STATE", "UNSENT", "PEER", "LOCAL", "PROTOCOL"),
    "timers": ("DUE IN", "CALLBACK"),
}


class TaskTable(DataTable[Text]):
    """The table of tasks, where Enter shows a stack."""

    BINDINGS: ClassVar[list[Any]] = [("enter", "select_cursor", "Stack")]


class Console(App[None]):
    """A live view of the loops of process ``pid``, renewed every ``interval`` seconds."""

    TITLE = "runtime top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #title { background: $primary; color: $text; padding: 0 1; }
    #summary { height: auto; padding: 0 1; }
    #utilization { color: $primary; padding: 0 1; }
    #filter { display: none; }
    #filter.shown { display: block; }
    Screen { overflow: hidden; }
    TabbedContent, DataTable { height: 1fr; }
    TabPane { padding: 0; }
    StackScreen, ConfirmScreen { align: center middle; }
    #box {
        width: 80%; height: auto; max-height: 80%;
        border: thick $primary; background: $surface; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[Any]] = [
        ("s", "next_sort", "Sort"),
        ("t", "toggle_tree", "Tree"),
        ("slash", "filter", "Filter"),
        ("c", "cancel", "Cancel task"),
        ("p", "pause", "Pause"),
        ("l", "next_loop", "Next loop"),
        ("q", "quit", "Quit"),
    ]

    def __init__(self, pid: int, interval: float = 1.0) -> None:
        super().__init__()
        self.pid = pid
        self.interval = interval
        self.views: list[LoopView] = []
        self.sort_order = SORTS[0]
        self.is_tree = False
        self.is_stopped = False
        # Whether a question is on its way: the next one waits for its answer.
        self._is_asking = False
        self._wanted = ""
        self._loop_id: int | None = None
        self._utilization: list[float] = []
        self._state = "connecting"

    def compose(self) -> ComposeResult:
        """Give the widgets of the main screen."""
        yield Static(id="title", markup=False)
        yield Static(id="summary", markup=False)
        yield Static(id="utilization", markup=False)
        yield Input(placeholder="show the tasks that contain ...", id="filter")
        with TabbedContent(id="tabs"):
            for name in _COLUMNS:
                with TabPane(name.capitalize(), id=f"{name}-tab"):
                    kind = TaskTable if name == "tasks" else DataTable
                    yield kind(id=name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to ask the process for its state."""
        for name, columns in _COLUMNS.items():
            table = self._table(name)
            for column in columns:
                table.add_column(column, key=column)
        self._table("tasks").focus()
        self._show()
        self.set_interval(self.interval, self.renew)
        self.renew()

    # -- Asking ------------------------------------------------------------------------------------

    def renew(self) -> None:
        """Ask the process for its state, in a thread, unless it has yet to answer or is paused."""
        if not self._is_asking and not self.is_stopped:
            self._is_asking = True
            self.run_worker(self._ask_for_views, thread=True, exit_on_error=False)

    def _ask_for_views(self) -> None:
        found: list[LoopView] | None = None
        state = ""
        try:
            found = views(ask(self.pid, {"command": "top"}), self.views)
        except OSError as error:
            state = str(error)
        self.call_from_thread(self._take, found, state)

    def _take(self, found: list[LoopView] | None, state: str) -> None:
        self._is_asking = False
        self._state = state
        if found is not None:
            is_first = not self.views
            self.views = found
            view = self.view
            # The first utilization is the average since the loop was made.
            if view is not None and not is_first:
                self._utilization = [*self._utilization[1 - _HISTORY :], view.utilization]
        self._show()

    # -- Showing -----------------------------------------------------------------------------------

    @property
    def view(self) -> LoopView | None:
        """The loop that is shown, or None before the first answer and if there is no loop."""
        chosen = [view for view in self.views if view.id == self._loop_id]
        return next(iter(chosen or self.views), None)

    def _show(self) -> None:
        """Draw the last answer."""
        screen: Any = self.screen_stack[0]
        view = self.view
        words = [f"process {self.pid}"]
        if view is not None:
            words.append(view.title)
            words.append("tree" if self.is_tree else f"by {self.sort_order}")
            if self._wanted:
                words.append(f"with {self._wanted!r}")
        words += ["paused"] if self.is_stopped else []
        words += [self._state] if self._state else []
        if view is None:
            screen.query_one("#title", Static).update("   ".join(words))
            return
        screen.query_one("#utilization", Static).update(
            bars(self._utilization[-self.size.width + 2 :])
        )
        screen.query_one("#summary", Static).update("\n".join(view.summary()))
        rows = view.task_rows(sort=self.sort_order, wanted=self._wanted, tree=self.is_tree)
        if len(rows) == MOST_ROWS:
            words.append(f"the first {MOST_ROWS} tasks: / filters")
        screen.query_one("#title", Static).update("   ".join(words))
        _fill(self._table("tasks"), rows)
        _fill(self._table("connections"), view.connection_rows())
        _fill(self._table("timers"), view.timer_rows())

    def _table(self, name: str) -> DataTable[Text]:
        table: DataTable[Text] = self.screen_stack[0].query_one(f"#{name}", DataTable)
        return table

    # -- Keys --------------------------------------------------------------------------------------

    def action_next_sort(self) -> None:
        """Show the tasks in the next order."""
        self.sort_order = SORTS[(SORTS.index(self.sort_order) + 1) % len(SORTS)]
        self.is_tree = False
        self._show()

    def action_toggle_tree(self) -> None:
        """Show each task below the one that waits for it, or all of them in a list."""
        self.is_tree = not self.is_tree
        self._show()

    def action_pause(self) -> None:
        """Keep the picture as it is, or continue."""
        self.is_stopped = not self.is_stopped
        self._show()
        self.renew()

    def action_next_loop(self) -> None:
        """Show the next loop of the process."""
        view = self.view
        if view is not None:
            index = self.views.index(view) + 1
            self._loop_id = self.views[index % len(self.views)].id
            self._utilization = []
            self._show()

    def action_filter(self) -> None:
        """Ask for a text that the shown tasks must contain."""
        field = self.query_one("#filter", Input)
        field.add_class("shown")
        field.focus()

    def on_input_changed(self, event: Any) -> None:
        """Filter while the text is typed."""
        self._wanted = event.value
        self._show()

    def on_input_submitted(self, event: Any) -> None:
        """Return to the table. The filter stays; an empty one shows all tasks."""
        event.input.set_class(bool(event.value), "shown")
        self._table("tasks").focus()

    def on_data_table_row_selected(self, event: Any) -> None:
        """Show the stack of the task on which Enter was pressed."""
        if event.data_table.id == "tasks":
            self.push_screen(StackScreen(self.pid, str(event.row_key.value)))

    def action_cancel(self) -> None:
        """Cancel the task under the cursor, if the user confirms it."""
        table = self._table("tasks")
        view = self.view
        if view is None or not table.row_count:
            return
        key = str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)
        task = view.by_id.get(int(key, 16))
        if task is None:
            return

        def cancel(confirmed: bool | None) -> None:
            if confirmed:
                self.run_worker(lambda: self._ask_to_cancel(key), thread=True, exit_on_error=False)

        self.push_screen(ConfirmScreen(f"Cancel {task.name}: {task.coroutine}()?"), cancel)

    def _ask_to_cancel(self, key: str) -> None:
        request = {"command": "cancel", "task": key, "reason": "cancelled in runtime top"}
        try:
            count = ask(self.pid, request)["cancelled"]
            message = "The task was cancelled." if count else "The task had ended already."
        except OSError as error:
            message = str(error)
        self.call_from_thread(self.notify, message, markup=False)
        self.call_from_thread(self.renew)


class StackScreen(ModalScreen[None]):
    """The stack of a task, with its source lines."""

    BINDINGS: ClassVar[list[Any]] = [("escape,enter,q", "dismiss", "Close")]

    def __init__(self, pid: int, key: str) -> None:
        super().__init__()
        self._pid = pid
        self._key = key

    def compose(self) -> ComposeResult:
        """Give the widgets."""
        with VerticalScroll(id="box"):
            yield Static("...", id="stack", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Ask for the stack, in a thread."""
        self.run_worker(self._ask_for_stack, thread=True, exit_on_error=False)

    def _ask_for_stack(self) -> None:
        try:
            answer = ask(self._pid, {"command": "stack", "task": self._key})
            lines = [line for loop in answer["loops"] for line in format_stack(loop)]
        except ObserveError as error:
            lines = [str(error)]
        text = "\n".join(lines) or "The task has ended."
        self.app.call_from_thread(self.query_one("#stack", Static).update, text)


class ConfirmScreen(ModalScreen[bool]):
    """A question that is answered with y or n."""

    BINDINGS: ClassVar[list[Any]] = [
        ("y", "dismiss(True)", "Yes"),
        ("n,escape", "dismiss(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Give the widgets."""
        yield Static(f"{self._question}\n\ny: yes   n: no", id="box", markup=False)
        yield Footer()


def _fill(table: DataTable[Text], rows: Sequence[Row]) -> None:
    """Show rows in a table; the cursor stays on its row, and the table where it is scrolled to.

    The cells are ``Text``: the table would read brackets in a ``str`` as mark-up.
    """
    shown = [key.value for key in table.rows]
    if shown == [row.key for row in rows]:
        columns = list(table.columns)
        for index, row in enumerate(rows):
            for column, old, cell in zip(columns, table.get_row_at(index), row.cells, strict=True):
                if old.plain != cell:
                    table.update_cell(row.key, column, Text(cell), update_width=True)
        return
    chosen = None
    if table.row_count:
        chosen = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
    place, top = table.cursor_row, table.scroll_y
    table.clear()
    for row in rows:
        table.add_row(*map(Text, row.cells), key=row.key)
    keys = {row.key: index for index, row in enumerate(rows)}
    table.move_cursor(row=keys.get(str(chosen), min(place, max(0, len(rows) - 1))), scroll=False)
    table.scroll_to(y=top, animate=False)


def run_console(pid: int, interval: float) -> int:
    """Show the console until the user quits; return the exit status."""
    Console(pid, interval).run()
    return 0
