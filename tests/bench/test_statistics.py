from __future__ import annotations

import pytest

from bench.statistics import Spread, is_noisy, ratios, spread

pytestmark = pytest.mark.once


def test_a_spread_is_the_median_and_the_quartiles() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(2.0, 3.0, 4.0)
    assert spread([1.0, 2.0]) == Spread(1.25, 1.5, 1.75)


def test_one_value_is_its_own_median() -> None:
    assert spread([2.5]) == Spread(2.5, 2.5, 2.5)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_one_outlier_leaves_the_median_alone() -> None:
    assert spread([1.0, 1.0, 1.0, 1.0, 90.0]).median == 1.0


def test_a_ratio_is_taken_round_by_round() -> None:
    # The second round was slow for both contenders, which does not change the ratio.
    assert ratios([1.0, 10.0], [2.0, 20.0]) == [2.0, 2.0]
    assert ratios([4.0], [1.0]) == [0.25]


def test_rounds_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 1"):
        ratios([1.0, 2.0], [1.0])


def test_a_cost_of_nothing_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="not positive"):
        ratios([0.0], [1.0])


@pytest.mark.parametrize(
    ("values", "noisy"),
    [
        ([1.0, 1.01, 0.99, 1.0, 1.02], False),
        ([1.0, 1.4, 0.7, 1.3, 0.8], True),
        ([1.0], False),
    ],
)
def test_a_wide_spread_is_noise(values: list[float], noisy: bool) -> None:
    assert is_noisy(values) is noisy
