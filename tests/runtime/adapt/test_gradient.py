"""A bundle's gradient graphs on ONNX Runtime: the runtime's own answers, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BackendError, BundleError
from edgekit.runtime.adapt.gradient import open_gradient
from edgekit.runtime.session import open_session


@pytest.fixture
def speech(adaptable: Bundle) -> np.ndarray:
    bins = adaptable.graph().signature.inputs[0].shape[-1]
    return np.random.default_rng(0).standard_normal((150, bins)).astype(np.float32)


def test_it_answers_as_the_session_does_and_its_gradient_is_the_slope(adaptable, speech) -> None:
    gradient = open_gradient(adaptable, num_threads=1)
    random = np.random.default_rng(1)
    theta = (0.1 * random.standard_normal(gradient.size)).astype(np.float32)
    answer = gradient.forward(speech, theta)
    session = open_session(adaptable, backend="onnxruntime")
    lengths = np.array([len(speech)])
    (expected,) = session.run({"x": speech[None], "x_lens": lengths, "theta": theta[None]})["log_probs"]
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    d = random.standard_normal(answer.shape).astype(np.float32)
    slope = gradient.backward(d)
    # along the gradient itself, by central differences
    step = 1e-2 * slope / np.linalg.norm(slope)
    there, back = (float((gradient.forward(speech, theta + sign * step) * d).sum(dtype=np.float64)) for sign in (1, -1))
    assert (there - back) / 2 == pytest.approx(float(slope @ step), rel=0.02)


def test_starts_are_the_bundles(adaptable: Bundle) -> None:
    gradient = open_gradient(adaptable)
    assert adaptable.manifest.adaptation is not None
    assert gradient.layout_hash == adaptable.manifest.adaptation.layout.hash
    assert gradient.starts.shape == (4, gradient.size)
    assert gradient.starts.any(1).all()


def test_order_and_closing_are_explained(adaptable: Bundle, speech: np.ndarray) -> None:
    gradient = open_gradient(adaptable)
    with pytest.raises(BackendError, match="a forward pass before its gradient"):
        gradient.backward(np.zeros((1, 1), np.float32))
    answer = gradient.forward(speech, gradient.starts[0])
    with pytest.raises(BackendError, match="cannot run the gradient's second graph"):
        gradient.backward(answer[:-1])
    gradient.close()
    with pytest.raises(BackendError, match="these were closed"):
        gradient.forward(speech, gradient.starts[0])


def test_a_bundle_without_gradients_names_the_export(toy_bundle: Path, adaptable: Bundle) -> None:
    from edgekit.core.bundle import open_bundle

    with pytest.raises(BundleError) as caught:
        open_gradient(open_bundle(toy_bundle))
    assert caught.value.hint is not None
    assert caught.value.hint.endswith("--adapt")


def test_altered_starts_are_refused(adaptable: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.copytree(adaptable.path, tmp_path / "copy"))
    found = adaptable.manifest.adaptation
    assert found is not None
    assert found.starts is not None
    content = bytearray((path / found.starts.name).read_bytes())
    content[-1] ^= 1
    (path / found.starts.name).write_bytes(content)
    with pytest.raises(BundleError, match="was altered"):
        open_gradient(Bundle(path, adaptable.manifest))
    without = replace(adaptable.manifest, adaptation=replace(found, starts=None))
    assert open_gradient(Bundle(adaptable.path, without)).starts.shape == (0, found.layout.size)
