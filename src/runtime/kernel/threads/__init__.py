"""Threads that work for a loop: executors, futures that threads finish, threads of C libraries.

Calls from other threads into the loop belong to ``kernel/scheduler.py``, and ``to_thread`` belongs
to ``runtime.system``.
"""
