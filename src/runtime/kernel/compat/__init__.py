"""What asyncio and the tools that read a process know of the tasks and loops of this package.

asyncio's registry, copies of tasks for external tools, task factories of asyncio's kind. Functions
that programs call instead of asyncio's belong to ``kernel.api``.
"""
