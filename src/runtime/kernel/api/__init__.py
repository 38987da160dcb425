"""Functions that need no loop object: the current loop and task, awaitables, call graphs.

They stand above ``LoopCore``. Functions that wait for several awaitables, with timeouts, or for a
lock, belong to ``runtime.sync``.
"""
