"""Threads that work for a loop: executors, futures that threads finish, threads of C libraries.

Calling the loop from another thread is the scheduler's part; ``to_thread`` belongs to
``runtime.system``.
"""
