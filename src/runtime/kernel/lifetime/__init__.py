"""Whether a loop can go on, and the state that is to be put right when it stops or is interrupted.

Idleness, tasks that an interrupt dropped, asynchronous generators to close. The end of a whole
``run`` belongs to ``runtime.ending``.
"""
