"""A family of pictures, from its module to a bundle that is checked, built, profiled and asked."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.cli import main
from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import BundleError, EdgekitError, ExportError, PictureError, UsageError

pytest.importorskip("torch", reason="exports modules of torch")
pytest.importorskip("onnxruntime", reason="executes what was exported")
pytest.importorskip("PIL", reason="needs Pillow: pip install pillow")

import torch
from PIL import Image

from edgekit.export.build import Request, build
from edgekit.export.export import ExportRequest, export
from edgekit.export.pictures import MAX_PICTURES, picture_inputs
from edgekit.export.verify import check_answers, load_reference, verify_bundle
from edgekit.runtime.features.image import open_pixels
from edgekit.runtime.samples.pictures import sample_pictures
from edgekit.train.family import families, find_family

TINY = {
    "tiny_pictures-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-pictures\nVersion: 1.0\n",
    "tiny_pictures-1.0.dist-info/entry_points.txt": "[edgekit.families]\ntiny-pictures = tiny_pictures:FAMILY\n",
    "tiny_pictures/__init__.py": """
from dataclasses import dataclass

from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime.features.image import ImageConfig
from edgekit.train.family import Family

BATCH = Dim("batch", ((1, 1, 16),))


@dataclass(frozen=True)
class Config:
    width: int = 8
    size: int = 48
    classes: tuple[str, ...] = ("cat", "dog", "a tree")

    def graphs(self, head):
        outputs = [TensorSpec("embedding", "float32", (BATCH, self.width))]
        if head == "classes":
            outputs.append(TensorSpec("logits", "float32", (BATCH, len(self.classes))))
        pixels = TensorSpec("pixels", "float32", (BATCH, 3, self.size, self.size))
        return {"infer": Signature((pixels,), tuple(outputs))}

    def features(self):
        return ImageConfig(self.size, self.size, resize_to=56, resample="bilinear").describe()

    def num_parameters(self):
        return 28 * self.width + 10 * self.width


HEADS = {"classes": "image-classification", "embedding": "image-classification"}
FAMILY = Family("tiny-pictures", "two convolutions", "none", {"one": Config()}, HEADS, "tiny_pictures.model")
""",
    "tiny_pictures/model.py": """
import torch

from edgekit.train.family import LoadedModel


class Model(torch.nn.Module):
    def __init__(self, config, head):
        super().__init__()
        width = config.width
        self.stem = torch.nn.Conv2d(3, width, 3, stride=4)
        self.conv = torch.nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.head = torch.nn.Linear(width, len(config.classes)) if head == "classes" else None

    def forward(self, pixels):
        maps = self.stem(pixels).relu()
        embedding = (maps + self.conv(maps)).mean((2, 3))
        return (embedding,) if self.head is None else (embedding, self.head(embedding))


def random_model(config, head, seed):
    torch.manual_seed(seed)
    known = head == "classes"
    output = {"kind": "classes", "embedding": "embedding", **({"logits": "logits"} if known else {})}
    weights = {"source": "random", "seed": seed}
    module = Model(config, head).eval()
    return LoadedModel(module, config, head, config.features(), output, weights, config.classes if known else ())
""",
}


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of an installed package that brings the family `tiny-pictures`."""
    folder = tmp_path_factory.mktemp("packages")
    for name, text in TINY.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        families.cache_clear()
        yield folder
    families.cache_clear()
    for name in [name for name in sys.modules if name.startswith("tiny_pictures")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def bundle(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = export(ExportRequest("tiny-pictures"), tmp_path_factory.mktemp("exported") / "bundle")
    build(made.path, Request("openvino"))
    return open_bundle(made.path)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["edgekit", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code


def test_every_artifact_is_held_to_torch_alone_and_batched(bundle: Bundle) -> None:
    artifacts = bundle.graph().artifacts
    assert [(artifact.format, artifact.precision) for artifact in artifacts] == [("onnx", "fp32"), ("openvino", "fp32")]
    for artifact in artifacts:
        assert artifact.parity is not None, artifact.reason
        assert artifact.parity["inputs"] == "synthesised"
        assert artifact.parity["lengths"] == []
        assert artifact.parity["batched_max_abs"] < 1e-4
    reference = load_reference(bundle, "infer")
    pixels = open_pixels(bundle.manifest.features)
    for item, picture in zip(reference.inputs, sample_pictures(), strict=True):
        np.testing.assert_array_equal(item["pixels"][0], pixels(picture))
    model = find_family("tiny-pictures").model.random_model(find_family("tiny-pictures").variants["one"], "classes", 0)
    for item, answer in zip(reference.inputs, reference.outputs):
        with torch.no_grad():
            embedding, logits = model.module(torch.from_numpy(item["pixels"]))
        np.testing.assert_allclose(answer["embedding"], embedding.numpy(), atol=1e-6)
        np.testing.assert_allclose(answer["logits"], logits.numpy(), atol=1e-6)
    assert [record.parity is not None for _, record in verify_bundle(bundle.path)] == [True, True]


def test_a_check_that_is_given_the_pictures_in_another_order_fails(bundle: Bundle) -> None:
    from types import SimpleNamespace

    from edgekit.core.errors import VerificationError
    from edgekit.export.verify import TOLERANCES

    reference = load_reference(bundle, "infer")
    for tolerance in TOLERANCES.values():
        others = iter(reference.outputs[1:] + reference.outputs[:1])
        session: Any = SimpleNamespace(signature=bundle.graph().signature, run=lambda _, others=others: next(others))
        with pytest.raises(VerificationError):
            check_answers(session, reference, tolerance)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_batched_equals_alone(bundle: Bundle, backend: str) -> None:
    classifier = edgekit.load(bundle.path, backend=backend)
    pictures = [*sample_pictures(), *(np.flip(picture, 1) for picture in sample_pictures()), sample_pictures()[0]]
    together = classifier.classify(pictures, allow_random_weights=True)
    embedded = classifier.embed(pictures)
    for picture, one, row in zip(pictures, together, embedded):
        alone = classifier.classify(picture, allow_random_weights=True)
        assert [each.name for each in alone.classes] == [each.name for each in one.classes]
        np.testing.assert_allclose(
            [each.probability for each in alone.classes], [each.probability for each in one.classes], atol=1e-6
        )
        np.testing.assert_allclose(classifier.embed([picture])[0], row, atol=1e-5)


def test_own_pictures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    path = tmp_path / "own.png"
    Image.fromarray(sample_pictures()[2]).save(path)
    assert command(monkeypatch, "export", "tiny-pictures", "--picture", path, "--out", tmp_path / "out", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["manifest"]["provenance"]["command"] == f"edgekit export tiny-pictures --picture {path}"
    made = open_bundle(tmp_path / "out")
    parity = made.graph().artifacts[0].parity
    assert parity is not None
    assert parity["inputs"] == "real"
    # one picture does not say whether answers change: it is there mirrored and upside down too
    items = [item["pixels"] for item in load_reference(made, "infer").inputs]
    pixels = open_pixels(made.manifest.features)
    own = sample_pictures()[2]
    for item, expected in zip(items, (own, own[:, ::-1], own[::-1]), strict=True):
        np.testing.assert_array_equal(item[0], pixels(np.ascontiguousarray(expected)))
    assert {row["batch"] for row in told["latency"]} == {1, 8}
    assert all(row["p50_ms"] > 0 and "rtf" not in row for row in told["latency"])


def test_a_head_without_classes(tmp_path: Path) -> None:
    made = export(ExportRequest("tiny-pictures", head="embedding"), tmp_path / "bundle")
    assert "tokens" not in made.manifest.assets
    embedder = edgekit.load(made.path, store=tmp_path / "store")
    assert embedder.embed(sample_pictures()).shape == (4, 8)
    with pytest.raises(BundleError, match="embeds pictures alone"):
        embedder.classify(sample_pictures()[0])


def test_the_table_and_what_the_bundle_holds_are_shown(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert command(monkeypatch, "export", "tiny-pictures", "--out", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert "batch" in shown.out
    assert "RTF" not in shown.out
    assert "4 synthesised items, batched and alone" in shown.out
    assert command(monkeypatch, "inspect", bundle.path) == 0
    assert "pixels: float32[batch, 3, 48, 48]" in capsys.readouterr().out


@pytest.mark.parametrize("options", [(), ("--task", "--batch", 4)])
def test_profile(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, options: tuple[object, ...]
) -> None:
    quick = (
        "--duration",
        0.05,
        "--cold-starts",
        0,
        "--no-layers",
        "--set",
        "warm_up_limit_s=0.05",
        "--set",
        "idle_s=0",
    )
    out = tmp_path / "result.json"
    assert command(monkeypatch, "profile", bundle.path, *options, *quick, "--out", out, "--json") == 0
    (point,) = json.loads(out.read_text())["points"]
    batch = 4 if 4 in options else 1
    shape = [batch, 375, 500, 3] if "--task" in options else [batch, 3, 48, 48]
    assert [each["shape"] for each in point["inputs"]] == [shape]
    assert point["items_per_call"] == batch
    assert point["rtf"] is None
    assert point["not_measured"]["rtf"] == "the model's input is not known to be sound"
    assert point["throughput_per_s"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--length", "3s"), "takes no sound; received '3s'"),
        (("--length", "300"), "expected one axis for --length, this graph has none"),
        (("--length", "300", "--task"), "expected no --length, a picture has none"),
        (("--task", "--batch", "9"), "expected --task with a batch of at most 8, received 9"),
        (("--batch", "17"), "expected batch in 1..16, received 17"),
    ],
)
def test_what_profile_cannot_ask_of_pictures(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: Any, options: tuple[str, ...], message: str
) -> None:
    assert command(monkeypatch, "profile", bundle.path, *options) in (1, 2)
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err


def test_samples_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    Image.fromarray(sample_pictures()[0]).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="expected pictures for the check of tiny-pictures, received") as caught:
        export(ExportRequest("tiny-pictures", audio=[tmp_path / "a.wav"]), tmp_path / "out")
    assert caught.value.hint == "--picture"
    small = find_family("hubert-student").small
    with pytest.raises(UsageError, match="expected recordings for the check of hubert-student, received"):
        export(ExportRequest("hubert-student", settings=small, pictures=[tmp_path / "a.png"]), tmp_path / "out")
    with pytest.raises(UsageError, match=f"expected at most {MAX_PICTURES} pictures for the check, received 9"):
        export(ExportRequest("tiny-pictures", pictures=[tmp_path / "a.png"] * 9), tmp_path / "out")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(PictureError, match=r"received \S+broken\.png"):
        export(ExportRequest("tiny-pictures", pictures=[tmp_path / "broken.png"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["two\nlines", "half a \ud800 letter"])
def test_names_that_no_line_holds_are_refused(tmp_path: Path, name: str) -> None:
    settings = (f"classes={json.dumps(['cat', name, 'dog'])}",)
    with pytest.raises(ExportError, match="expected labels"):
        export(ExportRequest("tiny-pictures", settings=settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pixels_that_the_graph_does_not_take_are_refused() -> None:
    config = find_family("tiny-pictures").variants["one"]
    signature = config.graphs("classes")["infer"]
    with pytest.raises(EdgekitError, match=r"expected pixels: float32\[batch, 3, 48, 48\], received"):
        picture_inputs({**config.features(), "width": 32}, signature, sample_pictures())


def test_pictures_that_are_all_alike_check_nothing() -> None:
    config = find_family("tiny-pictures").variants["one"]
    white = np.full((60, 60, 3), 255, np.uint8)  # also mirrored and upside down
    for pictures in ([white], [white] * 4, [sample_pictures()[0]] * 3):
        with pytest.raises(ExportError, match="expected pictures that differ"):
            picture_inputs(config.features(), config.graphs("classes")["infer"], pictures)
