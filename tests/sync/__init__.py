"""The primitives: what each does, alone, cancelled at every point, and beside asyncio's."""
