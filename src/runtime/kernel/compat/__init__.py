"""Compatibility with asyncio's internals and with the tools that inspect a process.

These are asyncio's registry of tasks, copies of tasks for external tools, and task factories as in
asyncio. Functions that programs call instead of asyncio's belong to ``kernel.api``.
"""
