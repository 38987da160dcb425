"""``make sanitize``: the tests of what is in C, with everything compiled under sanitizers.

AddressSanitizer and UBSan watch the accelerator and the compiled modules while the tests of the
kernel, the network, the system and the interpreter's exit run. What mypyc has written takes minutes
to build this way, so ``make test`` has a pass for the accelerator alone.

Arguments go to pytest instead of the names of these tests::

    python -m tests.sanitize tests/net -k datagram
"""

from __future__ import annotations

import sys

from tests.matrix import SHORT, Pass, Result, reason_to_skip, report, run

TESTS = ("tests/kernel", "tests/net", "tests/system", "tests/test_alive_at_exit.py")

SANITIZED = Pass(
    "sanitized",
    compiled=True,
    accelerator="address",
    arguments=SHORT,
    build={"RUNTIME_SANITIZE": "address,undefined"},
)


def main() -> int:
    """Run the tests; return the exit status."""
    reason = reason_to_skip(SANITIZED)
    if reason:
        return report([Result(SANITIZED.name, 0, f"left out: {reason}")])
    return report([run(SANITIZED, sys.argv[1:] or list(TESTS))])


if __name__ == "__main__":
    sys.exit(main())
