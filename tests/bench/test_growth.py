from __future__ import annotations

import pytest

from bench.catalogue import CASES
from bench.growth import GROWTHS, exponent, fits, growth_table

pytestmark = pytest.mark.once


def test_the_exponent_is_that_of_the_power() -> None:
    sizes = [1, 10, 100, 1000]
    assert exponent([(size, 3.0) for size in sizes]) == pytest.approx(0)
    assert exponent([(size, 5.0 * size) for size in sizes]) == pytest.approx(1)
    assert exponent([(size, 0.1 * size**1.5) for size in sizes]) == pytest.approx(1.5)


def test_one_size_shows_no_growth() -> None:
    with pytest.raises(ValueError, match="no growth"):
        exponent([(2, 1.0), (2, 2.0)])


def test_growths_name_cases_that_exist_from_the_smallest_size_on() -> None:
    for growth in GROWTHS:
        sizes = [size for size, _ in growth.cases]
        assert sizes == sorted(set(sizes))
        assert {case for _, case in growth.cases} <= CASES.keys()


def test_cases_measured_at_three_sizes_are_fitted() -> None:
    medians = {
        "timers_1k": {"ours": 1000.0, "theirs": 1.0},
        "timers_100k": {"ours": 100_000.0, "theirs": 1.0},
        "timers_1m": {"ours": 1_000_000.0},
        "switch": {"ours": 1.0},
    }
    (fit,) = fits(medians)
    assert (fit.growth.name, fit.contender) == ("timers", "ours")
    assert fit.exponent == pytest.approx(1)
    heading, row = growth_table([fit]).splitlines()
    assert heading.startswith("timers: ")
    assert row.split() == ["ours", "1.00"]
