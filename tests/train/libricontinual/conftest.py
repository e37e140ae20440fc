"""A small checkpoint that spells as the built-in model does, a bundle without theta to serve it, and a speaker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgekit.core.settings import apply_settings
from edgekit.runtime.builtin import builtin_bundle
from edgekit.runtime.corpus import Corpus, Utterance
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.libricontinual.arms import SpeakerData
from edgekit.runtime.samples import sample_clips, transcripts
from edgekit.train.families.disconformer.config import VARIANTS, Config
from edgekit.train.family import find_family

if TYPE_CHECKING:
    from edgekit.train.families.disconformer.model import DisConformer

# torch is imported by fixtures alone: where only the device side is installed, this file is read and no test here runs


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Arms say how many torch may use, and the tests that follow have their own."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def config() -> Config:
    """Two blocks of 32 feed-forward units twice, with augment nets of 8 units twice."""
    return apply_settings(VARIANTS["t"], [*find_family("disconformer").small, "num_layers=2"])


@pytest.fixture(scope="session")
def whole(config: Config) -> DisConformer:
    """A model with random weights and its augment nets. Not to be changed."""
    import torch

    from edgekit.train.families.disconformer.model import build

    torch.manual_seed(0)
    module, features = build(config, "ctc"), open_features(config.features())
    clips = [torch.from_numpy(features(load_audio(clip, features.sample_rate))) for clip in sample_clips()]
    module.encoder.subsampling.set_statistics(torch.cat(clips))
    return module.eval()


@pytest.fixture(scope="session")
def checkpoint(whole: DisConformer, config: Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    from edgekit.train.families.disconformer.model import save_model
    from edgekit.train.tokens import LETTERS

    folder = tmp_path_factory.mktemp("small") / "checkpoint"
    save_model(folder, whole, config, "t", LETTERS)
    return str(folder)


@pytest.fixture(scope="session")
def changed_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`changed_bundle(family="toy")`: the built-in bundle with fields of its manifest replaced."""

    def make(**changes: Any) -> Path:
        folder, manifest = (
            tmp_path_factory.mktemp("bundle"),
            json.loads((builtin_bundle() / "manifest.json").read_text()),
        )
        for file in builtin_bundle().iterdir():
            if file.name != "manifest.json":
                (folder / file.name).symlink_to(file)
        (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(changed_bundle: Callable[..., Path]) -> Path:
    """The built-in bundle without theta: it is the checkpoint that says how many values an augment net has."""
    return changed_bundle(adaptation=None)


@pytest.fixture(scope="session")
def data() -> SpeakerData:
    corpus = Corpus(
        tuple(Utterance(clip.stem, clip, 2.0, transcripts()[clip.name], "clips") for clip in sample_clips()[:2])
    )
    return SpeakerData("clips", "5s", corpus, corpus, seed=3)
