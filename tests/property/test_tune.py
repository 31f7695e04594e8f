"""The Pareto front and the pick of a tuning, whatever was measured."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glass_export.errors import TuningError
from glass_export.evaluate.summary import Mean
from glass_export.tune import Goal, Point, closest, front, pick

# Few values, so that there are ties.
KLS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]) | st.floats(0, 3)
SPEEDS = st.sampled_from([0.8, 1.0, 1.25, 1.5]) | st.floats(0.1, 4)
LIMITS = st.none() | st.sampled_from([0.1, 0.5, 1.0, 1.25]) | st.floats(0.01, 4)


@st.composite
def points(draw: st.DrawFn) -> list[Point]:
    measured = draw(st.lists(st.tuples(KLS, SPEEDS), min_size=1, max_size=12))
    return [
        Point(
            density=0.5,
            refresh=number,
            dense_start=0,
            kl=Mean(kl, 0.0),
            tps=10 * speedup,
            speedup=speedup,
        )
        for number, (kl, speedup) in enumerate(measured)
    ]


def beats(one: Point, other: Point) -> bool:
    """Whether ``one`` is better in KL or speed, and worse in neither."""
    no_worse = one.kl.value <= other.kl.value and one.speedup >= other.speedup
    return no_worse and (one.kl.value, one.speedup) != (other.kl.value, other.speedup)


@given(points())
def test_front_is_what_no_point_beats_from_fastest_to_most_faithful(measured: list[Point]) -> None:
    found = front(measured)
    assert not any(beats(point, kept) for kept in found for point in measured)
    for point in measured:
        assert any(beats(kept, point) for kept in found) or any(
            (kept.kl, kept.speedup) == (point.kl, point.speedup) for kept in found
        )
    assert found[0].speedup == max(point.speedup for point in measured)
    assert found[-1].kl.value == min(point.kl.value for point in measured)
    for faster, slower in pairwise(found):
        assert faster.speedup > slower.speedup and faster.kl.value > slower.kl.value


@given(points(), LIMITS, LIMITS)
def test_pick_meets_the_goal_and_none_that_does_is_better(
    measured: list[Point], max_kl: float | None, min_speedup: float | None
) -> None:
    goal = Goal(max_kl=max_kl, min_speedup=min_speedup)
    fitting = [
        point
        for point in measured
        if (max_kl is None or point.kl.value <= max_kl)
        and (min_speedup is None or point.speedup >= min_speedup)
    ]
    if not fitting:
        with pytest.raises(TuningError):
            pick(measured, goal)
        return
    chosen = pick(measured, goal)
    assert chosen in fitting and not any(beats(point, chosen) for point in fitting)
    if max_kl is not None:
        assert chosen.speedup == max(point.speedup for point in fitting)
    elif min_speedup is not None:
        assert chosen.kl.value == min(point.kl.value for point in fitting)


@given(points(), LIMITS, LIMITS)
def test_closest_misses_as_little_as_possible(
    measured: list[Point], max_kl: float | None, min_speedup: float | None
) -> None:
    near = closest(measured, Goal(max_kl=max_kl, min_speedup=min_speedup))
    assert near in measured and not any(beats(point, near) for point in measured)
    least = min(point.kl.value for point in measured)
    if max_kl is not None and near.kl.value > max_kl:
        assert near.kl.value == least
