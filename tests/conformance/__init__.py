"""``make conformance``: the standard library's own tests of asyncio, run on ``runtime``.

They are those of the running interpreter, ``test.test_asyncio``; nothing of their text is here.

=================  ==================================================================
``subjects``       the loops that can be put under the tests, and how that is done
``virtual_loop``   what stands for the tests' own loop with a clock that they set
``child``          the process that runs one module and reports each test
``modules``        starts that process, and survives its hanging and crashing
``expectations``   ``expected.txt``: who is not expected to pass, and why
``report``         the table, and what is not as it should be
``every_python``   the same on each Python of the machine
=================  ==================================================================
"""
