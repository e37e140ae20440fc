"""The bundle: a folder with a manifest and files named by their content, read with every file checked.

`bundle_writer.py` writes it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit.core.errors import BundleError
from edgekit.core.files import sha256_of
from edgekit.core.signature import Signature
from edgekit.core.theta import ThetaLayout

SCHEMA = 1
MANIFEST = "manifest.json"
_PACKAGE = Path(__file__).parents[1]
_REINSTALL = "pip install --force-reinstall edgekit"


@dataclass(frozen=True)
class StoredFile:
    """One file of a bundle: its name inside the folder, its SHA-256 and its size in bytes."""

    name: str
    sha256: str
    num_bytes: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StoredFile:
        """Raises ValueError for a name that is not a plain file name, or what is no SHA-256 or no size."""
        file = cls(**data)
        plain = isinstance(file.name, str) and not set(file.name) & set("/\\:\0")
        if not plain or file.name in ("", ".", "..") or len(os.fsencode(file.name)) > 255:
            raise ValueError(f"expected a plain file name, received {file.name!r}")
        sized = isinstance(file.num_bytes, int) and 0 <= file.num_bytes < 1 << 63
        if not re.fullmatch(r"[0-9a-f]{64}", file.sha256) or not sized:
            raise ValueError(f"expected a SHA-256 and a size of {file.name}, received {file.sha256}, {file.num_bytes}")
        return file


@dataclass(frozen=True)
class Artifact:
    """One graph in one format and precision.

    Attributes:
        format: "onnx", "openvino", "trt", "trt-rtx" or "sherpa".
        precision: "fp32", "fp16", "bf16", ...
        files: the main file first.
        parity: how it was checked, `{"inputs": "real" | "synthesised", "atol": ..., ...}`; None: not executed.
        reason: why it was not executed, or how it failed.
        failed: it was executed and its answers were wrong; the runtime refuses it.
        engine: for an engine, the key of the machine it was built for.
        details: what else was read off it (op types, layer counts); "hinted": see `hinted`.
    """

    format: str
    precision: str
    files: tuple[StoredFile, ...]
    parity: dict[str, Any] | None = None
    reason: str | None = None
    failed: bool = False
    engine: dict[str, Any] | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.parity is None) == (self.reason is None):
            raise ValueError("an artifact says either how it was checked or why it was not")
        if not self.files:
            raise ValueError("an artifact has at least one file")
        texts = (self.format, self.precision, "" if self.reason is None else self.reason)
        objects = (self.details, *(each for each in (self.parity, self.engine) if each is not None))
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(each, dict) for each in objects):
            raise ValueError("format, precision and reason are text; parity, engine and details are objects")
        if not isinstance(self.failed, bool):
            raise ValueError(f"an artifact failed or not, received {self.failed!r}")
        self.hinted()  # raises, for what is no record

    def hinted(self) -> dict[str, Artifact]:
        """This artifact in the precisions that its backend computes from it by a hint, each with a check of its own.

        `details["hinted"]` holds, by precision, `parity`, `reason` and `failed` of each that was executed.
        """
        checks = self.details.get("hinted", {})
        return {
            precision: replace(
                self,
                precision=precision,
                parity=check["parity"],
                reason=check["reason"],
                failed=check["failed"],
                details={},
            )
            for precision, check in checks.items()
        }

    @property
    def file(self) -> str:
        return self.files[0].name

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)


@dataclass(frozen=True)
class Graph:
    """One computation of a family and the artifacts that hold it; the first is its fp32 ONNX."""

    signature: Signature
    artifacts: tuple[Artifact, ...]

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise ValueError("a graph has at least its fp32 ONNX")
        first = self.artifacts[0]
        if (first.format, first.precision) != ("onnx", "fp32"):
            raise ValueError(f"the first artifact of a graph is its fp32 ONNX, not {first.format} {first.precision}")

    def find(self, format: str, precision: str) -> Artifact | None:
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision) == (format, precision):
                return artifact
        return None

    def with_artifact(self, artifact: Artifact) -> Graph:
        """This graph with `artifact` added, in the place of one of the same format and precision."""
        if self.find(artifact.format, artifact.precision) is None:
            return replace(self, artifacts=(*self.artifacts, artifact))
        key = (artifact.format, artifact.precision)
        return replace(self, artifacts=tuple(artifact if (a.format, a.precision) == key else a for a in self.artifacts))


@dataclass(frozen=True)
class Adaptation:
    """What of a bundle is one user's: the layout of theta, and what learning it on a device takes.

    Attributes:
        layout: which values of theta are which parameter's.
        starts: a safetensors file whose "theta" `[N, P]` are values to begin with; None: there are none.
        gradient: the graph that answers and remembers, the one that makes a gradient of that, and the weights that
            both read; (): the bundle can be adapted elsewhere and used here.
        checked: how the gradients were held to torch's.
    """

    layout: ThetaLayout
    starts: StoredFile | None = None
    gradient: tuple[StoredFile, ...] = ()
    checked: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.gradient) not in (0, 3):
            raise ValueError(f"a gradient has two graphs and their weights, received {len(self.gradient)} files")

    @property
    def files(self) -> list[StoredFile]:
        return [*self.gradient, *([] if self.starts is None else [self.starts])]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "layout": self.layout.to_json(), "layout_sha256": self.layout.hash}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Adaptation:
        starts = data["starts"]
        return cls(
            ThetaLayout.from_json(data["layout"]),
            None if starts is None else StoredFile.from_json(starts),
            tuple(StoredFile.from_json(file) for file in data["gradient"]),
            dict(data["checked"]),
        )


@dataclass(frozen=True)
class Manifest:
    """All that is known of a bundle; see `docs/bundle.md` for each field."""

    family: str
    variant: str
    task: str
    config: dict[str, Any]
    features: dict[str, Any]
    output: dict[str, Any]
    provenance: dict[str, Any]
    graphs: dict[str, Graph]
    assets: dict[str, StoredFile] = field(default_factory=dict)
    adaptation: Adaptation | None = None

    def __post_init__(self) -> None:
        if not self.graphs:
            raise ValueError("a bundle has at least one graph")
        # what every reader relies on; a task checks the rest
        texts = (self.family, self.variant, self.task, self.provenance["weights"]["source"])
        mappings = (self.config, self.features, self.output, self.provenance)
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(m, dict) for m in mappings):
            raise ValueError("family, variant, task and the source of weights are text; the other fields are objects")

    @property
    def weights(self) -> str:
        """Where the weights come from: "random", "checkpoint" or "built-in"."""
        return str(self.provenance["weights"]["source"])

    @property
    def core_hash(self) -> str:
        """What speakers and classes belong to: the hash of the inference graph's fp32 ONNX."""
        first = next(iter(self.graphs.values()))
        return first.artifacts[0].files[0].sha256

    def files(self) -> list[StoredFile]:
        stored = [file for graph in self.graphs.values() for a in graph.artifacts for file in a.files]
        return stored + list(self.assets.values()) + ([] if self.adaptation is None else self.adaptation.files)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"schema": SCHEMA}
        for name in ("family", "variant", "task", "config", "features", "output", "provenance"):
            data[name] = getattr(self, name)
        data["graphs"] = {
            name: {
                "signature": graph.signature.to_json(),
                "artifacts": [asdict(artifact) for artifact in graph.artifacts],
            }
            for name, graph in self.graphs.items()
        }
        data["assets"] = {name: asdict(file) for name, file in self.assets.items()}
        if self.adaptation is not None:
            data["adaptation"] = self.adaptation.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Manifest:
        graphs = {
            name: Graph(
                Signature.from_json(graph["signature"]),
                tuple(
                    Artifact(**{**artifact, "files": tuple(StoredFile.from_json(file) for file in artifact["files"])})
                    for artifact in graph["artifacts"]
                ),
            )
            for name, graph in data["graphs"].items()
        }
        return cls(
            **{name: data[name] for name in ("family", "variant", "task", "config", "features", "output")},
            provenance=data["provenance"],
            graphs=graphs,
            assets={name: StoredFile.from_json(file) for name, file in data["assets"].items()},
            adaptation=None if data.get("adaptation") is None else Adaptation.from_json(data["adaptation"]),
        )


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: where it lies and what its manifest says."""

    path: Path
    manifest: Manifest

    def graph(self, name: str = "infer") -> Graph:
        try:
            return self.manifest.graphs[name]
        except KeyError:
            raise BundleError(
                f"expected a graph {name!r} in {self.path}, it has {sorted(self.manifest.graphs)}"
            ) from None

    def artifact(self, graph: str, format: str, precision: str) -> Artifact:
        found = self.graph(graph).find(format, precision)
        if found is None:
            made = ", ".join(f"{a.format} {a.precision}" for a in self.graph(graph).artifacts)
            raise BundleError(
                f"{self.path} holds no {format} {precision} of graph {graph!r}; it holds {made}",
                hint=f"{self._export()} --format {format} --precision {precision}"
                if is_builtin(self.path)
                else build_command(self.path, format, precision),
            )
        return found

    def asset(self, name: str) -> Path:
        """The checked path of an asset ("tokens")."""
        if name not in self.manifest.assets:
            raise BundleError(f"{self.path} has no asset {name!r}; it has {sorted(self.manifest.assets)}")
        return self.checked(self.manifest.assets[name])

    def checked(self, file: StoredFile) -> Path:
        """The path of one file, after holding it to its SHA-256.

        Raises:
            BundleError: missing, altered or unreadable.
        """
        path = self.path / file.name
        if not path.is_file():
            raise BundleError(f"{path} is missing", hint=self._mend(file))
        try:
            altered = path.stat().st_size != file.num_bytes or sha256_of(path) != file.sha256
        except OSError as error:
            raise BundleError(f"cannot read {path}: {error.strerror}", hint="check who may read it") from error
        if altered:
            raise BundleError(
                f"{path} was altered: expected SHA-256 {file.sha256[:16]}..., its bytes have another",
                hint=self._mend(file),
            )
        return path

    def _mend(self, file: StoredFile) -> str:
        if is_builtin(self.path):
            return _REINSTALL
        for graph in self.manifest.graphs.values():
            for index, artifact in enumerate(graph.artifacts):
                if file in artifact.files and index > 0:
                    return build_command(self.path, artifact.format, artifact.precision)
        return f"export it again: {self._export()} --out {self.path}"

    def _export(self) -> str:
        return str(self.manifest.provenance.get("command", f"edgekit export {self.manifest.family}"))


def is_builtin(path: Path) -> bool:
    """Whether a bundle lies inside the installed package, where nothing is ever written."""
    # not Path.resolve, which raises for a link to itself
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(_PACKAGE))


def build_command(path: Path, format: str, precision: str) -> str:
    """The command that adds a format to a bundle, for hints."""
    return shlex.join(["edgekit", "build", str(path), "--format", format, "--precision", precision])


def open_bundle(path: Path | str) -> Bundle:
    """Read a bundle's manifest. Files are held to their hashes when they are used (`Bundle.checked`).

    Raises:
        BundleError: no bundle, a broken manifest, or one of a newer schema.
    """
    path = Path(path)
    file = path / MANIFEST
    if not file.is_file():
        raise BundleError(
            f"expected a bundle at {path}, there is no {MANIFEST}",
            hint=_REINSTALL if is_builtin(path) else "edgekit export hubert-student --out DIR",
        )
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        schema = data["schema"]
        if not isinstance(schema, int) or schema < 1:
            raise ValueError(f"schema {schema!r}")
        if schema > SCHEMA:
            raise BundleError(
                f"{path} has schema {schema}, this edgekit reads up to {SCHEMA}", hint="pip install --upgrade edgekit"
            )
        manifest = Manifest.from_json(data)
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BundleError(
            f"{file} is not a manifest: {error}",
            hint="export it again, into another folder: edgekit export FAMILY --out DIR",
        ) from error
    return Bundle(path, manifest)
