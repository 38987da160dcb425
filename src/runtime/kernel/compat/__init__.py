"""Compatibility with asyncio's internals and with the tools that inspect a process.

This is asyncio's registry of tasks, copies of tasks for external tools, and task factories of
asyncio's kind. Functions that programs call instead of asyncio's belong to ``kernel.api``.
"""
