"""The kernel: futures, tasks, timers, the poller, and one turn of the loop.

The modules beside this file are the hot path, in this order: ``handles``, ``timers``, ``poller``,
``scheduler``, ``future``, ``task``, ``public_types``, ``core``. The sub-packages hold the rest. The
kernel knows the standard library and nothing else of this package.
"""
