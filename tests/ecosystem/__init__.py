"""asyncio's ecosystem on the loop: each library as it is ordinarily used; ``make ecosystem``.

Every test runs on asyncio too, which shows that what it expects is what the library does.
"""
