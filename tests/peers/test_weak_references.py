"""Weak references to instances of compiled classes, which must not crash at interpreter exit.

See https://github.com/mypyc/mypyc/issues/1102.
"""

from __future__ import annotations

from tests.support.programs import run_code

PROGRAM = """
import gc, weakref, runtime

gone = []
kept = weakref.WeakSet()
values = weakref.WeakKeyDictionary()
forever = []

def note(obj, name):
    kept.add(obj)
    values[obj] = name
    forever.append(weakref.ref(obj, lambda _: gone.append(name)))
    weakref.finalize(obj, gone.append, "final " + name)

async def handler(reader, writer):
    note(reader, "reader")
    note(writer, "writer")
    await reader.read()
    writer.close()

async def main():
    loop = runtime.get_running_loop()
    note(loop, "loop")
    note(runtime.current_task(), "main")
    future = loop.create_future()
    note(future, "future")
    for primitive in (runtime.Lock(), runtime.Event(), runtime.Queue(), runtime.Semaphore(),
                      runtime.Condition(), runtime.Barrier(1), runtime.TaskGroup()):
        note(primitive, type(primitive).__name__)
    del primitive
    task = runtime.create_task(runtime.sleep(0))
    note(task, "task")
    gathering = runtime.gather(task)
    note(gathering, "gathering")
    await gathering
    server = await runtime.start_server(handler, "127.0.0.1", 0)
    note(server, "server")
    reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
    writer.close()
    server.close()
    await server.wait_closed()

runtime.run(main())
gc.collect()
assert len(kept) == len(values) == 0, (list(kept), dict(values))
names = {name for name in gone if not name.startswith("final")}
assert len(gone) == 2 * len(forever), gone
assert {"final " + name for name in names} | names == set(gone)
at_exit = runtime.new_event_loop()
at_exit.close()
survivor = at_exit.create_future()
note(at_exit, "loop at exit")
note(survivor, "future at exit")
print("ok", len(names))
"""


def test_entries_are_removed_callbacks_run_and_the_exit_is_clean() -> None:
    result = run_code(PROGRAM)
    assert result.stdout.startswith("ok "), result.stderr
    assert result.returncode == 0
    assert result.stderr == ""
