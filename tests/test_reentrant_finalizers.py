"""Attributes whose old value reads or sets them again while it is released.

An assignment must store the new value before it releases the old one: a finalizer of the old value
may read the attribute, and assign to it again. Python does so; mypyc releases first, which the
build corrects. Each case runs in a process of its own, because a faulty build crashes.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from tests.support.programs import ROOT, run_program

PROGRAM = """
import asyncio, gc, socket, sys, runtime

class Value(asyncio.Protocol, asyncio.DatagramProtocol):
    '''A protocol, an exception handler and a task factory, whose finalizer comes back.'''

    def __init__(self, name, holder):
        self.name, self.holder = name, holder

    def __call__(self, *args, **options):
        raise NotImplementedError

    def connection_lost(self, error):
        pass

    def __del__(self):
        found = self.holder.get()
        seen.append((self.name, getattr(found, "name", found)))
        if self.name == "first":
            self.holder.set(Value("third", self.holder))
            junk = [object() for _ in range(100)]  # Takes the place of what was freed.

class Holder:
    def __init__(self, get, set):
        self.get, self.set = get, set

seen = []

async def main(kind):
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    if kind == "exception handler":
        holder = Holder(loop.get_exception_handler, loop.set_exception_handler)
    elif kind == "task factory":
        holder = Holder(loop.get_task_factory, loop.set_task_factory)
    elif kind == "protocol":
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
        holder = Holder(transport.get_protocol, transport.set_protocol)
    elif kind == "datagram protocol":
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        holder = Holder(transport.get_protocol, transport.set_protocol)
    elif kind == "pipe protocol":
        transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, one)
        holder = Holder(transport.get_protocol, transport.set_protocol)
    empty = kind in ("exception handler", "task factory")
    last = None if empty else asyncio.Protocol()
    for _ in range(3):
        holder.set(Value("first", holder))
        holder.set(Value("second", holder))
        # The finalizer of the first put the third where the second was.
        assert holder.get().name == "third", holder.get().name
        holder.set(last)
        assert holder.get() is last
    if not empty:
        transport.close()
    one.close()
    two.close()

gc.disable()
runtime.run(main(sys.argv[1]))
if sys.argv[1] in ("exception handler", "task factory"):
    assert seen == 3 * [("first", "second"), ("second", "third"), ("third", None)], seen
else:
    assert [name for name, _ in seen] == 3 * ["first", "second", "third"], seen
    assert [found for _, found in seen[:2]] == ["second", "third"], seen
print("well")
"""


@pytest.mark.parametrize(
    "kind", ["exception handler", "task factory", "protocol", "datagram protocol", "pipe protocol"]
)
def test_a_value_that_replaces_its_successor(kind: str) -> None:
    ended = run_program("-c", PROGRAM, kind)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("well\n", "", 0)


# -- The build -------------------------------------------------------------------------------------

GUARDED = """
    if (((FutureObject *)cpy_r_self)->__loop != NULL) {
        CPy_DECREF(((FutureObject *)cpy_r_self)->__loop);
    }
    ((FutureObject *)cpy_r_self)->__loop = cpy_r_r1;
"""
BARE = """
    CPy_DECREF(self->__loop);
    self->__loop = tmp;
"""
EXCHANGED = """
    {
        PyObject *replaced = self->__loop;
        self->__loop = tmp;
        CPy_XDECREF(replaced);
    }
"""


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the namespace of setup.py."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("needs setuptools")
    monkeypatch.setattr("setuptools.setup", lambda **_: None)
    monkeypatch.setattr(sys, "argv", ["setup.py"])
    defined: dict[str, Any] = {"__name__": "setup"}
    exec(compile((ROOT / "setup.py").read_text(), "setup.py", "exec"), defined)
    return defined


@pytest.mark.once
def test_both_forms_of_a_store_are_mended(setup: dict[str, Any]) -> None:
    mend = setup["with_stores_that_exchange"]
    assert mend(BARE) == EXCHANGED
    assert mend(GUARDED) == EXCHANGED.replace("self", "((FutureObject *)cpy_r_self)").replace(
        "tmp", "cpy_r_r1"
    )
    assert mend(BARE + "CPyTagged_DECREF(self->_turns);") == (
        EXCHANGED + "CPyTagged_DECREF(self->_turns);"
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "text",
    [
        "nothing of the kind",
        GUARDED + BARE.replace("CPy_DECREF", "CPy_XDECREF"),
        GUARDED + BARE.replace("self->__loop = tmp", "self->__other = tmp"),
        GUARDED + BARE.replace("self->__loop = tmp", "call()"),
    ],
)
def test_a_text_that_is_not_understood_is_refused(setup: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="stores into"):
        setup["with_stores_that_exchange"](text)
