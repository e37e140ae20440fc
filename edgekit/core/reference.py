"""What a graph must answer: inputs and the original model's outputs, kept in the bundle for checks on any device."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.core.errors import BundleError


@dataclass(frozen=True)
class Reference:
    """Items of different lengths with their answers, each a batch of one.

    Attributes:
        origin: "synthesised" (the sample clips) or "real" (the user's own recordings).
        inputs: per item, the graph's inputs by name.
        outputs: per item, what the torch model answered in fp32, by name.
    """

    origin: str
    inputs: tuple[dict[str, np.ndarray], ...]
    outputs: tuple[dict[str, np.ndarray], ...]

    def to_bytes(self) -> bytes:
        """As an `.npz`, the same bytes for the same content."""
        arrays = {"origin": np.array(self.origin)}
        for kind, items in (("inputs", self.inputs), ("outputs", self.outputs)):
            for index, item in enumerate(items):
                arrays |= {f"{kind}/{index}/{name}": array for name, array in item.items()}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> Reference:
        """Read what `to_bytes` wrote.

        Raises:
            BundleError: not such a file.
        """
        items: dict[str, dict[int, dict[str, np.ndarray]]] = {"inputs": {}, "outputs": {}}
        try:
            with np.load(path, allow_pickle=False) as arrays:
                origin = str(arrays["origin"])
                for key in arrays.files:
                    if key != "origin":
                        kind, index, name = key.split("/", 2)
                        items[kind].setdefault(int(index), {})[name] = arrays[key]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BundleError(f"cannot read the reference {path}: {error}") from error
        inputs, outputs = (tuple(items[kind][i] for i in sorted(items[kind])) for kind in ("inputs", "outputs"))
        return cls(origin, inputs, outputs)
