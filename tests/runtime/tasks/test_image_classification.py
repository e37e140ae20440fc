"""Pictures to classes and embeddings over a graph whose right answer is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.core.bundle import Bundle, Graph
from edgekit.core.errors import BundleError, PictureError, StoreError, UsageError
from edgekit.core.signature import Dim, Signature, TensorSpec

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

from edgekit.runtime.features.image import open_pixels  # noqa: E402
from edgekit.runtime.tasks.image_classification import softmax  # noqa: E402

NAMES = ["red", "green", "blue", "white"]
WEIGHTS = np.array([[4, -2, -2, 2], [-2, 4, -2, 2], [-2, -2, 4, 2]])


def plain(*colour: int) -> np.ndarray:
    return np.full((30, 41, 3), colour, np.uint8)


def noise(seed: int) -> np.ndarray:
    """Of sizes of their own, of a tint of its own."""
    random = np.random.default_rng(seed)
    height, width = random.integers(5, 90, 2)
    tint = random.integers(0, 128, 3)
    return (tint + random.integers(0, 128, (height, width, 3))).astype(np.uint8)


@pytest.fixture(params=["onnxruntime", "openvino"])
def classifier(request: pytest.FixtureRequest, colour_bundle: Path) -> Any:
    pytest.importorskip(request.param)
    return edgekit.load(colour_bundle, backend=request.param)


def test_classes_and_probabilities(classifier: Any) -> None:
    found = classifier.classify(plain(255, 0, 0))
    logits = np.array([1, -1, -1]) @ WEIGHTS
    expected = np.exp(logits) / np.exp(logits).sum()
    order = [0, 3, 1, 2]  # red 8, white -2, then green and blue, as likely: in the bundle's order
    assert [each.name for each in found.classes] == [NAMES[index] for index in order]
    np.testing.assert_allclose([each.probability for each in found.classes], expected[order], rtol=1e-5)
    assert found.compute_s > 0
    assert classifier.classify(plain(255, 255, 255), top=1).classes[0].name == "white"
    assert len(classifier.classify(plain(1, 2, 3), top=99).classes) == 4
    assert (found.name, found.enrolled) == ("red", False)
    data = json.loads(json.dumps(found.to_json()))
    assert (data["name"], data["enrolled"]) == ("red", False)
    assert data["classes"][0] == {"name": "red", "probability": found.classes[0].probability}


def test_batched_equals_alone(classifier: Any) -> None:
    """More than go together, and not a multiple of it."""
    pictures = [noise(seed) for seed in range(13)]
    assert classifier.most_together == 5
    alone = [classifier.classify(picture) for picture in pictures]
    for one, other in zip(alone, classifier.classify(pictures)):
        assert [each.name for each in one.classes] == [each.name for each in other.classes]
        for a, b in zip(one.classes, other.classes):
            assert a.probability == pytest.approx(b.probability, rel=1e-5)
    embedded = classifier.embed(pictures)
    assert (embedded.dtype, embedded.shape) == (np.float32, (13, 3))
    pixels = open_pixels(classifier.bundle.manifest.features)
    np.testing.assert_allclose(embedded, [pixels(picture).mean((1, 2)) for picture in pictures], atol=1e-5)
    for picture, row in zip(pictures, embedded):
        np.testing.assert_allclose(classifier.embed([picture])[0], row, atol=1e-6)


def test_threads_share_it(classifier: Any) -> None:
    pictures = [noise(seed) for seed in range(12)]
    alone = [classifier.classify(picture).classes[0].name for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda picture: classifier.classify(picture).classes[0].name, pictures))
    assert found == alone


def test_files_and_arrays(colour_bundle: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(plain(0, 255, 0)).save(tmp_path / "green.png")
    classifier = edgekit.load(colour_bundle)
    for given in (tmp_path / "green.png", str(tmp_path / "green.png"), (tmp_path / "green.png").read_bytes()):
        assert classifier.classify(given).classes[0].name == "green"
    with pytest.raises(PictureError, match=r"missing\.png: No such file"):
        classifier.classify([tmp_path / "green.png", tmp_path / "missing.png"])
    assert classifier.classify([]) == []


def test_wrong_calls(colour_bundle: Path) -> None:
    classifier = edgekit.load(colour_bundle)
    with pytest.raises(UsageError, match="expected to be asked for 1 class or more, received 0"):
        classifier.classify(plain(1, 2, 3), top=0)
    for given in ([], plain(1, 2, 3), "a.png"):
        with pytest.raises(UsageError, match="expected a list of one picture or more"):
            classifier.embed(given)


def test_softmax_of_logits_that_float32_cannot_raise() -> None:
    found = softmax(np.array([[1000, 999, -1000], [0, 0, 0]], np.float32))
    np.testing.assert_allclose(found, [[1 / (1 + np.exp(-1)), 1 / (1 + np.e), 0], [1 / 3] * 3], atol=1e-12)
    many = np.random.default_rng(0).normal(0, 30, (4, 20_000)).astype(np.float32)
    np.testing.assert_allclose(softmax(many).sum(1), 1, atol=1e-12)


def test_a_bundle_without_classes_embeds(write_colours: Callable[..., Bundle], tmp_path: Path) -> None:
    bundle = write_colours(output={"kind": "classes", "embedding": "embedding"}, built=False)
    embedder = edgekit.load(bundle.path, backend="onnxruntime", store=tmp_path)
    assert embedder.classes == []
    np.testing.assert_allclose(embedder.embed([plain(255, 0, 255)]), [[1, -1, 1]], atol=1e-5)
    with pytest.raises(BundleError, match=r"expected a bundle that knows classes, .* embeds pictures alone"):
        embedder.classify(plain(1, 2, 3))


def test_enrolled_classes_answer(write_colours: Callable[..., Bundle], tmp_path: Path) -> None:
    """Where the bundle has none of its own, or when asked; each call by those that are there then."""
    embeds = {"kind": "classes", "embedding": "embedding"}
    bare = edgekit.load(write_colours(output=embeds, built=False).path, backend="onnxruntime", store=tmp_path)
    pictures = {"warm": [plain(255, 90, 40), plain(250, 120, 30)], "cold": [plain(20, 90, 255), plain(40, 60, 230)]}
    with pytest.raises(StoreError, match=r"expected classes in .* there are none") as caught:
        bare.classify(plain(1, 2, 3), enrolled=True)
    assert "edgekit enroll" in str(caught.value.hint)
    bare.enrolled.enrol({name: bare.embed(given) for name, given in pictures.items()})
    found = bare.classify([plain(240, 100, 40), plain(30, 80, 250)])
    assert [each.name for each in found] == ["warm", "cold"]
    assert all(each.enrolled and each.classes[0].name == each.name for each in found)
    expected = bare.enrolled.library().answer(bare.embed([plain(240, 100, 40)]))[0].ranked
    assert [(each.name, each.score) for each in found[0].classes] == list(expected)
    assert found[0].to_json()["classes"][0].keys() == {"name", "score"}
    assert bare.classify(plain(20, 250, 30)).name is None  # green is neither
    assert len(bare.classify(plain(30, 80, 250), top=1).classes) == 1
    bare.enrolled.store.forget("classes", "cold")
    assert [each.name for each in bare.classify(plain(30, 80, 250)).classes] == ["warm"]
    # the same graph, and so the same store, with classes of its own
    full = edgekit.load(write_colours(built=False).path, backend="onnxruntime", store=tmp_path)
    assert full.classify(plain(250, 0, 0)).name == "red"
    assert full.classify(plain(250, 100, 40), enrolled=True).name == "warm"
    with pytest.raises(BundleError, match="embeds pictures alone"):
        bare.classify(plain(1, 2, 3), enrolled=False)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_graph_that_explains(write_colours: Callable[..., Bundle], backend: str) -> None:
    pytest.importorskip(backend)
    classifier = edgekit.load(write_colours(explains=True).path, backend=backend)
    picture = np.zeros((36, 48, 3), np.uint8)
    picture[20:28, 30:38] = 255
    told = classifier.explain(picture)
    cells = classifier.pixels(picture).mean(0).reshape(6, 4, 8, 4).mean((1, 3))
    np.testing.assert_allclose(told.extent, cells, atol=1e-5)
    np.testing.assert_allclose(told.distance - told.angle, cells, atol=1e-5)
    assert told.reference == np.unravel_index(cells.argmax(), cells.shape)


def test_a_bundle_that_does_not_explain_says_how_one_is_made(write_colours: Callable[..., Bundle]) -> None:
    made = {"weights": {"source": "checkpoint", "name": "colours"}, "command": "edgekit export colours CHECKPOINT"}
    for config, hint in (
        ({"explain": False}, "edgekit export colours CHECKPOINT --set explain=true --out NEW"),
        ({}, "export a family that can: edgekit export FAMILY CHECKPOINT --set explain=true --out NEW"),
    ):
        bundle = write_colours(built=False, config=config, provenance=made)
        with pytest.raises(BundleError, match=r"expected a graph 'explain' in .* it has infer") as caught:
            edgekit.load(bundle.path).explain(plain(1, 2, 3))
        assert caught.value.hint == hint
    graphs = write_colours(built=False, explains=True).manifest.graphs
    swapped = replace(graphs["explain"].signature, outputs=graphs["explain"].signature.outputs[::-1])
    graphs = {**graphs, "explain": Graph(swapped, graphs["explain"].artifacts)}
    with pytest.raises(BundleError, match="of pixels to extent, distance, angle"):
        edgekit.load(write_colours(built=False, explains=True, graphs=graphs).path).explain(plain(1, 2, 3))


def test_random_weights_answer_only_when_asked(write_colours: Callable[..., Bundle]) -> None:
    bundle = write_colours(provenance={"weights": {"source": "random", "seed": 0}}, built=False)
    classifier = edgekit.load(bundle.path, backend="onnxruntime")
    with pytest.raises(BundleError, match="exported with random weights: its answers would mean nothing"):
        classifier.classify(plain(1, 2, 3))
    assert classifier.classify(plain(0, 0, 255), allow_random_weights=True).classes[0].name == "blue"
    assert classifier.embed([plain(1, 2, 3)]).shape == (1, 3)


GOOD = {"kind": "classes", "embedding": "embedding", "logits": "logits"}
SIZED = {"height": 24, "width": 32, "resize": "exact", "resample": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": {"kind": "ctc"}}, "expected an output of kind 'classes', received 'ctc'"),
        ({"output": {**GOOD, "logits": "scores"}}, "expected output.logits to name an output .* received 'scores'"),
        ({"output": {**GOOD, "logits": None}}, "received None"),
        ({"output": {**GOOD, "embedding": ["embedding"]}}, "expected output.embedding to name an output"),
        ({"output": {"kind": "classes"}}, "expected output.embedding to name an output"),
        ({"features": {"kind": "waveform", "sample_rate": 16000, "normalise": False}}, "of kind 'image'"),
        ({"features": {"kind": "image", **SIZED, "width": 33}}, r"expected one input of pictures \[batch, 3, 24, 33\]"),
        ({"assets": {}}, "has no asset 'tokens'"),
        ({"names": b"red\ngreen\nblue\n"}, "expected 4 names of classes, received 3"),
        ({"names": b"red\ngreen\nblue\nwhite\n\n"}, "expected 4 names of classes, received 5"),
        ({"names": b""}, "expected 4 names of classes, received 1"),
        ({"names": b"red\ngr\xff\xfen\nblue\nwhite\n"}, "expected names of classes in UTF-8"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    write_colours: Callable[..., Bundle], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        edgekit.load(write_colours(built=False, **changes).path, backend="onnxruntime")


def test_a_graph_of_other_tensors_is_refused(write_colours: Callable[..., Bundle]) -> None:
    good = write_colours(built=False).graph()
    batch, time = Dim("batch", ((1, 1, 5),)), Dim("time", ((1, 3, 9),))
    pixels, (embedding, logits) = good.signature.inputs[0], good.signature.outputs
    for inputs, outputs in (
        ((pixels, TensorSpec("x", "float32", (batch,))), (embedding, logits)),
        ((TensorSpec("pixels", "float32", (batch, time, 24, 32)),), (embedding, logits)),
        ((TensorSpec("pixels", "float32", (2, 3, 24, 32)),), (TensorSpec("embedding", "float32", (2, 3)), logits)),
        ((pixels,), (embedding, TensorSpec("logits", "float16", (batch, 4)))),
    ):
        if inputs[0].shape[0] == 2:
            outputs = (outputs[0], TensorSpec("logits", "float32", (2, 4)))
        graphs = {"infer": Graph(Signature(inputs, outputs), good.artifacts)}
        with pytest.raises(BundleError, match="expected"):
            edgekit.load(write_colours(built=False, graphs=graphs).path, backend="onnxruntime")


def test_odd_names_of_classes_are_kept(write_colours: Callable[..., Bundle]) -> None:
    names = "crane\n\x1b[31mcrane\u2028\ngr\u00fcn, \u7da0\n \n"
    bundle = write_colours(names=names.encode(), built=False)
    assert edgekit.load(bundle.path).classes == ["crane", "\x1b[31mcrane\u2028", "gr\u00fcn, \u7da0", " "]
