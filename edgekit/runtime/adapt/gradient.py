"""A bundle's gradient graphs on ONNX Runtime: one utterance's answer, and its gradient by theta.

The first graph hands what it remembers to the second without a copy. Float32 on the CPU: errors of 3e-7 to 9e-7 of the
largest value against float64, for a DisConformer T at 40 to 1,000 frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BackendError, BundleError, UnavailableError
from edgekit.core.theta import INPUT, ThetaLayout
from edgekit.runtime.backends import onnxruntime as backend
from edgekit.runtime.chunks import counted


class GradientGraphs:
    """The open graphs. Use `open_gradient`.

    Attributes:
        layout: of theta.
        starts: float32 `[N, P]`, trained values to begin with; N may be 0.
    """

    def __init__(self, forward: Any, backward: Any, names: tuple[str, str, str], layout: ThetaLayout, starts: Any):
        self._forward: Any | None = forward
        self._backward: Any = backward
        self._data, self._lengths, self._answer = names
        self.layout, self.starts = layout, starts
        self._answers = [value.name for value in forward.get_outputs()]
        self._wanted = [value.name for value in backward.get_inputs()]
        self._cotangent = next(value.name for value in backward.get_inputs() if value.name.startswith("d_"))
        self._known: dict[str, Any] = {}

    @property
    def size(self) -> int:
        """P, the number of values that are learned."""
        return self.layout.size

    @property
    def layout_hash(self) -> str:
        return self.layout.hash

    def forward(self, features_FM: np.ndarray, theta_P: np.ndarray) -> np.ndarray:
        """Log-probabilities float32 `[T, V]` of one utterance; what its gradient needs is kept until the next one."""
        import onnxruntime

        if self._forward is None:
            raise BackendError("expected open gradient graphs, these were closed")
        self._known = {}  # before the next ones are made, or both would be in memory
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        given = {
            self._data: value(np.ascontiguousarray(features_FM[None], np.float32)),
            self._lengths: value(np.array([len(features_FM)], np.int64)),
            INPUT: value(np.ascontiguousarray(theta_P[None], np.float32)),
        }
        try:
            answers = self._forward.run_with_ort_values(self._answers, given)
        except backend.errors() as error:
            raise backend.refused("ONNX Runtime cannot run the gradient's first graph", error) from error
        self._known = {**given, **dict(zip(self._answers, answers, strict=True))}
        log_probs: np.ndarray = self._known[self._answer].numpy()[0]
        return log_probs

    def backward(self, d_log_probs_TV: np.ndarray) -> np.ndarray:
        """The gradient float32 `[P]` by theta of the sum of `log_probs * d_log_probs`, of the last `forward`."""
        import onnxruntime

        if not self._known:
            raise BackendError("expected a forward pass before its gradient")
        cotangent = np.ascontiguousarray(d_log_probs_TV[None], np.float32)
        known = {**self._known, self._cotangent: onnxruntime.OrtValue.ortvalue_from_numpy(cotangent)}
        self._known = {}
        try:
            (gradient,) = self._backward.run_with_ort_values(None, {name: known[name] for name in self._wanted})
        except backend.errors() as error:
            raise backend.refused("ONNX Runtime cannot run the gradient's second graph", error) from error
        found: np.ndarray = gradient.numpy()[0]
        return found

    def close(self) -> None:
        self._forward = self._backward = None
        self._known = {}


def open_gradient(bundle: Bundle, *, num_threads: int | None = None) -> GradientGraphs:
    """Open a bundle's gradient graphs on the CPU.

    Raises:
        BundleError: the bundle has none, or a file is missing or altered.
        UnavailableError: ONNX Runtime is not installed.
    """
    adaptation = bundle.manifest.adaptation
    if adaptation is None or not adaptation.gradient:
        raise BundleError(
            f"expected a bundle that can be adapted, {bundle.path} has no gradient graphs",
            hint=f"edgekit export {bundle.manifest.family} --adapt",
        )
    probe = backend.probe()
    if not probe.usable:
        raise UnavailableError(f"adaptation runs on ONNX Runtime: missing {probe.missing}", hint=probe.remedy)
    starts = np.zeros((0, adaptation.layout.size), np.float32)
    if adaptation.starts is not None:
        starts = read_values(bundle.checked(adaptation.starts).read_bytes(), str(bundle.path))
        if starts.ndim != 2 or starts.shape[1] != adaptation.layout.size:
            raise BundleError(f"expected starting points [N, {adaptation.layout.size}], received {list(starts.shape)}")
    forward, backward, _ = [bundle.checked(file) for file in adaptation.gradient]
    signature = next(iter(bundle.manifest.graphs.values())).signature
    data, lengths, _ = counted(signature.inputs, "an input")
    answer, _, _ = counted(signature.outputs, "an output")
    names = (data.name, lengths.name, answer.name)
    first, second = [_session(path, num_threads) for path in (forward, backward)]
    return GradientGraphs(first, second, names, adaptation.layout, starts)


def read_values(content: bytes, where: str) -> np.ndarray:
    """The tensor "theta" of a safetensors file.

    Raises:
        BundleError: not such a file.
    """
    import safetensors
    import safetensors.numpy

    try:
        values: np.ndarray = safetensors.numpy.load(content)[INPUT]
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise BundleError(f"expected a safetensors file with {INPUT!r} in {where}: {error}") from error
    return values


def _session(path: Any, num_threads: int | None) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.enable_mem_pattern = False  # utterances have all lengths
    # with its arena: without one, and without laying weights out anew, an utterance of 20 s took 275 MiB and not 244
    if num_threads is not None:
        settings.intra_op_num_threads = num_threads
    try:
        return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except backend.errors() as error:
        raise backend.refused(f"ONNX Runtime cannot open {path}", error) from error
