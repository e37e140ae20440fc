"""A run's folder: settings, metrics, checkpoints, and the state from which a killed run goes on.

settings.json          what was asked for, resolved
metrics.jsonl          a line per logged step and per validation
tensorboard/           the same for TensorBoard, where it is installed
state.safetensors      everything needed to go on: one file, replaced as a whole
checkpoints/step-N/    in the family's own format: edgekit export FAMILY RUN/best
best, last             links to two of them

A recipe's own preparations stand beside them: data-*.jsonl, bpe.model, codes.safetensors, iteration-N/ (a run of its
own).
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgekit.core.errors import CheckpointError, UsageError
from edgekit.core.files import erase, explained, staging, write_atomic
from edgekit.core.settings import settings_to_dict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STATE = "state.safetensors"

# what may change when a run goes on: how far it goes and how often it tells
_MAY_CHANGE = {"steps", "validate_every", "save_every", "log_every", "workers", "devices", "nodes", "accumulate"}
# what recipes prepare from the settings: of use to a run that goes on, not to one that begins
_PREPARED = ("data-*.jsonl", "bpe.model", "codes.safetensors", "*/clusters.safetensors")


@dataclass(frozen=True)
class State:
    """Everything a run needs to go on.

    Attributes:
        tensors: by name, on the CPU.
        facts: what JSON holds: the step, the best score, ...
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class RunFolder:
    """A run's folder. Only the first process of several writes."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self.writes = writes

    @property
    def best(self) -> Path:
        """The checkpoint with the best score."""
        return self.path / "best"

    def begin(self, settings: DataclassInstance, resume: bool) -> None:
        """Make the folder and keep the settings in it, or hold those that are there to these.

        Raises:
            UsageError: there is a run and `resume` is false, there is none and it is true, or its settings differ.
            CheckpointError: its settings cannot be read.
            EdgekitError: the folder cannot be written.
        """
        kept, asked = self.path / "settings.json", settings_to_dict(settings)
        with explained(self.path):
            if resume:
                if not kept.is_file():
                    raise UsageError(
                        f"expected a run to go on with at {self.path}, there is none", hint="drop --resume"
                    )
                changed = _differences(_completed(_read_settings(kept), settings), asked)
                if changed:
                    raise UsageError(
                        f"expected the settings with which {self.path} began; {', '.join(changed)} differ",
                        hint=f"look at {kept}, or begin another run with another --out",
                    )
            elif self.best.exists() or any(self.path.glob(STATE)) or any(self.path.glob(f"*/{STATE}")):
                raise UsageError(
                    f"{self.path} holds a run already", hint="go on with it: --resume; or choose another --out"
                )
            if self.writes:
                if not resume and kept.is_file():
                    for leftover in (path for pattern in _PREPARED for path in self.path.glob(pattern)):
                        erase(leftover)
                write_atomic(kept, json.dumps(asked, indent=1, ensure_ascii=False).encode() + b"\n")

    def load_state(self) -> State | None:
        """The state of a run that was begun, or None.

        Raises:
            CheckpointError: it cannot be read.
        """
        path = self.path / STATE
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                return State({name: file.get_tensor(name) for name in file.keys()}, facts)  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"cannot read {path}: {error}", hint="begin the run again in another --out"
            ) from error

    def save_state(self, state: State) -> None:
        """Replace the state, as a whole."""
        if self.writes:
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
            write_atomic(self.path / STATE, save(tensors, metadata={"facts": json.dumps(state.facts)}))

    def save_checkpoint(self, step: int, write: Callable[[Path], None], *, best: bool) -> None:
        """Have `write` fill a folder, then point `last`, and `best` where it is, to it. Others are removed."""
        if not self.writes:
            return
        folder = self.path / "checkpoints"
        target = folder / f"step-{step:07d}"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with staging(folder) as temporary:
                write(temporary / "checkpoint")
                erase(target)
                (temporary / "checkpoint").rename(target)
            for name in ("last", "best") if best else ("last",):
                _link(self.path / name, Path("checkpoints") / target.name)
            kept = {(self.path / name).resolve() for name in ("best", "last")}
            for other in folder.glob("step-*"):
                if other.resolve() not in kept:
                    shutil.rmtree(other)

    def point_best(self, checkpoint: Path) -> None:
        """Make `best` a link to a checkpoint of a stage inside this run."""
        if self.writes:
            with explained(self.path):
                _link(self.best, Path(os.path.relpath(checkpoint, self.path)))

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        if self.writes:
            with explained(self.path), (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines of steps that will be done again, and what a kill has cut off."""
        path = self.path / "metrics.jsonl"
        with explained(path):
            if self.writes and path.is_file():
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                write_atomic(path, "".join(f"{line}\n" for line in lines if _step_of(line) <= step).encode())

    def part(self, name: str) -> RunFolder:
        """The folder of a stage inside this run."""
        return RunFolder(self.path / name, writes=self.writes)


def _link(link: Path, target: Path) -> None:
    """Make or replace a link, so that a reader finds the old target or the new."""
    temporary = link.with_name(f".{link.name}.part")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target, target_is_directory=True)
    temporary.replace(link)


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"expected an object, received {type(data).__name__}")
    except ValueError as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", hint="mend it, or begin the run again in another --out"
        ) from error
    return data


def _completed(kept: Mapping[str, Any], settings: DataclassInstance) -> dict[str, Any]:
    """Settings that came after the run began have their defaults: what was so before they could be set."""
    whole = dict(kept)
    for field in fields(settings):
        value, before = getattr(settings, field.name), whole.get(field.name)
        if is_dataclass(value) and not isinstance(value, type) and isinstance(before, dict):
            whole[field.name] = _completed(before, value)
        elif field.name not in whole and field.default is not MISSING:
            whole[field.name] = json.loads(json.dumps(field.default))
    return whole


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[str]:
    found = []
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{where}{name}.")
        elif before != after and name not in _MAY_CHANGE:
            found.append(f"{where}{name}")
    return found
