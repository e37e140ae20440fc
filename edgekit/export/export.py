"""From a family, and a checkpoint if there is one, to a bundle whose ONNX was held to the torch model."""

from __future__ import annotations

import math
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np

import edgekit
from edgekit.core.bundle import Artifact, Bundle, Graph, Manifest, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import AudioError, BackendError, BundleError, ExportError, UsageError
from edgekit.core.reference import Reference
from edgekit.core.settings import apply_settings, settings_to_dict
from edgekit.core.signature import Signature, TensorSpec
from edgekit.export.build import Request, check_free_space
from edgekit.export.pictures import MAX_PICTURES, picture_inputs, takes_pictures
from edgekit.export.target import check_memory
from edgekit.export.verify import MIN_LENGTHS, check_artifact, reference_asset
from edgekit.runtime.chunks import InChunks, Runs, counted, whole
from edgekit.runtime.features import open_features
from edgekit.runtime.features.audio import load_audio
from edgekit.runtime.samples import sample_clips
from edgekit.runtime.samples.pictures import sample_pictures
from edgekit.train.family import LoadedModel, families, find_family

_MAX_ONNX_BYTES = 2**31 - 2**20
MAX_AUDIO = 8
"""How many of the user's recordings a bundle keeps for its checks."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        family: a family's name.
        checkpoint: a folder or a hub's name; None: the variant's built-in weights, or random ones where it has none.
        variant: None: the checkpoint's own, or the family's default.
        head: None: the checkpoint's own, or the family's default.
        settings: `field=value` changes to the variant's sizes, for random weights only, but for what the family lets
            be chosen of any weights (`Family.deployable`).
        audio: the user's recordings for the check, which the bundle keeps; none: the sample clips.
        pictures: likewise of a family that takes pictures; none: the drawn ones.
        seed: asks for random weights, also where there are built-in ones; None: 0 for those that are random anyway.
        adapt: with the gradient graphs by which a device learns a user's weights.
        gates: how far these are held to torch, see `adaptation.check_gradient`.
        target: the device that the bundle is for; a model that does not fit into its memory is refused.
        builds: what is to be built of it for the target.
    """

    family: str
    checkpoint: str | None = None
    variant: str | None = None
    head: str | None = None
    settings: Sequence[str] = ()
    audio: Sequence[Path] = ()
    pictures: Sequence[Path] = ()
    seed: int | None = None
    adapt: bool = False
    gates: Literal["fast", "full"] = "fast"
    target: str | None = None
    builds: Sequence[Request] = ()


def export(request: ExportRequest, out: Path | None = None, *, report: Report = lambda step: None) -> Bundle:
    """Make a bundle with the fp32 ONNX of every graph, executed and checked against torch.

    Args:
        out: the bundle's folder; None: `./<family>-<variant>`.
        report: told what begins.

    Raises:
        UsageError: an unknown family, variant, head or setting.
        CheckpointError: the checkpoint does not fit.
        AudioError, PictureError: a recording or picture cannot be used.
        BackendError: a package that exports is not installed.
        VerificationError: the graph answers otherwise than torch; nothing is written then.
    """
    report("loading the model")
    variant, model = _load(request)
    path = out or Path(f"{request.family}-{variant}")
    num_bytes = sum(p.numel() for p in model.module.parameters()) * 4
    if num_bytes > _MAX_ONNX_BYTES:
        raise ExportError(f"expected at most 2 GiB of fp32 weights, which one ONNX file holds; received {num_bytes:,}")
    if request.target is not None:
        check_memory(request.target, num_bytes, request.builds)
    _keep_what_is_worth_more(path, request.family, model)
    check_free_space(path, int(num_bytes * 1.1))
    samples, origin = _samples(request, model)
    labels = _lines(model.tokens)
    try:
        from edgekit.export.onnx import export_onnx
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in ("onnx", "onnxscript"):
            raise  # a fault of ours
        raise BackendError(
            f"expected the package {package} to write ONNX, it is not installed",
            hint='pip install "edgekit[export]"',
        ) from error

    signatures = model.config.graphs(model.head)
    references = {name: make_reference(model, name, samples, origin) for name in signatures}
    with writing(path) as writer:
        graphs: dict[str, Graph] = {}
        for name, signature in signatures.items():
            report(f"exporting graph {name} to ONNX")
            with writer.staging() as folder:
                operators = export_onnx(model.graph(name), signature, folder / "model.onnx")
                file = writer.add(folder / "model.onnx", f"{name}-onnx-fp32")
            made = Artifact("onnx", "fp32", (file,), reason="not executed", details={"operators": operators})
            graphs[name] = Graph(signature, (made,))
        assets = {
            reference_asset(name): writer.add_bytes(reference.to_bytes(), reference_asset(name), ".npz")
            for name, reference in references.items()
        }
        if labels:
            assets["tokens"] = writer.add_bytes(labels, "tokens", ".txt")
        adaptation, first = None, next(iter(signatures.values()))
        if model.tunable is not None:
            from edgekit.export.adaptation import check_gradient, write_gradient, write_starts

            adaptation = write_starts(model.tunable, writer)
            if request.adapt:
                report("tracing the gradient, which takes minutes")
                adaptation = replace(adaptation, gradient=write_gradient(model, first, writer))
        manifest = Manifest(
            family=request.family,
            variant=variant,
            task=find_family(request.family).heads[model.head],
            config={
                "head": model.head,
                "num_parameters": model.config.num_parameters(),
                **settings_to_dict(model.config),
            },
            features=model.features,
            output=model.output,
            provenance={
                "command": _command(request),
                **({} if request.target is None else {"targets": [request.target]}),
                **_provenance(model),
            },
            graphs=graphs,
            assets=assets,
            adaptation=adaptation,
        )
        for name, graph in graphs.items():
            report(f"checking graph {name} against torch")
            staged = Bundle(path, manifest)
            checked = check_artifact(staged, name, graph.artifacts[0], references[name])
            graphs[name] = graph.with_artifact(checked)
        if adaptation is not None and adaptation.gradient:
            report("checking the gradient against torch")
            passed = check_gradient(Bundle(path, manifest), model, first, full=request.gates == "full")
            manifest = replace(manifest, adaptation=replace(adaptation, checked=passed))
        return writer.commit(manifest)


def make_reference(model: LoadedModel, graph: str, samples: Sequence[Any], origin: str) -> Reference:
    """What a graph's torch module answers on recordings or pictures, each alone.

    Of recordings, three lengths or more. Joined end to end they are one item more; where they have fewer than three
    lengths, parts of the longest are added. What is longer than the graph takes is cut. A graph with state gets them in
    chunks.

    Args:
        samples: files of recordings; or pictures, see `picture_inputs`.

    Raises:
        AudioError: the recordings are too short to be cut into three lengths.
        PictureError: a picture cannot be read.
    """
    session = whole(TorchSession(model.graph(graph), model.config.graphs(model.head)[graph]))
    if takes_pictures(model.features):
        inputs = picture_inputs(model.features, session.signature, samples)
    else:
        inputs = _recording_inputs(model, session, samples)
    return Reference(origin, inputs, tuple(session.run(item) for item in inputs))


def _recording_inputs(model: LoadedModel, session: Runs, audio: Sequence[Path]) -> tuple[dict[str, np.ndarray], ...]:
    data, lengths, axis = counted(session.signature.inputs, "an input")
    longest = sys.maxsize if isinstance(session, InChunks) else axis.max
    features = open_features(model.features)
    waves = []
    for path in audio:
        wave = load_audio(path, features.sample_rate, min_samples=features.min_samples)
        num = len(features(wave))
        waves.append(wave if num <= longest else wave[: len(wave) * longest // num])
    longest_wave = max(waves, key=len)
    if len({len(features(wave)) for wave in waves}) < MIN_LENGTHS:
        waves += [longest_wave[: max(features.min_samples, len(longest_wave) * part // 8)] for part in (3, 5, 7)]
    waves.append(np.concatenate(waves))
    items = [features(wave)[:longest] for wave in waves]
    if len({len(x) for x in items}) < MIN_LENGTHS:
        enough = max(8 * features.samples_per_step, 8 * features.min_samples // 5 + 1)  # of which parts differ
        raise AudioError(
            f"expected a recording to cut to {MIN_LENGTHS} lengths, received "
            f"{len(longest_wave) / features.sample_rate:g} s",
            hint=f"give a recording of at least {math.ceil(100 * enough / features.sample_rate) / 100:g} s",
        )
    random = np.random.default_rng(0)
    return tuple(
        {
            data.name: x[None],
            lengths.name: np.array([len(x)], lengths.dtype),
            # none, and then some that nobody has learned, large enough to be heard
            **{spec.name: _weights(spec, random, 0.1 if index else 0.0) for spec in session.signature.weights},
        }
        for index, x in enumerate(items)
    )


def _weights(spec: TensorSpec, random: np.random.Generator, scale: float) -> np.ndarray:
    shape = (1, *(axis for axis in spec.shape[1:] if isinstance(axis, int)))
    # of two values, so that they take little room in the bundle
    return (scale * random.choice([-1.0, 1.0], shape)).astype(spec.dtype)


class TorchSession:
    """A torch module that computes a graph, as a session."""

    def __init__(self, module: Any, signature: Signature) -> None:
        self._module, self.signature = module, signature

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        import torch

        with torch.no_grad():
            answers = self._module(*(torch.from_numpy(inputs[spec.name]) for spec in self.signature.inputs))
        return {spec.name: answer.numpy() for spec, answer in zip(self.signature.outputs, answers)}


def _samples(request: ExportRequest, model: LoadedModel) -> tuple[Sequence[Any], str]:
    """What the model is asked in its check: the user's own or ours, and which of them."""
    pictured = takes_pictures(model.features)
    given, others = (request.pictures, request.audio) if pictured else (request.audio, request.pictures)
    if others:
        wanted, option = ("pictures", "--picture") if pictured else ("recordings", "--audio")
        raise UsageError(f"expected {wanted} for the check of {request.family}, received {others[0]}", hint=option)
    if given:
        return given, "real"
    return sample_pictures() if pictured else sample_clips(), "synthesised"


def _lines(labels: Sequence[str]) -> bytes:
    """One label per line; ExportError for one that no line of text holds."""
    for label in labels:
        if "\n" in label:
            raise ExportError(f"expected labels of one line each, received {label!r}", hint="give it another name")
    try:
        return "".join(f"{label}\n" for label in labels).encode()
    except UnicodeEncodeError as error:
        raise ExportError(f"expected labels that UTF-8 can hold, received {error.object!r}") from error


def _keep_what_is_worth_more(path: Path, family: str, model: LoadedModel) -> None:
    """Refuse to write another model, or weights that can be had again at any time, over a bundle."""
    try:
        old = open_bundle(path).manifest
    except BundleError:
        return  # nothing there, or nothing that can be read
    worth = {"random": 0, "built-in": 1}
    if old.family != family or worth.get(old.weights, 2) > worth.get(model.weights["source"], 2):
        raise UsageError(
            f"{path} holds a {old.family} with {old.weights} weights, which would be lost",
            hint="choose another --out, or delete that folder first",
        )


def _load(request: ExportRequest) -> tuple[str, LoadedModel]:
    family = find_family(request.family)
    if len(request.audio) > MAX_AUDIO:
        raise UsageError(f"expected at most {MAX_AUDIO} recordings for the check, received {len(request.audio)}")
    if len(request.pictures) > MAX_PICTURES:
        raise UsageError(f"expected at most {MAX_PICTURES} pictures for the check, received {len(request.pictures)}")
    if request.adapt:
        if not family.adapted:
            able = [each.name for each in families().values() if each.adapted]
            raise UsageError(
                f"expected a family that names tunable parameters with --adapt ({', '.join(able)}), "
                f"received {family.name}"
            )
        from edgekit.export.gradient import require_torch

        require_torch()  # before minutes of work
        request = replace(request, settings=(*request.settings, *family.adapted))
    # a family without deployable fields need not take settings for trained weights
    chosen = (tuple(request.settings),) if request.settings else ()
    sizes = [setting for setting in request.settings if setting.partition("=")[0].strip() not in family.deployable]
    if request.checkpoint is not None:
        if sizes:
            but = f", and lets {', '.join(family.deployable)} be set" if family.deployable else ""
            raise UsageError(f"--set changes the sizes of random weights; a checkpoint has its own{but}")
        if request.seed is not None:
            raise UsageError("--seed is of random weights; a checkpoint has its own")
        if request.variant is not None:
            family.variant(request.variant)
        head = None if request.head is None else family.head(request.head)
        return family.model.load_model(request.checkpoint, request.variant, head, *chosen)
    variant, config = family.variant(request.variant)
    head, builtin = family.head(request.head), family.builtin
    if builtin is not None and builtin.variant == variant and not sizes and request.seed is None:
        _, model = family.model.load_model(builtin.folder, variant, head, *chosen)
        # not the folder, which is another on every machine
        weights = {"source": "built-in", "licence": builtin.licence, "sha256": model.weights["sha256"]}
        return variant, replace(model, weights=weights)
    config = apply_settings(config, request.settings)
    return variant, family.model.random_model(config, head, request.seed or 0)


def _command(request: ExportRequest) -> str:
    """The command that makes this bundle again, but for its --out and its other formats."""
    words = ["edgekit", "export", request.family, *([request.checkpoint] if request.checkpoint else [])]
    for option in ("variant", "head"):
        value = getattr(request, option)
        words += [f"--{option}", value] if value else []
    for assignment in request.settings:
        words += ["--set", assignment]
    words += ["--seed", str(request.seed)] if request.seed is not None else []
    words += ["--adapt"] if request.adapt else []
    words += ["--target", request.target] if request.target is not None else []
    for path in request.audio:
        words += ["--audio", str(path)]
    for path in request.pictures:
        words += ["--picture", str(path)]
    return shlex.join(words)


def _provenance(model: LoadedModel) -> dict[str, Any]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")
    versions = {"edgekit": edgekit.__version__, "python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    date = datetime.now(timezone.utc).date().isoformat()
    return {"weights": model.weights, "exporter": "torch.onnx dynamo", "versions": versions, "date": date}
