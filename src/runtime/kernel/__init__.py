"""The kernel: futures, tasks, timers, the poller, and one turn of the loop.

It knows the standard library and nothing else of this package. Read it in this order: ``handles``,
``timers``, ``poller``, ``scheduler``, ``future``, ``task``, ``types``, ``core``.
"""
