"""The synchronization primitives: alone, cancelled at every point, and compared with asyncio's."""
