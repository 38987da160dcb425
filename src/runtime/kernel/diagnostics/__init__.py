"""What is shown to people: representations, stacks, reports, warnings, debug mode.

Nothing here changes what a program does. Whether a loop can go on is decided in
``kernel.lifetime``; the text of the report is made here.
"""
