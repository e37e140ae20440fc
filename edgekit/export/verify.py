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
from edgekit.core.errors import BackendError, BundleError, VerificationError
from edgekit.core.reference import Reference
from edgekit.core.signature import Dim, Signature, TensorSpec
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.session import backend_for, backend_module, open_artifact, remake_command

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tolerance:
    """Values pass where |received - expected| <= atol + rtol |expected| and the cosine of all reaches `cosine`."""

    atol: float
    rtol: float
    cosine: float


TOLERANCES = {
    "fp32": Tolerance(atol=1e-3, rtol=1e-3, cosine=0.999999),
    "fp16": Tolerance(atol=5e-2, rtol=5e-2, cosine=0.9995),
    "bf16": Tolerance(atol=2.5e-1, rtol=2.5e-1, cosine=0.995),
}


@dataclass(frozen=True)
class Comparison:
    """One way of running, held to the reference over all valid values of an output."""

    max_abs: float
    mean_abs: float
    cosine: float


def verify_bundle(path: Path | str, *, options: SessionOptions | None = None) -> list[tuple[str, Artifact]]:
    """Check every artifact of a bundle that this machine can execute, and record it in the manifest.

    An artifact that fails is recorded as failed, and the runtime then refuses it. What this machine cannot execute
    keeps the record that it has.

    Args:
        options: a device in it is one that must be there.

    Returns:
        Per artifact, its graph's name and what was found here and now.

    Raises:
        VerificationError: one failed; names its first bad output. The manifest is written first.
        BackendError: a device was asked for and no artifact could be executed on it.
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
        raise BackendError(f"expected to execute {path} on {options.device}, received {reasons}", hint="edgekit doctor")
    with writing(path) as writer:
        if open_bundle(path).manifest.files() != bundle.manifest.files():
            raise BundleError(f"{path} was rebuilt while it was checked", hint=f"edgekit verify {path}")
        writer.commit(manifest)
    if failure is not None:
        raise failure
    return checked


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
        VerificationError: it was executed and its answers are wrong.
    """
    options = replace(options or SessionOptions(), precision=artifact.precision)
    probe = backend_module(backend_for(artifact.format)).probe()
    if not probe.usable:
        return replace(artifact, parity=None, reason=f"not executed: missing {probe.missing}", failed=False)
    try:
        session = open_artifact(bundle, graph, artifact, options)
    except BackendError as error:
        return replace(artifact, parity=None, reason=f"not executed: {error.message}", failed=False)
    try:
        parity = check_answers(session, reference, TOLERANCES[artifact.precision])
    finally:
        session.close()
    parity |= {"backend": f"{session.backend} {probe.version} on {session.device}"}
    return replace(artifact, parity=parity, reason=None, failed=False)


def check_answers(session: Any, reference: Reference, tolerance: Tolerance) -> dict[str, Any]:
    """Run the reference's items alone and batched; return the manifest's `parity`.

    Args:
        session: anything with `signature` and `run`.

    Raises:
        VerificationError: an output differs by more than the tolerance, alone or batched.
    """
    signature: Signature = session.signature
    alone = [session.run(item) for item in reference.inputs]
    found = {"alone": _compare("alone", signature, alone, reference.outputs, tolerance)}
    most = 1 if signature.batch is None else min(signature.batch.max, len(reference.inputs))
    if most > 1:
        together = _run_batched(session, reference.inputs, most)
        found["batched"] = _compare("batched", signature, together, reference.outputs, tolerance)
    lengths = sorted({int(length) for item in reference.inputs for length in _lengths(signature, item)})
    return {
        "inputs": reference.origin,
        "reference": "torch fp32",
        "atol": tolerance.atol,
        "rtol": tolerance.rtol,
        "lengths": lengths,
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
    pairs = []
    for index, (got, want) in enumerate(zip(received, expected)):
        for spec in signature.outputs:
            pairs.append(_pair(f"{how}, item {index}, output {spec.name}", spec, got, want, tolerance))
    floats = [(a.ravel(), b.ravel()) for a, b in pairs if a.dtype.kind == "f"]
    if not floats:
        return Comparison(0.0, 0.0, 1.0)
    got64 = np.concatenate([a for a, _ in floats]).astype(np.float64)
    want64 = np.concatenate([b for _, b in floats]).astype(np.float64)
    error = np.abs(got64 - want64)
    cosine = float(got64 @ want64 / max(float(np.linalg.norm(got64) * np.linalg.norm(want64)), 1e-30))
    if cosine < tolerance.cosine:
        raise VerificationError(f"{how}: expected a cosine of at least {tolerance.cosine}, received {cosine:.6f}")
    return Comparison(float(error.max()), float(error.mean()), cosine)


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
