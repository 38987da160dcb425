"""The accelerator in C with its fallback in Python, and support for the compiled modules.

Only ``accelerator.py`` imports the C module. Python modules that mypyc compiles belong to the
package of their subject, not here. ``CONTRIBUTING.md`` says how to test a change of the C files,
and how to debug a crash.
"""
