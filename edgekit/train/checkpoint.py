"""Reading and writing checkpoints: a folder in `transformers`' layout, `config.json` beside `model.safetensors`.

What is edgekit's own stands under the key "edgekit" of `config.json`, which other readers ignore:
`{"family": ..., "variant": ..., "config": {...}}`. No pickle is loaded: `pytorch_model.bin` is read by torch with
`weights_only=True`.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from edgekit.core.errors import CheckpointError
from edgekit.core.files import sha256_of, write_atomic


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights, opened.

    Attributes:
        source: what the user named: a folder or a hub's name.
        folder: where the files lie.
        config: the parsed `config.json`.
    """

    source: str
    folder: Path
    config: dict[str, Any]

    @property
    def edgekit(self) -> dict[str, Any] | None:
        """The `edgekit` part of the config, where an edgekit family wrote this checkpoint."""
        part = self.config.get("edgekit")
        return part if isinstance(part, dict) else None

    def json(self, name: str) -> dict[str, Any] | None:
        """Another JSON file of the folder (`vocab.json`, `preprocessor_config.json`), or None."""
        path = self.folder / name
        return _read_json(path) if path.is_file() else None

    def require_family(self, family: str) -> None:
        """Raise `CheckpointError` where an edgekit family other than `family` wrote this checkpoint."""
        written_by = (self.edgekit or {}).get("family", family)
        if written_by != family:
            raise CheckpointError(
                f"expected a checkpoint of {family}, {self.source} is one of {written_by}",
                hint=f"edgekit export {written_by} {self.source}",
            )

    def weight_files(self) -> list[Path]:
        """The files that hold its tensors; sharded checkpoints have several.

        Raises:
            CheckpointError: there is none.
        """
        for name in ("model.safetensors", "pytorch_model.bin"):
            if (self.folder / name).is_file():
                return [self.folder / name]
            index = self.json(f"{name}.index.json")
            if index is not None:
                return sorted({self.folder / Path(shard).name for shard in index.get("weight_map", {}).values()})
        raise CheckpointError(f"expected model.safetensors or pytorch_model.bin in {self.folder}, found neither")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, on the CPU.

        Raises:
            CheckpointError: a file is missing, truncated, or holds anything but tensors.
        """
        merged: dict[str, Tensor] = {}
        for path in self.weight_files():
            try:
                if path.suffix == ".safetensors":
                    loaded: Any = load_file(path)
                else:
                    loaded = torch.load(path, map_location="cpu", weights_only=True)
            except (SafetensorError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
                raise CheckpointError(f"cannot read {path}: {error}", hint="download or copy it again") from error
            if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
                raise CheckpointError(
                    f"expected tensors by name in {path}, received something else",
                    hint="save the model's state_dict alone, as transformers' save_pretrained does",
                )
            merged |= loaded
        return merged

    def provenance(self) -> dict[str, Any]:
        """The manifest's `provenance.weights`."""
        hashes = {path.name: sha256_of(path) for path in self.weight_files()}
        return {"source": "checkpoint", "name": self.source, "sha256": hashes}


def open_checkpoint(name: Path | str) -> Checkpoint:
    """Open a local folder, or fetch a model of the Hugging Face hub ("facebook/hubert-base-ls960").

    Raises:
        CheckpointError: neither exists, or its `config.json` is missing or broken.
    """
    folder = Path(name)
    if folder.is_file():
        raise CheckpointError(f"expected a folder with config.json and weights, {folder} is a file")
    if not folder.is_dir():
        folder = _fetch(str(name))
    config_path = folder / "config.json"
    if not config_path.is_file():
        raise CheckpointError(f"expected config.json in {folder}, there is none")
    return Checkpoint(str(name), folder, _read_json(config_path))


def save_checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], **extra: dict[str, Any]) -> None:
    """Write a checkpoint; `extra` are further JSON files by stem (`vocab={...}` becomes `vocab.json`)."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(folder / "model.safetensors", save(contiguous, metadata={"format": "pt"}))
    for stem, content in {**extra, "config": config}.items():
        write_atomic(folder / f"{stem}.json", json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    missing = CheckpointError(
        f"expected a checkpoint's folder or a model of the Hugging Face hub, {name!r} is neither, or out of reach",
        hint="give the folder that holds config.json and model.safetensors",
    )
    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "bpe.model"]))
        if not any(folder.glob("*.safetensors")):  # older models have the other format only
            folder = Path(snapshot_download(name, allow_patterns=["*.json", "pytorch_model*.bin"]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise missing from error
    return folder


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"expected a JSON object in {path}, received {type(data).__name__}")
    return data
