"""Which optimisation profile holds the shapes of a run, and what is said where none does."""

from __future__ import annotations

import pytest

from edgekit.core.errors import SignatureError
from edgekit.runtime.tensorrt.profiles import choose_profile

pytestmark = pytest.mark.device_side

PROFILES = [
    {"feats": ((1, 9, 80), (1, 50, 80), (4, 64, 80)), "lengths": ((1,), (1,), (4,))},
    {"feats": ((1, 100, 80), (1, 150, 80), (2, 200, 80)), "lengths": ((1,), (1,), (2,))},
]


@pytest.mark.parametrize(("batch", "time", "index"), [(1, 9, 0), (4, 64, 0), (3, 30, 0), (1, 100, 1), (2, 200, 1)])
def test_the_profile_that_holds_the_sizes_is_chosen(batch: int, time: int, index: int) -> None:
    assert choose_profile(PROFILES, {"feats": (batch, time, 80), "lengths": (batch,)}) == index


def test_of_two_profiles_that_fit_the_smaller_is_chosen() -> None:
    overlapping = [{"x": ((1,), (4,), (8,))}, {"x": ((4,), (8,), (16,))}]
    assert choose_profile(overlapping, {"x": (6,)}) == 0
    assert choose_profile(overlapping, {"x": (9,)}) == 1


@pytest.mark.parametrize("shape", [(1, 80, 80), (3, 150, 80), (1, 8, 80), (1, 201, 80), (1, 50, 40), (1, 50)], ids=str)
def test_sizes_that_no_profile_holds_are_told_with_what_each_holds(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        SignatureError, match=r"feats \[1, 9, 80\] to \[4, 64, 80\].* or feats \[1, 100, 80\]"
    ) as caught:
        choose_profile(PROFILES, {"feats": shape, "lengths": (shape[0],)})
    assert f"received feats {list(shape)}" in caught.value.message
