"""Libraries for asyncio on a runtime loop, each used as usual: ``make ecosystem``.

Every test also runs on asyncio, which shows that it expects the library's normal behaviour.
"""
