"""Precisions that a backend is said to run here, against sessions that are really opened in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.bundle import open_bundle
from edgekit.core.errors import EdgekitError
from edgekit.export.build import Request, build
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.precisions import PRECISIONS, probe_precisions
from edgekit.runtime.session import BACKENDS, backend_module, open_session

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")
pytest.importorskip("openvino", reason="needs OpenVINO: pip install openvino")


def test_every_backend_and_format_is_told_of_in_every_precision() -> None:
    told = [(ability.backend, ability.format) for ability in probe_precisions() if ability.precision == "fp32"]
    assert set(told) == {(backend, format) for backend in BACKENDS for format in backend_module(backend).FORMATS}
    for ability in probe_precisions():
        assert ability.precision in PRECISIONS
        assert ability.usable == (ability.missing is None) == (ability.remedy is None)
        assert ability.usable or ability.computed_in is None


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_usable_opens_and_what_is_not_does_not(toy_bundle: Path, precision: str) -> None:
    build(toy_bundle, Request("openvino"))
    if precision != "fp32":
        build(toy_bundle, Request("onnx", precision))
    bundle = open_bundle(toy_bundle)
    told = {(each.backend, each.device): each for each in probe_precisions() if each.precision == precision}
    for backend in ("onnxruntime", "openvino"):
        ability = told[backend, "cpu"]
        options = SessionOptions(device="cpu", precision=precision)
        if not ability.usable:
            with pytest.raises(EdgekitError):
                open_session(bundle, backend=backend, options=options)
            continue
        session = open_session(bundle, backend=backend, options=options)
        assert session.computed_in == (ability.computed_in or precision)
        session.close()
