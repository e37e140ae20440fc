"""`edgekit benchmark few-shot`, on embeddings and on a bundle with pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.device_side

Cli = Callable[..., Any]
FEW = ("--episodes", 20, "--ways", 2, "--shots", 2, "--queries", 3)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    labels = np.repeat(np.array(["ant", "bee", "cat"]), 10)
    values = np.maximum(np.repeat(random.normal(size=(3, 16)), 10, 0) + 0.4 * random.normal(size=(30, 16)), 0)
    np.savez(tmp_path / "a.npz", embeddings=values, labels=labels)
    return tmp_path / "a.npz"


def test_of_embeddings(cli: Cli, features: Path, tmp_path: Path) -> None:
    ran = cli("benchmark", "few-shot", features, *FEW)
    assert ran.code == 0
    assert [line.split("  ")[0].strip() for line in ran.out.splitlines()[3:8]] == [
        "csca",
        "nearest prototype",
        "random weights",
        "logistic regression",
        "csca, labels shuffled",
    ]
    assert "episodes: 20" in ran.err
    out, base = tmp_path / "r.json", tmp_path / "base.npz"
    np.savez(base, embeddings=np.random.default_rng(1).random((12, 16)), labels=np.repeat([0, 1], 6))
    ran = cli("benchmark", "few-shot", features, *FEW, "--json", "--out", out, "--l2", "--base", base)
    told = json.loads(ran.out)
    assert told == json.loads(out.read_text())
    assert told["command"].startswith("edgekit benchmark few-shot")
    assert told["preprocessing"] == {"power": False, "l2": True, "num_base_pictures": 12}
    assert told["data"]["base"] == {"path": str(base)}
    assert [arm["accuracy"]["num_episodes"] for arm in told["arms"]] == [20] * 5


def test_of_a_bundle_and_pictures(cli: Cli, colour_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
    image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    random = np.random.default_rng(0)
    for part, names in (("train", "ab"), ("test", "cd")):
        for name in names:
            (tmp_path / "set" / part / name).mkdir(parents=True)
            colour = random.integers(30, 220, 3)
            for index in range(6):
                picture = np.full((30, 40, 3), np.clip(colour + random.integers(-10, 11, 3), 0, 255), np.uint8)
                image.fromarray(picture).save(tmp_path / "set" / part / name / f"{index}.png")
    (tmp_path / "set" / "test" / "c" / "9.png").write_bytes(b"no picture")
    asked = ("benchmark", "few-shot", colour_bundle, tmp_path / "set", *FEW, "--cache", tmp_path / "cache", "--json")
    first = cli(*asked)
    assert first.code == 0
    assert "left out" in first.err
    told = json.loads(first.out)["data"]
    assert (told["layout"], told["split"], told["num_pictures"], told["num_skipped"]) == ("folders", "novel", 12, 1)
    again = cli(*asked)
    # kept, and what was left out is still told
    assert (again.code, "left out" in again.err, len(list((tmp_path / "cache").iterdir()))) == (0, True, 1)
    assert json.loads(again.out)["data"] == told
    assert json.loads(again.out)["arms"] == json.loads(first.out)["arms"]
    base = cli(*asked, "--base", tmp_path / "set", "--l2")
    assert json.loads(base.out)["data"]["base"]["split"] == "base"
    assert json.loads(base.out)["preprocessing"]["num_base_pictures"] == 12
    shared = cli(*asked, "--split", "base", "--base", tmp_path / "set")
    assert (shared.code, "expected base classes apart" in shared.err) == (1, True)
    few = cli(*asked, "--ways", 3, "--cache", tmp_path / "untouched")
    assert (few.code, "expected 3 classes" in few.err) == (1, True)
    assert not (tmp_path / "untouched").exists()
    limited = cli(*asked, "--limit", 5)
    assert json.loads(limited.out)["data"]["num_pictures"] == 10


def test_wrong_turns(cli: Cli, features: Path, colour_bundle: Path, tmp_path: Path) -> None:
    for arguments, code, message in (
        ((tmp_path / "gone.npz",), 1, "cannot read"),
        ((colour_bundle,), 2, "expected pictures for"),
        ((features, "--ways", 4), 1, "expected 4 classes"),
        ((features, "--ways", 1), 2, "--ways"),
        ((features, *FEW, "--out", tmp_path), 2, "expected a file for --out"),
        ((features, *FEW, "--base", features), 1, "expected base classes apart"),
        ((features, *FEW, "--limit", 5), 2, "are for pictures"),
        ((features, *FEW, "--split", "base"), 2, "are for pictures"),
        ((colour_bundle, tmp_path / "gone"), 1, "there is none at"),
        ((colour_bundle, tmp_path, "--layout", "pickle"), 2, "a layout among"),
        ((colour_bundle, tmp_path, "--split", "all"), 2, "a split among"),
    ):
        ran = cli("benchmark", "few-shot", *arguments)
        assert (ran.code, ran.out) == (code, ""), arguments
        assert message in ran.err
        assert "Traceback" not in ran.err
