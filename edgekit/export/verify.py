"""Execute an artifact and hold it to the original model's answers: each item alone, and in a batch among junk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.core.bundle import Artifact, Bundle, open_bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import (
    BackendError,
    BundleError,
    EngineError,
    ForeignEngineError,
    UnavailableError,
    VerificationError,
)
from edgekit.core.reference import Reference
from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.chunks import whole
from edgekit.runtime.session import (
    backend_for,
    backend_module,
    has_backend,
    open_artifact,
    probe_format,
    remake_command,
)

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """Values pass where |received - expected| <= atol + rtol |expected| and the cosine of all reaches `cosine`.

    Both forgive much where an output is the same in every frame but for a little. So the signal, which is what an
    output's channels (its last axis) do around their own means over all items and frames, is held by itself.

    Attributes:
        relative_rms: the most that the root mean square of an output's errors may be of its signal's.
        signal_cosine: the least cosine of an output's signal, received with expected.
        rounding: what rounding alone does, as a share of the output's root mean square. A signal so small (a model
            that has learned to say nothing answers nearly the same in all frames) is held to that instead.
    """

    atol: float
    rtol: float
    cosine: float
    relative_rms: float
    signal_cosine: float
    rounding: float


# Measured, relative RMS of the conformance tests' one-layer models: fp32 4e-6, fp16 2e-3, bf16 1.5e-2; frames in
# another order 1.4, frames late by one 0.8 to 1.3, a constant 1.
TOLERANCES = {
    "fp32": Tolerance(atol=1e-3, rtol=1e-3, cosine=0.999999, relative_rms=1e-3, signal_cosine=0.999999, rounding=1e-6),
    "fp16": Tolerance(atol=5e-2, rtol=5e-2, cosine=0.9995, relative_rms=3e-2, signal_cosine=0.9995, rounding=5e-4),
    "bf16": Tolerance(atol=2.5e-1, rtol=2.5e-1, cosine=0.995, relative_rms=1.5e-1, signal_cosine=0.985, rounding=4e-3),
}

MIN_LENGTHS = 3
"""The fewest lengths that a reference must have, where a graph has a length."""


@dataclass(frozen=True)
class Comparison:
    """One way of running, held to the reference over all valid values; of several outputs the worst's signal."""

    max_abs: float
    mean_abs: float
    cosine: float
    relative_rms: float
    signal_cosine: float


def verify_bundle(path: Path | str, *, options: SessionOptions | None = None) -> list[tuple[str, Artifact]]:
    """Check every artifact of a bundle that this machine can execute, and record it in the manifest.

    An artifact that fails, or that a backend which is usable here refuses, is recorded as failed, and the runtime then
    refuses it. What this machine cannot execute keeps the record that it has. So do the precisions that a backend
    computes by a hint: nobody asked for them yet, so one that fails is recorded and refused, and raises nothing here.

    Args:
        options: a device in it is one that must be there.

    Returns:
        Per artifact, its graph's name and what was found here and now.

    Raises:
        VerificationError: one failed; names its first bad output. The manifest is written first.
        UnavailableError: a device was asked for and no artifact could be executed on it.
    """
    bundle = open_bundle(path)
    checked: list[tuple[str, Artifact]] = []
    failure: VerificationError | None = None
    manifest = bundle.manifest
    for name, graph in manifest.graphs.items():
        reference = load_reference(bundle, name)
        for artifact in graph.artifacts:
            try:
                record = check_artifact(bundle, name, artifact, reference, options)
                record = _with_hinted(bundle, name, record, reference, options)
            except VerificationError as error:
                hint = remake_command(bundle, name, artifact)
                failure = failure or VerificationError(f"{_called(artifact)}: {error.message}", hint=hint)
                record = replace(artifact, parity=None, reason=error.message, failed=True)
            checked.append((name, record))
            if _executed(record) or not _executed(artifact):
                graph = graph.with_artifact(record)
        manifest = replace(manifest, graphs={**manifest.graphs, name: graph})
    if options is not None and options.device is not None and not any(_executed(record) for _, record in checked):
        reasons = "; ".join(f"{_called(record)}: {record.reason}" for _, record in checked)
        raise UnavailableError(
            f"expected to execute {path} on {options.device}, received {reasons}", hint="edgekit doctor"
        )
    with writing(path) as writer:
        if open_bundle(path).manifest.files() != bundle.manifest.files():
            raise BundleError(f"{path} was rebuilt while it was checked", hint=f"edgekit verify {path}")
        writer.commit(manifest)
    if failure is not None:
        raise failure
    return checked


def _with_hinted(
    bundle: Bundle, graph: str, artifact: Artifact, reference: Reference, options: SessionOptions | None
) -> Artifact:
    """The artifact with a check of each precision that its backend computes from it by a hint, where it can here."""
    if artifact.precision != "fp32" or artifact.parity is None or not has_backend(artifact.format):
        return artifact
    hinted = dict(artifact.details.get("hinted", {}))
    for precision in backend_module(backend_for(artifact.format)).HINTED_PRECISIONS:
        asked = replace(artifact, precision=precision)
        try:
            found = check_artifact(bundle, graph, asked, reference, options)
        except VerificationError as error:
            found = replace(asked, parity=None, reason=error.message, failed=True)
        if _executed(found):
            hinted[precision] = {"parity": found.parity, "reason": found.reason, "failed": found.failed}
    return replace(artifact, details={**artifact.details, "hinted": hinted}) if hinted else artifact


def _executed(artifact: Artifact) -> bool:
    """Whether it was ever executed, rightly or wrongly."""
    return artifact.parity is not None or artifact.failed


def _called(artifact: Artifact) -> str:
    return f"{artifact.format} {artifact.precision}"


def reference_asset(graph: str) -> str:
    """The name of the asset that holds a graph's reference."""
    return f"reference-{graph}"


def load_reference(bundle: Bundle, graph: str) -> Reference:
    """What a graph of this bundle must answer.

    Raises:
        BundleError: the asset is missing or altered.
    """
    return Reference.load(bundle.asset(reference_asset(graph)))


def check_artifact(
    bundle: Bundle, graph: str, artifact: Artifact, reference: Reference, options: SessionOptions | None = None
) -> Artifact:
    """The artifact with a new `parity`, or with the reason why it cannot be executed here.

    Raises:
        VerificationError: a backend that is usable here refuses it, fails to run it, or answers wrongly.
        BundleError: a file is missing or altered, or the reference is too poor to hold anything to it.
    """
    options = replace(options or SessionOptions(), precision=artifact.precision)
    if artifact.format == "sherpa":
        from edgekit.export.sherpa.check import check

        return check(bundle, graph, artifact, reference, options)
    probe = probe_format(artifact.format)
    if not probe.usable:
        return replace(artifact, parity=None, reason=f"not executed: missing {probe.missing}", failed=False)
    if artifact.precision not in TOLERANCES:
        reason = f"not executed: no tolerance is known for {artifact.precision}"
        return replace(artifact, parity=None, reason=reason, failed=False)
    try:
        session = open_artifact(bundle, graph, artifact, options)
    except (UnavailableError, ForeignEngineError) as error:
        return replace(artifact, parity=None, reason=f"not executed: {error.message}", failed=False)
    except (BackendError, EngineError) as error:
        raise VerificationError(f"cannot be opened: {error.message}") from error
    try:
        parity = check_answers(whole(session), reference, TOLERANCES[artifact.precision])
    except UnavailableError as error:
        return replace(artifact, parity=None, reason=f"not executed: {error.message}", failed=False)
    except BackendError as error:
        raise VerificationError(f"cannot be run: {error.message}") from error
    finally:
        session.close()
    parity |= {
        "backend": f"{session.backend} {probe.version} on {session.device}",
        "computed_in": session.computed_in,
    }
    return replace(artifact, parity=parity, reason=None, failed=False)


def check_answers(session: Any, reference: Reference, tolerance: Tolerance) -> dict[str, Any]:
    """Run the reference's items alone and batched; return the manifest's `parity`.

    Args:
        session: anything with `signature` and `run`.

    Raises:
        VerificationError: an output differs by more than the tolerance, alone or batched.
        UnavailableError: the backend has no kernel for the graph's types.
        BundleError: the reference lacks an input or output, has no float outputs, or items of fewer than three lengths.
    """
    signature: Signature = session.signature
    pairs = ((signature.inputs, reference.inputs), (signature.outputs, reference.outputs))
    missing = {spec.name for specs, items in pairs for spec in specs for item in items if spec.name not in item}
    if missing or len(reference.inputs) != len(reference.outputs):
        raise BundleError(f"expected a reference of all inputs and outputs, this one lacks {sorted(missing) or 'some'}")
    lengths = sorted({int(length) for item in reference.inputs for length in _lengths(signature, item)})
    if len(lengths) < MIN_LENGTHS and any(spec.lengths_of is not None for spec in signature.inputs):
        raise BundleError(f"expected a reference of {MIN_LENGTHS} lengths or more, this one has {lengths}")
    if not any(spec.dtype.startswith("float") for spec in signature.outputs):
        raise BundleError(f"expected a float output to compare, received {[spec.name for spec in signature.outputs]}")
    alone = [session.run(item) for item in reference.inputs]
    found = {"alone": _compare("alone", signature, alone, reference.outputs, tolerance)}
    most = 1 if signature.batch is None else min(signature.batch.max, len(reference.inputs))
    if most > 1:
        together = _run_batched(session, reference.inputs, most)
        found["batched"] = _compare("batched", signature, together, reference.outputs, tolerance)
    return {
        "inputs": reference.origin,
        "reference": "torch fp32",
        "atol": tolerance.atol,
        "rtol": tolerance.rtol,
        "max_relative_rms": tolerance.relative_rms,
        "min_signal_cosine": tolerance.signal_cosine,
        "lengths": lengths,
        "items": len(reference.inputs),
        **{f"{how}_{key}": value for how, result in found.items() for key, value in vars(result).items()},
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _run_batched(session: Any, items: Sequence[Mapping[str, np.ndarray]], most: int) -> list[Arrays]:
    """Each item's answer, run `most` at a time; the last batch is filled up from the one before it."""
    answers: dict[int, Arrays] = {}
    for start in range(0, len(items), most):
        first = min(start, len(items) - most)
        group = items[first : first + most]
        answers |= enumerate(unbatch(session.signature, session.run(batch(session.signature, group)), group), first)
    return [answers[index] for index in range(len(items))]


def batch(signature: Signature, items: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
    """One batch of items of different lengths; what is beyond an item's own data is loud noise, not zeros."""
    random = np.random.default_rng(1)
    together = {}
    for spec in signature.inputs:
        arrays = [item[spec.name] for item in items]
        shape = tuple(max(array.shape[axis] for array in arrays) for axis in range(1, arrays[0].ndim))
        joined = np.empty((len(arrays), *shape), arrays[0].dtype)
        if joined.ndim > 1:
            joined[...] = 100 * random.standard_normal(joined.shape)
        for row, array in enumerate(arrays):
            own: tuple[int | slice, ...] = (row, *(slice(size) for size in array.shape[1:]))
            joined[own] = array[0]
        together[spec.name] = joined
    return together


def unbatch(
    signature: Signature, outputs: Mapping[str, np.ndarray], items: Sequence[Mapping[str, np.ndarray]]
) -> list[Arrays]:
    """Each item's own part of a batch's outputs."""
    separate = []
    for index, item in enumerate(items):
        sizes = {
            axis.name: size
            for spec in signature.inputs
            for axis, size in zip(spec.shape, item[spec.name].shape)
            if isinstance(axis, Dim)
        }
        separate.append(
            {
                spec.name: outputs[spec.name][index : index + 1][
                    tuple(slice(size) for size in signature.output_shape(spec, sizes))
                ]
                for spec in signature.outputs
            }
        )
    return separate


def _compare(
    how: str,
    signature: Signature,
    received: Sequence[Mapping[str, np.ndarray]],
    expected: Sequence[Mapping[str, np.ndarray]],
    tolerance: Tolerance,
) -> Comparison:
    by_output: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {spec.name: [] for spec in signature.outputs}
    for index, (got, want) in enumerate(zip(received, expected, strict=True)):
        for spec in signature.outputs:
            where = f"{how}, item {index}, output {spec.name}"
            by_output[spec.name].append(_pair(where, spec, got, want, tolerance))
    floats = {name: pairs for name, pairs in by_output.items() if pairs[0][0].dtype.kind == "f"}
    got64, want64 = (np.concatenate([np.ravel(p[i]) for pairs in floats.values() for p in pairs]) for i in (0, 1))
    got64, want64 = got64.astype(np.float64), want64.astype(np.float64)
    error = np.abs(got64 - want64)
    cosine = float(got64 @ want64 / max(float(np.linalg.norm(got64) * np.linalg.norm(want64)), 1e-30))
    if cosine < tolerance.cosine:
        raise VerificationError(f"{how}: expected a cosine of at least {tolerance.cosine}, received {cosine:.6f}")
    signals = [_signal(f"{how}, output {name}", pairs, tolerance) for name, pairs in floats.items()]
    return Comparison(
        float(error.max()),
        float(error.mean()),
        cosine,
        max(relative_rms for relative_rms, _ in signals),
        min(signal_cosine for _, signal_cosine in signals),
    )


def _signal(where: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]], tolerance: Tolerance) -> tuple[float, float]:
    """The relative RMS error and the cosine of one output's signal, see `Tolerance`."""
    got, want = (np.concatenate([_by_channel(p[i]) for p in pairs]).astype(np.float64) for i in (0, 1))
    got_signal, want_signal = got - got.mean(0), want - want.mean(0)
    got_size, want_size = float(np.linalg.norm(got_signal)), float(np.linalg.norm(want_signal))
    if want_size == 0:
        raise BundleError(f"{where}: expected a reference that changes, it is the same in all items and frames")
    relative_rms = float(np.linalg.norm(got - want)) / want_size
    cosine = float(np.vdot(got_signal, want_signal)) / max(got_size * want_size, 1e-30)
    rounding = tolerance.rounding * float(np.linalg.norm(want)) / want_size
    most_rms = max(tolerance.relative_rms, rounding)
    # errors of a share r that are independent of the signal leave a cosine of about 1 - r^2 / 2
    least_cosine = min(tolerance.signal_cosine, 1 - rounding**2)
    if not relative_rms <= most_rms:
        raise VerificationError(
            f"{where}: expected errors of at most {most_rms:.3g} of the signal (RMS), received {relative_rms:.3g}"
        )
    if not cosine >= least_cosine:
        raise VerificationError(
            f"{where}: expected a cosine of the signal of at least {least_cosine:.6f}, received {cosine:.6f}"
        )
    return relative_rms, cosine


def _by_channel(array: np.ndarray) -> np.ndarray:
    """`[values, channels]`, the last axis being the channels."""
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)


def _pair(
    where: str, spec: TensorSpec, got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], tolerance: Tolerance
) -> tuple[np.ndarray, np.ndarray]:
    a, b = got[spec.name], want[spec.name]
    if a.shape != b.shape or a.dtype != b.dtype:
        raise VerificationError(f"{where}: expected {b.dtype}{list(b.shape)}, received {a.dtype}{list(a.shape)}")
    if a.dtype.kind != "f":
        if not np.array_equal(a, b):
            raise VerificationError(f"{where}: expected {b.tolist()}, received {a.tolist()}")
        return a, b
    # written so that NaN fails
    good = np.abs(a - b) <= tolerance.atol + tolerance.rtol * np.abs(b)
    if not good.all():
        at = tuple(int(i) for i in np.argwhere(~good)[0])
        raise VerificationError(
            f"{where}: expected {b[at]:.6g} at {list(at)}, received {a[at]:.6g} "
            f"(atol {tolerance.atol}, rtol {tolerance.rtol}; {(~good).mean():.2%} of values differ)"
        )
    return a, b


def _lengths(signature: Signature, item: Mapping[str, np.ndarray]) -> list[int]:
    return [
        int(value) for spec in signature.inputs if spec.lengths_of is not None for value in item[spec.name].tolist()
    ]
