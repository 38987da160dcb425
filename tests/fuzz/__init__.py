"""Fuzzer of the accelerator: see ``tests.fuzz.programs`` and ``tests.fuzz.run``."""
