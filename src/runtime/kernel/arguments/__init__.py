"""Arguments of public functions: checks, conversions, and errors with advice.

The modules here import nothing else of the kernel. A check that needs a loop, a task or a
connection belongs to the module of that class.
"""
