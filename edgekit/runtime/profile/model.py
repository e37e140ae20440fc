"""What is profiled, opened: a bundle's graph, its task from waveform or picture to answer, or another's model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.bundle import MANIFEST, Bundle, open_bundle
from edgekit.core.errors import UsageError
from edgekit.runtime.backends.base import Session, SessionOptions
from edgekit.runtime.profile.files import describe_files
from edgekit.runtime.profile.foreign import kind_of, open_foreign, openvino_files
from edgekit.runtime.profile.inputs import Fed, feed_bundle, time_axis
from edgekit.runtime.profile.layers import LayerTimes, Timeable, time_layers
from edgekit.runtime.profile.point import Point
from edgekit.runtime.session import CheckedSession, backend_module, choose_artifact, open_artifact

_NO_AUDIO = "the model's input is not known to be sound"


@dataclass(frozen=True)
class Subject:
    """An opened model, ready to be called.

    Attributes:
        call: one call, of `items` items.
        session: `backend`, `version`, `device`, `precision`, `computed_in`.
        inputs: of each, `name`, `dtype`, `shape` and `values`.
        audio_s: seconds of sound of each item; None: the input is no sound, for `no_audio`.
        layers: measures each node's time, in a session of its own.
        close: frees what is held.
    """

    call: Callable[[], object]
    session: dict[str, Any]
    inputs: list[dict[str, Any]]
    items: int
    audio_s: float | None
    no_audio: str | None
    layers: Callable[[], LayerTimes]
    close: Callable[[], None]


def open_subject(point: Point) -> Subject:
    """Open what a point names.

    Raises:
        EdgekitError: as `open_session`, `edgekit.load` or `open_foreign`.
        UsageError: options that do not fit the model.
    """
    path = Path(point.model)
    if is_bundle(path):
        opened = open_bundle(path)
        return _open_task(opened, point) if point.task else _open_graph(opened, point)
    if point.task:
        raise UsageError(f"expected a bundle with --task, {path} is a file")
    kind_of(path)
    foreign = open_foreign(path, point)
    files = openvino_files(path) if foreign.session.backend == "openvino" else [path]
    timeable = Timeable(files, foreign.session, _options(point, foreign.session.precision), foreign.fed.arrays)
    return _subject(foreign.session, foreign.fed, None, timeable)


def describe_model(point: Point) -> dict[str, Any]:
    """What the result says of the model: its kind, where it lies, its SHA-256 (of a bundle: of its core) and size.

    Raises:
        EdgekitError: there is no such model, or it cannot be read.
    """
    path = Path(point.model)
    if not is_bundle(path):
        return {"kind": kind_of(path), "path": point.model, **describe_files(path)}
    bundle = open_bundle(path)
    manifest = bundle.manifest
    return {
        "kind": "bundle",
        "path": point.model,
        "sha256": manifest.core_hash,
        "num_bytes": sum(file.num_bytes for file in manifest.files()),
        "graph": point.graph,
        "family": manifest.family,
        "variant": manifest.variant,
        "task": manifest.task,
        "weights": manifest.weights,
    }


def is_bundle(path: Path) -> bool:
    """Whether a path is to be read as a bundle: a folder, or nothing that has the suffix of a model."""
    # os.path, which does not raise where a name is too long or a folder is closed to this user
    return os.path.isdir(path) or (path / MANIFEST).is_file()  # noqa: PTH112


def _open_graph(bundle: Bundle, point: Point) -> Subject:
    precision = point.precision or "fp32"
    artifact = choose_artifact(bundle, point.graph, point.backend, precision)
    options = _options(point, precision)
    session = open_artifact(bundle, point.graph, artifact, options)
    signature = session.signature
    steps, audio_s = _steps(bundle, point, signature)
    fed = feed_bundle(signature, point, steps)
    signature.check_inputs(fed.arrays)
    sound = _seconds(bundle, signature, fed) if audio_s is None else audio_s
    files = [bundle.path / file.name for file in artifact.files]
    return _subject(session, fed, sound, Timeable(files, session, options, fed.arrays))


def _open_task(bundle: Bundle, point: Point) -> Subject:
    """A bundle over our samples: from a waveform or a decoded picture to the answer."""
    from edgekit.runtime.tasks import load

    unused = [name for name in ("dims", "shapes", "values", "data") if getattr(point, name)] + ["graph"] * (
        point.graph != "infer"
    )
    if unused:
        raise UsageError(f"expected --batch and --length alone with --task, received also {', '.join(unused)}")
    task = load(
        bundle.path,
        backend=point.backend,
        device=point.device,
        precision=point.precision or "fp32",
        num_threads=point.threads,
        allow_fallback=point.allow_fallback,
    )
    if bundle.manifest.features.get("kind") == "image":
        return _picture_task(task, point)
    return _speech_task(bundle, task, point)


def _picture_task(task: Any, point: Point) -> Subject:
    """A drawn picture, several times in a batch."""
    from edgekit.runtime.samples.pictures import sample_pictures

    if point.length is not None:
        raise UsageError(f"expected no --length, a picture has none; received {point.length}")
    batch = point.batch or 1
    if batch > task.most_together:
        raise UsageError(f"expected --task with a batch of at most {task.most_together}, received {batch}")
    picture = sample_pictures()[0]
    call: Callable[[], object] = partial(task.embed, [picture] * batch)
    if task.classes:
        call = partial(task.classify, [picture] * batch, allow_random_weights=True)
    described = {"name": "picture", "dtype": "uint8", "shape": [batch, *picture.shape], "values": "a drawn picture"}
    return _subject(task.session, Fed({}, [described], batch, {}), None, None, call=call)


def _speech_task(bundle: Bundle, task: Any, point: Point) -> Subject:
    """The sample clips, repeated to the length that is asked for."""
    from edgekit.runtime.features.audio import load_audio
    from edgekit.runtime.samples import sample_clips

    signature = task.session.signature
    steps, audio_s = _steps(bundle, point, signature)
    rate = _sample_rate(bundle)
    if audio_s is None:
        steps = time_axis(signature).buckets[0][1] if steps is None else steps
        audio_s = _step_s(bundle) * steps
    speech = np.concatenate([load_audio(clip, rate) for clip in sample_clips()])
    wave = np.resize(speech, max(1, round(audio_s * rate)))
    batch = point.batch or 1
    name = next((name for name in ("transcribe", "embed") if hasattr(task, name)), None)
    if name is None or (name == "embed" and batch > 1):
        raise UsageError(f"expected --task with a batch of 1 for {bundle.manifest.task}, received {batch}")
    options = {"allow_random_weights": True} if name == "transcribe" else {}
    call: Callable[[], object] = partial(getattr(task, name), (wave, rate), **options)
    if batch > 1:
        call = partial(task.transcribe_batch, [((wave, rate), None)] * batch, **options)
    described = {"name": "waveform", "dtype": "float32", "shape": [batch, len(wave)], "values": "the sample clips"}
    fed = Fed({}, [described], batch, {})
    return _subject(task.session, fed, len(wave) / rate, None, call=call)


def _subject(
    session: Session | CheckedSession,
    fed: Fed,
    audio_s: float | None,
    timeable: Timeable | None,
    *,
    call: Callable[[], object] | None = None,
) -> Subject:
    described = {
        "backend": session.backend,
        "version": backend_module(session.backend).probe().version,
        "device": session.device,
        "precision": session.precision,
        "computed_in": session.computed_in,
    }
    return Subject(
        call or partial(session.run, fed.arrays),
        described,
        fed.described,
        fed.items,
        audio_s,
        None if audio_s is not None else _NO_AUDIO,
        partial(time_layers, timeable),
        session.close,
    )


def _options(point: Point, precision: str) -> SessionOptions:
    return SessionOptions(
        device=point.device, precision=precision, num_threads=point.threads, allow_fallback=point.allow_fallback
    )


def _steps(bundle: Bundle, point: Point, signature: Any) -> tuple[int | None, float | None]:
    """The steps that `--length` asks for, and the seconds, where it is those."""
    if point.length is None:
        return None, None
    text = point.length
    if text.isdecimal() and int(text) > 0:
        return int(text), None
    try:
        seconds = float(text.removesuffix("s")) if text.endswith("s") else 0.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"expected a length in steps or seconds for --length, received {text!r}", hint="--length 3s")
    if not bundle.manifest.task.startswith("speech"):
        raise UsageError(f"expected no seconds for --length, {bundle.path} takes no sound; received {text!r}")
    from edgekit.runtime.features import open_features

    features = open_features(bundle.manifest.features)
    num_samples = round(seconds * features.sample_rate)
    about = num_samples // features.samples_per_step
    if about > 2 * time_axis(signature).max:
        return about, seconds  # more than the graph takes, as it will say; features of hours would take all memory
    return len(features(np.zeros(num_samples, np.float32))), seconds


def _seconds(bundle: Bundle, signature: Any, fed: Fed) -> float | None:
    """Of the sound that so many steps stand for; None of a bundle that takes none."""
    if not bundle.manifest.task.startswith("speech"):
        return None
    return fed.sizes[time_axis(signature).name] * _step_s(bundle)


def _step_s(bundle: Bundle) -> float:
    from edgekit.runtime.features import open_features

    features = open_features(bundle.manifest.features)
    return features.samples_per_step / features.sample_rate


def _sample_rate(bundle: Bundle) -> int:
    from edgekit.runtime.features import open_features

    return open_features(bundle.manifest.features).sample_rate
