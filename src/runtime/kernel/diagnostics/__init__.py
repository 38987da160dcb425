"""Diagnostics for people: representations, stacks, reports, warnings, debug mode.

Nothing here changes the behaviour of a program. The test whether a loop can continue belongs to
``kernel.lifetime``; the text of the report is made here.
"""
