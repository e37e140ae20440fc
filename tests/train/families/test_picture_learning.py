"""Classifiers learn from a folder to a bundle that answers, by the public commands; runs go on exactly; recipes fit."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgekit.core.errors import CheckpointError, DataError, SettingsError
from edgekit.train.recipe import resolve, train

pytest.importorskip("lightning_fabric", reason="training needs edgekit[train]")
pytest.importorskip("PIL.Image", reason="needs Pillow")

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.toml"))
FAST = (
    "loop.steps=40",
    "loop.validate_every=20",
    "loop.save_every=10",
    "loop.log_every=5",
    "loop.accelerator=cpu",
    "data.batch_size=12",
    "data.workers=0",
    "data.validation_share=0.25",
    "data.augment.crop=none",
)
LIO = (
    *FAST,
    "loop.steps=40",
    "loop.optimizer=adamw",
    "loop.learning_rate=0.01",
    "learning.head_rate=1",
    "data.batch_size=8",
    "lio.positives=2",
    "lio.unit_features=true",
    "lio.pictures=3",
)


def learn(family: str, data: Path, out: Path, report: Any, *settings: str, **given: Any) -> dict[str, float]:
    resume = given.pop("resume", False)
    recipe, resolved = resolve(family, given.get("recipe"), "tiny", data=str(data), assignments=settings)
    return train(recipe, resolved, out, report, resume=resume)


def command(monkeypatch: pytest.MonkeyPatch, words: Sequence[str]) -> None:
    from edgekit.cli import main

    monkeypatch.setattr("sys.argv", ["edgekit", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert not leaving.value.code


def test_from_a_folder_to_answers(
    blots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """LIO, by the commands as typed."""
    pytest.importorskip("onnxscript", reason="torch exports with it")
    pytest.importorskip("onnxruntime", reason="executes what was exported")
    sets = [word for setting in LIO for word in ("--set", setting)]
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    command(
        monkeypatch, ["train", "lio", "--variant", "tiny", "--data", str(blots), "--out", str(run), "--json", *sets]
    )
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["top1"] >= 0.75
    assert best["error"] == pytest.approx(1 - best["top1"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == {"train", "validation"}
    assert {"classes", "extent", "distance", "angle", "pictures_per_s"} <= lines[0].keys()
    drawn = sorted((run / "best" / "explained").iterdir())
    assert [path.name for path in drawn] == ["0000.png", "0001.png", "0002.png"]
    command(monkeypatch, ["export", "lio", str(run / "best"), "--out", str(bundle), "--no-latency"])
    capsys.readouterr()
    command(monkeypatch, ["classify", str(bundle), str(blots / "red"), "--top", "1", "--json"])
    answers = json.loads(capsys.readouterr().out)["pictures"]
    named = [each["classes"][0]["name"] for each in answers]
    assert len(named) == 12
    assert named.count("red") >= 9
    assert (bundle / "manifest.json").is_file()


def test_cosub_learns_and_gives_networks_of_fewer_blocks(blots: Path, tmp_path: Path, silent: Any) -> None:
    from edgekit.train.families.classifier.model import load_model

    cosub = ("learning.cosub.use=true", "learning.drop_path.rate=0.3", "learning.drop_path.sub_batch=true")
    scores = learn("classifier", blots, tmp_path / "run", silent, *FAST, *cosub, "loop.learning_rate=0.01")
    assert scores["top1"] >= 0.75
    assert any("36 pictures of 4 classes to learn from, 12 held back" in text for text in silent.said)
    checkpoint = tmp_path / "run" / "best"
    name, whole = load_model(checkpoint, None, None)
    _, fewer = load_model(checkpoint, None, None, ("drop_blocks=1,3",))
    assert name == "tiny"
    assert fewer.tokens == whole.tokens == ("blue", "green", "red", "yellow")
    counts = [sum(p.numel() for p in each.module.parameters()) for each in (whole, fewer)]
    assert counts[1] < counts[0]
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for number in (1, 3):  # the same blocks, made to pass on what they get
            backbone: Any = whole.module.backbone
            backbone.get_submodule(backbone.blocks[number]).register_forward_hook(lambda module, args, out: args[0])
        torch.testing.assert_close(fewer.module(pixels)[1], whole.module(pixels)[1])
    with pytest.raises(SettingsError, match=r"blocks in 0\.\.3"):
        load_model(checkpoint, None, None, ("drop_blocks=4",))
    with pytest.raises(SettingsError, match="whole network"):
        learn("classifier", blots, tmp_path / "pruned", silent, *FAST, "model.drop_blocks=1")


def test_features_for_few_shot_classes(blots: Path, tmp_path: Path, silent: Any) -> None:
    from edgekit.train.families.classifier.model import load_model

    settings = (*FAST, "model.backbone=tiny-wide", "loop.steps=20", "data.batch_size=6")
    scores = learn("classifier", blots, tmp_path / "run", silent, *settings, recipe="s2m2")
    assert scores["top1"] > 0.3
    _, loaded = load_model(tmp_path / "run" / "best", None, None)
    assert loaded.head == "embedding"
    (embedding,) = loaded.module(torch.randn(2, 3, 32, 32))
    assert embedding.shape == (2, 64)
    with pytest.raises(CheckpointError, match="linear classifier"):
        load_model(tmp_path / "run" / "best", None, "classes")
    # and go on from it with classes
    begun = (*FAST, "model.backbone=tiny-wide", f"init={tmp_path / 'run' / 'best'}", "loop.steps=1")
    learn("classifier", blots, tmp_path / "more", silent, *begun)


class Killed(Exception):
    """Stands for the moment at which the process dies."""


class KilledAt:
    def __init__(self, step: int) -> None:
        self.step_to_die = step

    def begin(self, what: str, done: int, total: int) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, done: int, numbers: dict[str, float]) -> None:
        if done == self.step_to_die:
            raise Killed


def test_a_killed_run_goes_on_exactly(blots: Path, tmp_path: Path, silent: Any) -> None:
    mixed = (
        "data.augment.crop=random-resized",
        "lio.pictures=0",
        "loop.steps=8",
        "loop.save_every=3",
        "loop.validate_every=4",
    )
    settings = (*LIO, *mixed, "learning.drop_path.rate=0.2")
    whole = learn("lio", blots, tmp_path / "whole", silent, *settings)
    with pytest.raises(Killed):
        learn("lio", blots, tmp_path / "killed", KilledAt(5), *settings)
    resumed = learn("lio", blots, tmp_path / "killed", silent, *settings, resume=True)
    assert resumed == whole
    one, other = (load_file(tmp_path / name / "best/model.safetensors") for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_learned_from_is_told(blots: Path, tmp_path: Path, silent: Any) -> None:
    with pytest.raises(DataError, match="there is none"):
        learn("classifier", tmp_path / "nowhere", tmp_path / "a", silent, *FAST)
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "red").symlink_to(blots / "red")
    with pytest.raises(DataError, match="two classes or more"):
        learn("classifier", tmp_path / "single", tmp_path / "d", silent, *FAST)
    with pytest.raises(SettingsError, match="stage9"):
        learn("lio", blots, tmp_path / "b", silent, *LIO, "model.stages=stage9")
    with pytest.raises(SettingsError, match="cosub needs"):
        learn("classifier", blots, tmp_path / "c", silent, *FAST, "learning.cosub.use=true")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_file_is_one_of_its_family(path: Path) -> None:
    """Its first line is the command that uses it."""
    text = path.read_text(encoding="utf-8")
    words = shlex.split(re.match(r"# edgekit train (.*)", text)[1])  # type: ignore[index]
    options = dict(zip(words[1::2], words[2::2]))
    assert options["--config"] == f"recipes/{path.name}"
    given = {name: options.get(f"--{name}") for name in ("recipe", "variant", "data")}
    recipe, settings = resolve(words[0], **given, file=path)
    assert recipe.summary
    assert settings.data.train == options["--data"]
    assert np.isfinite(settings.loop.learning_rate)


def test_there_are_recipes_for_the_sets_that_are_named() -> None:
    assert {path.stem for path in RECIPES} >= {"lio-cub", "lio-cars", "lio-aircraft", "lio-imagenet", "s2m2-wrn-28-10"}
