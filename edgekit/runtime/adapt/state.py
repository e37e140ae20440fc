"""The state of an unfinished adaptation: one file, replaced as a whole, from which a killed one goes on exactly."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from edgekit.core.errors import StoreError
from edgekit.core.files import erase, explained, sync_folder
from edgekit.core.settings import settings_to_dict
from edgekit.runtime.adapt.differentiable import Gradient
from edgekit.runtime.adapt.examples import AdaptationData
from edgekit.runtime.adapt.held_back import Score
from edgekit.runtime.adapt.settings import AdaptSettings

FILE = "state.npz"

_ARRAYS = ("theta_P", "first_P", "second_P", "best_P", "order")


@dataclass
class State:
    """All that changes while a speaker is learned.

    Attributes:
        theta_P, first_P, second_P: float32 [P]: the weights, and AdamW's moments of their gradients.
        best_P: float32 [P]: the weights of the lowest held-back loss so far.
        rng: what order and masks are drawn from.
        core: the score of the model as it is.
        start: the place of the starting point; None: zeros.
        best, best_step: the score of `best_P`, and the update after which it was reached.
        num_held_back: how many held-back utterances are looked at.
        longest_s: utterances beyond this do not fit into the memory allowed.
        order: int64, the utterances of this pass; `position` are done.
        epoch: passes that are complete.
        loss: of training, in nats per label: a mean in which the last ten updates weigh most; None before the first.
        num_stale: looks since the best one.
        learned_s: speech that was learned, in seconds, each time counted.
        spent_s: wall time until now, of all processes that worked on it.
        history: per look its step, mean training loss, held-back loss and WER.
    """

    theta_P: np.ndarray
    first_P: np.ndarray
    second_P: np.ndarray
    best_P: np.ndarray
    rng: np.random.Generator
    core: Score
    start: int | None
    best: Score
    num_held_back: int
    longest_s: float
    order: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    position: int = 0
    epoch: int = 0
    step: int = 0
    loss: float | None = None
    best_step: int = 0
    num_stale: int = 0
    learned_s: float = 0.0
    spent_s: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def described(
    gradient: Gradient, data: AdaptationData, settings: AdaptSettings, max_memory_mib: float | None
) -> dict[str, str]:
    """What an adaptation is of, as hashes: it can be gone on with where all of them are the same."""
    examples = [
        [(e.id, e.duration_s, e.labels) for e in sorted(part, key=lambda example: example.id)]
        for part in (data.training, data.held_back)
    ]
    parts = {
        "settings": settings_to_dict(settings),
        "data": examples,
        "model": [gradient.layout_hash, hashlib.sha256(np.ascontiguousarray(gradient.starts).data).hexdigest()],
        "memory limit": max_memory_mib,
    }
    return {name: hashlib.sha256(json.dumps(part).encode()).hexdigest() for name, part in parts.items()}


def save_state(path: Path, state: State, of: Mapping[str, str]) -> None:
    """Replace the file at `path`; `of` as `described` gives it.

    Written array by array, since a second copy in memory would be felt there.

    Raises:
        EdgekitError: the disk is full or the folder cannot be written; the old state is kept.
    """
    facts = {name: value for name, value in vars(state).items() if name not in _ARRAYS}
    facts |= {"of": dict(of), "rng": state.rng.bit_generator.state, "core": asdict(state.core)}
    facts["best"] = asdict(state.best)
    arrays = {name: getattr(state, name) for name in _ARRAYS}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with explained(path):
        for unfinished in path.parent.glob(f".{path.name}.*.part"):  # of one that was killed while it wrote
            unfinished.unlink()
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with temporary.open("xb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def load_state(path: Path, of: Mapping[str, str], size: int) -> State | None:
    """What `save_state` has written; None where there is nothing.

    Args:
        of: what is to be gone on with, as `described` gives it.
        size: P.

    Raises:
        StoreError: it is the state of something else (it is said what differs), or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in (*_ARRAYS, "facts")}
        facts = json.loads(arrays.pop("facts").tobytes())
        changed = [name for name, value in of.items() if facts["of"].get(name) != value]
        del facts["of"]
        if not changed:
            rng = np.random.default_rng()
            rng.bit_generator.state = facts.pop("rng")
            core, best = Score(**facts.pop("core")), Score(**facts.pop("best"))
            vectors = [arrays[name] for name in _ARRAYS[:-1]]
            if any(vector.shape != (size,) or vector.dtype != np.float32 for vector in vectors):
                raise ValueError(f"its vectors are not float32[{size}]")
            return State(**arrays, **facts, rng=rng, core=core, best=best)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(
            f"cannot read the unfinished adaptation at {path}: {error}", hint="begin anew: --fresh"
        ) from error
    raise StoreError(
        f"expected to go on with what was begun, its {' and '.join(changed)} differ",
        hint="give the same command as before, or begin anew: --fresh",
    )


def erase_state(path: Path) -> None:
    """Remove a state with its folder, and the speaker's, where nothing else is in that."""
    with explained(path):
        erase(path.parent)
    with suppress(OSError):
        path.parent.parent.rmdir()
