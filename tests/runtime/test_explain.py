"""What the heads see, drawn: the geometry by its definition, and that the drawing shows what it is given."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import BackendError, SignatureError

pytestmark = pytest.mark.device_side
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from PIL import Image  # noqa: E402

from edgekit.runtime.explain import Explanation, draw, geometry, is_drawing, png, rotation  # noqa: E402

STEP, GAP, TOP = 268, 12, 24
"""From one panel to the next, before the first, and above."""


def seen(extent: np.ndarray, turned: float = 0.0) -> Explanation:
    """Heads that have learned the geometry, but for a rotation."""
    reference = np.unravel_index(extent.argmax(), extent.shape)
    distance, angle = geometry((int(reference[0]), int(reference[1])), extent.shape)
    return Explanation(extent.astype(np.float32), distance, ((angle + turned) % 1).astype(np.float32))


def bump(grid: tuple[int, int], row: int, column: int) -> np.ndarray:
    rows, columns = np.mgrid[: grid[0], : grid[1]]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 4).astype(np.float32)


def panel(image: Image.Image, index: int) -> np.ndarray:
    """Of a picture as wide as high."""
    left = GAP + index * STEP
    return np.asarray(image)[TOP : TOP + 256, left : left + 256].astype(int)


def test_geometry_is_that_of_the_equation() -> None:
    distance, angle = geometry((2, 1), (4, 5))
    for i in range(4):
        for j in range(5):
            assert distance[i, j] == pytest.approx(math.hypot(2 - i, 1 - j) / (math.sqrt(2) * 5))
            if (i, j) != (2, 1):
                assert angle[i, j] == pytest.approx((math.atan2(1 - j, 2 - i) + math.pi) / (2 * math.pi), abs=1e-6)
    assert distance[2, 1] == 0


def test_geometry_is_what_heads_learn() -> None:
    torch = pytest.importorskip("torch", reason="the labels of training are torch's")
    from edgekit.train.families.lio.heads import polar_labels

    for reference, grid in (((0, 0), (3, 3)), ((2, 4), (4, 6)), ((5, 1), (7, 2))):
        labels = polar_labels(torch.tensor([reference[0] * grid[1] + reference[1]]), grid)
        for ours, theirs in zip(geometry(reference, grid), labels):
            np.testing.assert_allclose(ours.ravel(), theirs[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("turned", [0.0, 0.25, 0.5, 0.9])
def test_the_rotation_is_found(turned: float) -> None:
    found = rotation(seen(bump((7, 7), 2, 4), turned))
    assert abs((found - turned + 0.5) % 1 - 0.5) < 1e-3
    nothing = Explanation(*(np.full((3, 3), value, np.float32) for value in (-1.0, 0.5, 0.5)))
    assert rotation(nothing) == 0


def test_the_drawing_shows_it() -> None:
    picture = np.full((64, 64, 3), 128, np.uint8)
    image = draw(picture, seen(bump((8, 8), 6, 1), 0.3), "a.png: cat 0.98")
    assert image.size == (GAP + 4 * STEP, 256 + 2 * 18 + 2 * GAP)
    as_seen, heat, polar, expected = (panel(image, index) for index in range(4))
    assert np.abs(as_seen - 128).max() <= 1
    # cell (6, 1) is the brightest of the heat map, its far corner the darkest
    light = heat.sum(-1)
    assert light[192:224, 32:64].mean() > light[:32, 224:].mean() + 150
    # what was learned but for a rotation looks as it should, but for rounding
    assert np.abs(polar - expected).max() <= 2
    inside = expected[200:216, 40:56]
    assert inside.max() == 0  # the reference itself
    colours = {tuple(expected[row, column]) for row in range(16, 256, 32) for column in range(16, 256, 32)}
    assert len(colours) > 30
    for index in (1, 2, 3):
        assert (panel(image, index)[193, 33:62] == 255).all()  # the frame around the reference
    again = Image.open(io.BytesIO(png(image)))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image))


@pytest.mark.parametrize("shape", [(1, 1), (5, 300), (400, 10), (31, 64)])
@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (14, 14), (300, 2)])
def test_any_sizes_can_be_drawn(shape: tuple[int, int], grid: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    flat = Explanation(*(np.zeros(grid, np.float32) for _ in range(3)))
    far = Explanation(*(np.full(grid, value, np.float32) for value in (-1e30, 1e30, 1e6)))
    for explanation in (flat, far, seen(bump(grid, 0, grid[1] - 1))):
        assert draw(picture, explanation, "\x1b[31m\n\u7da0" + "x" * 2000).mode == "RGB"


def test_what_is_no_explanation_is_refused() -> None:
    good = np.zeros((3, 4), np.float32)
    for grids in ((good, good, good.T), (good[0], good[0], good[0]), (good[:0], good[:0], good[:0])):
        with pytest.raises(SignatureError, match="expected three grids"):
            Explanation(*grids)
    with pytest.raises(BackendError, match="NaN or infinity"):
        Explanation(good, np.full_like(good, np.nan), good)


def test_a_drawing_is_known_as_one(tmp_path: Path) -> None:
    drawn, other = tmp_path / "a.png", tmp_path / "b.png"
    drawn.write_bytes(png(Image.new("RGB", (8, 8))))
    Image.new("RGB", (8, 8)).save(other)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    found = {name: is_drawing(tmp_path / name) for name in ("a.png", "b.png", "dangling", "", "new")}
    assert found == {"a.png": True, "b.png": False, "dangling": False, "": False, "new": True}
