"""What a recipe does once, and how it fails: alike in every process."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit.core.errors import DataError, TrainingError
from edgekit.train.loop import LoopSettings
from edgekit.train.recipe import Recipe, Workplace, resolve, train
from edgekit.train.run import RunFolder

pytest.importorskip("lightning_fabric", reason="training needs edgekit[train]")


def test_other_sizes_have_another_name() -> None:
    def variant(setting: str) -> Any:
        return resolve("hubert-student", "ctc", None, data="x", assignments=(setting,))[1].variant

    assert variant("model.hidden_size=96") == "scaled-deep-thin-fbank"
    assert variant("model.attention_dropout=0") == "deep-thin-fbank"


class Wire:
    """What Fabric does among processes, one after the other: the first sends, the others receive."""

    def __init__(self) -> None:
        self.sent: bytes | None = None

    def broadcast(self, value: Any) -> Any:
        self.sent = pickle.dumps(value) if self.sent is None else self.sent
        return pickle.loads(self.sent)


@pytest.mark.parametrize("error", [None, DataError("expected recordings", hint="look")])
def test_what_fails_in_the_first_process_fails_in_all(error: DataError | None, tmp_path: Path, silent: Any) -> None:
    wire: Any = Wire()
    done: list[int] = []

    def work() -> None:
        done.append(1)
        if error is not None:
            raise error

    for writes in (True, False):
        place = Workplace(wire, RunFolder(tmp_path, writes=writes), silent)
        if error is None:
            place.first(work)
        else:
            with pytest.raises(DataError, match="expected recordings") as caught:
                place.first(work)
            assert caught.value.hint == "look"
    assert done == [1]


@dataclass(frozen=True)
class Settings:
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(accelerator="cpu"))


@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried.\nMore."),
            "GPU's memory: CUDA out of memory. Tried.",
            "batch_s",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
            "worker (pid 7) is killed",
            "workers=0",
        ),
        (RuntimeError("a fault of ours"), None, ""),
    ],
)
def test_too_little_memory_is_told(
    error: RuntimeError, told: str | None, hint: str, tmp_path: Path, silent: Any
) -> None:
    def run(settings: Any, place: Workplace) -> dict[str, float]:
        raise error

    recipe = Recipe("", lambda variant, config: None, run)
    with pytest.raises(TrainingError if told else RuntimeError) as caught:
        train(recipe, Settings(), tmp_path, silent)
    if told:
        assert told in caught.value.message
        assert "More" not in caught.value.message
        assert hint in str(caught.value.hint)
