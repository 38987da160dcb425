"""mypyc's annotations without a dependency at run time, and the idioms of the compiled modules.

``COMPILED`` in ``setup.py`` lists the modules that mypyc translates to C. Five things in them look
unusual, for these reasons:

- **A core and a public class** (``FutureCore`` and ``Future``, ``TaskCore`` and ``Task``,
  ``LoopCore`` and ``Loop``). A compiled class supports neither weak references nor ``Future[int]``
  at run time, and only limited subclassing. So the compiled core holds the behaviour, and a short
  interpreted subclass, which programs use, adds these three.
- **Functions beside methods** (``finish_future(future, value)`` beside
  ``future.set_result(value)``, ``init_future`` beside ``__init__``, ``step(task)`` beside
  ``task._run()``). Programs hold instances of the interpreted subclass. It may override any method,
  so compiled code looks each method of such an instance up by name, as the interpreter does. A
  function of a module is called directly in C. These functions also leave out checks that their
  callers have made.
- **Aliases** (``_copy_context: Final = copy_context``). Compiled code looks an imported or built-in
  name up in a dictionary at each use. A ``Final`` name of the module itself is a static variable in
  C; if its type is exact, such as ``Final[float]``, it is not even an object.
- **Placeholders** (``_NOBODY`` and ``_SPENT`` in ``task.py``). The traceback of an exception holds
  frames, and a frame holds its variables. If a variable holds that exception, or the task that
  failed with it, they form a reference cycle; so the frame replaces the value before the exception
  passes through. None would make the type optional, and compiled code would check for it at each
  use. A placeholder has the variable's own type, and refers to nothing.
- **Traits** (``Lower`` in ``net/connection/layers.py``). A compiled class has one base class; any
  other base must be a trait, whose methods are found by a search through the tables of the object's
  class. ``Lower`` is the second base of ``StreamSocket(Watcher, Lower)`` and of
  ``TLSLayer(Upper, Lower)``, and so a trait. ``Upper`` is always the first base, and so a class,
  whose methods are called faster.

This module is interpreted on purpose: the compiler resolves the two names below to those of
``mypy_extensions``, which the compiled modules then never import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # ruff: noqa: PLC0414  # re-exports
    from mypy_extensions import mypyc_attr as mypyc_attr
    from mypy_extensions import trait as trait
else:

    def mypyc_attr(**_attributes):
        """Leave the decorated class as it is: interpreted classes need no attributes."""
        return lambda cls: cls

    def trait(cls):
        """Leave the decorated class as it is: interpreted, any class can be a second base."""
        return cls
