"""Arguments as callers give them: checked, converted, and refused with advice.

It knows nothing else of the kernel. A check that needs a loop, a task or a connection belongs to
the module that has these.
"""
