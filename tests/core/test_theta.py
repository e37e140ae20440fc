"""Theta's layout: sorted, packed and unpacked without loss, and a hash that tells layouts apart."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.core.errors import SignatureError
from edgekit.core.theta import ThetaLayout

SHAPES = [("b.weight", (2, 3)), ("a.bias", (4,)), ("b.bias", (1, 2))]


def test_parameters_lie_sorted_by_name_one_after_the_other() -> None:
    layout = ThetaLayout.of(SHAPES)
    assert layout.offsets == {"a.bias": 0, "b.bias": 4, "b.weight": 6}
    assert layout.size == 12


def test_packing_and_unpacking_are_each_others_inverse() -> None:
    layout, random = ThetaLayout.of(SHAPES), np.random.default_rng(0)
    values = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES}
    theta = layout.pack(values)
    assert theta.dtype == np.float32
    np.testing.assert_array_equal(theta[6:], values["b.weight"].ravel())
    for name, value in layout.unpack(theta).items():
        np.testing.assert_array_equal(value, values[name])


@pytest.mark.parametrize(
    "changed",
    [
        [("b.weight", (3, 2)), *SHAPES[1:]],
        [("c.weight", (2, 3)), *SHAPES[1:]],
        SHAPES[:2],
    ],
)
def test_another_layout_has_another_hash(changed) -> None:
    assert ThetaLayout.of(SHAPES).hash == ThetaLayout.of(reversed(SHAPES)).hash
    assert ThetaLayout.of(changed).hash != ThetaLayout.of(SHAPES).hash


def test_json_keeps_it() -> None:
    layout = ThetaLayout.of(SHAPES)
    assert ThetaLayout.from_json(layout.to_json()) == layout


def test_what_does_not_fit_is_refused_by_name() -> None:
    layout = ThetaLayout.of(SHAPES)
    values = {name: np.zeros(shape) for name, shape in SHAPES}
    with pytest.raises(SignatureError, match=r"b\.weight of \(2, 3\), received \(6,\)"):
        layout.pack({**values, "b.weight": np.zeros(6)})
    with pytest.raises(SignatureError, match="expected c of None"):
        layout.pack({**values, "c": np.zeros(1)})
    with pytest.raises(SignatureError, match="expected 12 values"):
        layout.unpack(np.zeros(11))
    for shapes in ([], [("a", (0,))], [("a", (1,)), ("a", (2,))]):
        with pytest.raises(ValueError, match="expected"):
            ThetaLayout.of(shapes)
