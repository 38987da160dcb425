"""Benchmark suite, run with ``python -m bench``. README.md in this folder describes the method."""
