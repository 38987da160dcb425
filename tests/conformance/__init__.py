"""The standard library's own tests of asyncio, run on ``runtime`` by ``make conformance``.

They are the tests of the running interpreter, ``test.test_asyncio``; their text is not copied here.

=================  ==================================================================
``subjects``       the loops that can be tested, and the way to put them under the tests
``virtual_loop``   replacement for the tests' own loop with a clock that they set
``child``          the process that runs one module and reports each test
``modules``        starts that process, and survives its hanging and crashing
``expectations``   ``expected.txt``: the tests expected not to pass, and the reasons
``report``         the table of results, and the differences from the expectations
``every_python``   the same on each Python of the machine
=================  ==================================================================
"""
