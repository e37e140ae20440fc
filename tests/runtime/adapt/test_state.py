"""A state comes back as it was, and only for what it is of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import EdgekitError, StoreError
from edgekit.runtime.adapt.examples import AdaptationData
from edgekit.runtime.adapt.held_back import Score
from edgekit.runtime.adapt.settings import AdaptSettings
from edgekit.runtime.adapt.state import State, described, erase_state, load_state, save_state

pytestmark = pytest.mark.device_side

OF = {"settings": "a", "data": "b"}


@pytest.fixture
def state() -> State:
    rng = np.random.default_rng(5)
    vectors = [rng.normal(size=7).astype(np.float32) for _ in range(4)]
    score = Score(1.25, 0.5)
    made = State(
        *vectors, rng=rng, core=score, start=None, best=replace(score, loss=1.0), num_held_back=3, longest_s=9.5
    )
    made.order, made.position, made.step, made.epoch = rng.permutation(5), 2, 11, 1
    made.history = [{"step": 0, "held_back_loss": 1.25, "held_back_wer": 0.5}]
    return made


def test_it_comes_back_bit_for_bit(state: State, tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    assert load_state(file, OF, 7) is None
    save_state(file, state, OF)
    found = load_state(file, OF, 7)
    assert found is not None
    for field in fields(State):
        ours, theirs = getattr(state, field.name), getattr(found, field.name)
        if isinstance(ours, np.ndarray):
            assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())
        elif field.name != "rng":
            assert ours == theirs
    assert (found.rng.random(9) == state.rng.random(9)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_without_a_limit_of_memory(state: State, tmp_path: Path) -> None:
    state.longest_s = np.inf
    save_state(tmp_path / "state.npz", state, OF)
    found = load_state(tmp_path / "state.npz", OF, 7)
    assert found is not None
    assert found.longest_s == np.inf


def test_of_something_else(state: State, tmp_path: Path) -> None:
    file = tmp_path / "state.npz"
    save_state(file, state, OF)
    with pytest.raises(StoreError, match="its data differ"):
        load_state(file, {**OF, "data": "c"}, 7)
    with pytest.raises(StoreError, match="its settings and data differ"):
        load_state(file, {"settings": "", "data": ""}, 7)
    with pytest.raises(StoreError, match=r"not float32\[8\]"):
        load_state(file, OF, 8)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle"])
def test_a_damaged_file(state: State, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "state.npz"
    save_state(file, state, OF)
    if damage == "pickle":
        np.savez(file, theta_P=np.array([{"a": 1}], dtype=object))
    else:
        file.write_bytes({"cut": file.read_bytes()[:-200], "empty": b"", "text": b"nothing"}[damage])
    with pytest.raises(StoreError, match="cannot read the unfinished adaptation") as error:
        load_state(file, OF, 7)
    assert error.value.hint == "begin anew: --fresh"


def test_what_a_killed_writer_left_is_swept(state: State, tmp_path: Path) -> None:
    (tmp_path / ".state.npz.0123abcd.part").write_bytes(b"half")
    save_state(tmp_path / "state.npz", state, OF)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_a_folder_that_is_gone(state: State, tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="cannot write"):
        save_state(tmp_path / "none" / "state.npz", state, OF)


def test_erased_with_its_folders(state: State, tmp_path: Path) -> None:
    file = tmp_path / "anna" / "resume" / "state.npz"
    file.parent.mkdir(parents=True)
    save_state(file, state, OF)
    erase_state(file)
    assert list(tmp_path.iterdir()) == []
    file.parent.mkdir(parents=True)
    (tmp_path / "anna" / "current").write_text("{}")
    erase_state(file)
    assert [path.name for path in (tmp_path / "anna").iterdir()] == ["current"]


def test_what_makes_it_another(linear: Callable[..., object], spoken: Callable[..., AdaptationData]) -> None:
    settings, data = AdaptSettings(), spoken()
    of = described(linear(), data, settings, None)
    assert of == described(linear(), spoken(), settings, None)
    assert json.loads(json.dumps(of)) == of

    def changed(**others: object) -> list[str]:
        given = {"gradient": linear(), "data": data, "settings": settings, "max_memory_mib": None, **others}
        other = described(**given)  # type: ignore[arg-type]
        return [name for name in of if of[name] != other[name]]

    assert changed(settings=AdaptSettings(seed=1)) == ["settings"]
    assert changed(data=replace(data, training=data.training[1:])) == ["data"]
    corrected = replace(data.training[0], labels=(2, 2))
    assert changed(data=replace(data, training=(corrected, *data.training[1:]))) == ["data"]
    assert changed(gradient=linear(3)) == ["model"]
    assert changed(max_memory_mib=300.0) == ["memory limit"]
