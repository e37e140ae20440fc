"""Pictures to embeddings, and that what was kept is used only for what it was made of."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from PIL import Image  # noqa: E402

import edgekit  # noqa: E402
from edgekit.core.errors import DataError  # noqa: E402
from edgekit.runtime.few_shot.embedding import embed_classes  # noqa: E402
from edgekit.runtime.few_shot.layouts import read_class_pictures  # noqa: E402
from edgekit.runtime.tasks.image_classification import ImageClassification  # noqa: E402


@pytest.fixture
def classifier(colour_bundle: Path) -> ImageClassification:
    found = edgekit.load(colour_bundle, backend="onnxruntime")
    assert isinstance(found, ImageClassification)
    return found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name, level in (("dark", 40), ("light", 200)):
        (root / name).mkdir(parents=True)
        for index in range(6):
            Image.fromarray(np.full((30, 40, 3), level + index, np.uint8)).save(root / name / f"{index}.png")
    return root


def test_kept_for_the_next_run(classifier: ImageClassification, pictures: Path, tmp_path: Path) -> None:
    cache, done = tmp_path / "cache", []
    first = embed_classes(classifier, read_class_pictures(pictures), cache, lambda *progress: done.append(progress))
    assert not first.cached
    assert done[-1] == (12, 12)
    assert first.features.classes == ("dark", "light")
    expected = 2 * np.array([*range(40, 46), *range(200, 206)]) / 255 - 1
    np.testing.assert_allclose(first.features.embeddings, expected[:, None].repeat(3, 1), atol=1e-5)
    again = embed_classes(classifier, read_class_pictures(pictures), cache)
    assert again.cached
    assert (again.features.embeddings == first.features.embeddings).all()
    assert len(list(cache.iterdir())) == 1


def test_made_again_where_something_changed(classifier: ImageClassification, pictures: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    embed_classes(classifier, read_class_pictures(pictures), cache)
    os.utime(pictures / "dark" / "0.png", ns=(1, 1))
    assert not embed_classes(classifier, read_class_pictures(pictures), cache).cached
    (pictures / "dark").rename(pictures / "dim")
    assert not embed_classes(classifier, read_class_pictures(pictures), cache).cached
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    assert not embed_classes(classifier, read_class_pictures(pictures), cache).cached
    assert embed_classes(classifier, read_class_pictures(pictures), cache).cached


def test_a_cache_that_cannot_be_written_stops_nothing(
    classifier: ImageClassification, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    found = embed_classes(classifier, read_class_pictures(pictures), tmp_path / "cache")
    assert len(found.features.embeddings) == 12
    assert "cannot write" in str(found.not_kept)


def test_a_broken_picture_stops_no_other(classifier: ImageClassification, pictures: Path, tmp_path: Path) -> None:
    (pictures / "light" / "3.png").write_bytes(b"no picture")
    found = embed_classes(classifier, read_class_pictures(pictures), tmp_path / "cache")
    assert [each.path.name for each in found.skipped] == ["3.png"]
    again = embed_classes(classifier, read_class_pictures(pictures), tmp_path / "cache")
    assert (again.cached, again.skipped) == (True, found.skipped)
    assert len(found.features.embeddings) == 11
    for file in pictures.rglob("*.png"):
        file.write_bytes(b"no picture")
    with pytest.raises(DataError, match="expected pictures that can be read"):
        embed_classes(classifier, read_class_pictures(pictures), tmp_path / "cache")
