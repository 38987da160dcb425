"""Methods of the compiled classes, called with another object in place of ``self``.

Compiled functions read attributes at fixed places of the object. So they must never get an object
of another class: the interpreter would crash.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import runtime
from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore
from runtime.kernel.poller import Poller
from runtime.kernel.scheduler import Scheduler
from runtime.kernel.task import TaskCore
from runtime.kernel.timers import TimerHeap
from runtime.kernel.watcher import Watcher
from runtime.net.connection.protocol_adapter import ProtocolAdapter
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.connection.tls import TLSLayer
from tests.support import build

pytestmark = pytest.mark.skipif(not build.is_compiled(), reason="it is about compiled classes")

CLASSES: list[type] = [
    FutureCore,
    LoopCore,
    Poller,
    ProtocolAdapter,
    Scheduler,
    StreamAdapter,
    StreamSocket,
    TLSLayer,
    TaskCore,
    TimerHeap,
    Watcher,
    runtime.Handle,
    runtime.TimerHandle,
]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("wrong", [5, object(), runtime.sleep], ids=["int", "object", "function"])
def test_a_wrong_self_is_a_type_error(cls: type, wrong: Any) -> None:
    methods = {
        name: each for name, each in vars(cls).items() if callable(each) and name[:2] != "__"
    }
    assert methods
    for method in methods.values():
        for args in ((), (1,), (1, 2), (1, 2, 3)):
            with pytest.raises(TypeError):
                method(wrong, *args)


@pytest.mark.parametrize("cls", CLASSES)
def test_special_methods_of_a_wrong_self_do_not_crash(cls: type) -> None:
    for name, method in vars(cls).items():
        if callable(method) and name[:2] == "__" and name not in ("__new__", "__class__"):
            for args in ((), (1,)):
                with contextlib.suppress(TypeError, AttributeError):
                    method(5, *args)
