"""Open a bundle's graph: choose backend and artifact, hold files to their hashes and inputs to the signature."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.core.bundle import Artifact, Bundle, build_command
from edgekit.core.errors import BundleError, UnavailableError, UsageError, unknown
from edgekit.runtime.backends.base import Probe, Session, SessionOptions

BACKENDS = ("tensorrt", "onnxruntime", "openvino")
"""In order of preference where a bundle holds artifacts for several and none was asked for."""


def backend_module(name: str) -> Any:
    """A backend's module.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in BACKENDS:
        raise unknown("backend", name, BACKENDS)
    return importlib.import_module(f"edgekit.runtime.backends.{name}")


def backend_for(format: str) -> str:
    """The backend that runs artifacts of a format."""
    for name in BACKENDS:
        if format in backend_module(name).FORMATS:
            return name
    raise UsageError(f"no backend runs the format {format!r}")


def has_backend(format: str) -> bool:
    """Whether edgekit runs a format; one that is made for another program it does not."""
    return any(format in backend_module(name).FORMATS for name in BACKENDS)


def probe_format(format: str) -> Probe:
    """What the backend of a format says of it on this machine: a backend may have a library per format."""
    probe: Probe = backend_module(backend_for(format)).probe(format)
    return probe


def probe_all() -> list[Probe]:
    """What each backend says of this machine."""
    return [backend_module(name).probe() for name in BACKENDS]


def open_session(
    bundle: Bundle,
    graph: str = "infer",
    *,
    backend: str | None = None,
    options: SessionOptions | None = None,
) -> CheckedSession:
    """Load one graph of a bundle.

    Args:
        backend: None takes the first that is usable here and for which the bundle holds an artifact.

    Raises:
        UnavailableError: the backend or device asked for is absent.
        BackendError: the backend refuses the artifact.
        BundleError: no such artifact, or a file is missing or altered, or an artifact failed its check.
    """
    options = options or SessionOptions()
    return open_artifact(bundle, graph, choose_artifact(bundle, graph, backend, options.precision), options)


def choose_artifact(bundle: Bundle, graph: str, backend: str | None, precision: str) -> Artifact:
    """The artifact that `open_session` opens; raises as it does where there is none that can be run here."""
    tried = []
    for name in (backend,) if backend else BACKENDS:
        module = backend_module(name)
        artifacts = _artifacts_for(bundle, graph, module, precision)
        if not artifacts and backend is not None:
            bundle.artifact(graph, module.FORMATS[0], precision)  # raises, with the command that mends
        for artifact in artifacts:
            checked = artifact if artifact.failed else artifact.hinted().get(precision, artifact)
            probe = probe_format(artifact.format)
            if not probe.usable:
                message = f"{name} cannot run {artifact.format} here: missing {probe.missing}"
                tried.append(UnavailableError(message, hint=probe.remedy))
            elif checked.failed:
                mend = remake_command(bundle, graph, artifact) if checked is artifact else "--precision fp32"
                raise BundleError(
                    f"{artifact.format} {checked.precision} of {bundle.path} failed its check: {checked.reason}",
                    hint=mend,
                )
            else:
                return artifact
    if tried:
        raise tried[0]
    raise BundleError(
        f"{bundle.path} holds no {precision} artifact of graph {graph!r} for any backend",
        hint=f"edgekit inspect {bundle.path}",
    )


def open_artifact(bundle: Bundle, graph: str, artifact: Artifact, options: SessionOptions) -> CheckedSession:
    """Load one artifact, whether or not it passed its check: `verify` must be able to check it again.

    Args:
        options: its precision may be one that the artifact's backend computes by a hint.
    """
    module = backend_module(backend_for(artifact.format))
    files = [bundle.checked(file) for file in artifact.files]
    if artifact.engine is not None:
        source = bundle.graph(graph).artifacts[0].files[0].sha256
        options = replace(options, engine={**artifact.engine, "bundle_onnx_sha256": source})
    return CheckedSession(module.open(files, bundle.graph(graph).signature, options))


def remake_command(bundle: Bundle, graph: str, artifact: Artifact) -> str:
    """The command that makes an artifact anew: the fp32 ONNX comes from an export, all else from it."""
    if artifact is bundle.graph(graph).artifacts[0]:
        command = bundle.manifest.provenance.get("command", f"edgekit export {bundle.manifest.family}")
        return f"{command} --out {bundle.path}"
    return build_command(bundle.path, artifact.format, artifact.precision)


def _artifacts_for(bundle: Bundle, graph: str, module: Any, precision: str) -> list[Artifact]:
    """What a backend could run, best format first."""
    artifacts = []
    for format in module.FORMATS:
        found = bundle.graph(graph).find(format, precision)
        if found is None and precision in module.HINTED_PRECISIONS:
            found = bundle.graph(graph).find(format, "fp32")
        if found is not None:
            artifacts.append(found)
    return artifacts


class CheckedSession:
    """A `Session` whose inputs are held to the signature: the one place where that is done."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.backend = session.backend
        self.device = session.device
        self.precision = session.precision
        self.computed_in = session.computed_in
        self.signature = session.signature

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs by name.

        Raises:
            SignatureError: an input does not fit.
        """
        self.signature.check_inputs(inputs)
        return self._session.run(inputs)

    def close(self) -> None:
        self._session.close()

    def __str__(self) -> str:
        computed = "" if self.computed_in == self.precision else f" graph computed in {self.computed_in}"
        return f"{self.backend} {self.precision}{computed} on {self.device}"
