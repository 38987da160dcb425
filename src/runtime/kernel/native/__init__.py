"""The accelerator in C with its fallback in Python, and the ground that compiled modules stand on.

Only ``accelerator.py`` imports the C module. Modules of Python that mypyc compiles belong where
their subject is, not here.
"""
