"""Kernel: futures, tasks, timers, the poller, and the turns of the loop.

The modules beside this file are the hot path; read them in this order: ``handles``, ``timers``,
``poller``, ``scheduler``, ``future``, ``task``, ``public_types``, ``core``. The sub-packages hold
the rest. The kernel imports the standard library and no other part of this package.
"""
