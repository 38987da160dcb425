"""Primitives for concurrency: sleeping, gathering, timeouts, task groups, locks, queues.

This package knows the kernel, and nothing of the network or of the system.
"""
