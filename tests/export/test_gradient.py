"""Gradient graphs: gates that are passed, gates that fail for wrong ones, and operators that are named."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgekit.core.bundle import Bundle
from edgekit.core.bundle_writer import writing
from edgekit.core.errors import EdgekitError, ExportError, UsageError, VerificationError
from edgekit.core.settings import apply_settings
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.core.theta import ThetaLayout
from edgekit.export import adaptation, gradient
from edgekit.export.export import ExportRequest, export
from edgekit.train.family import LoadedModel, Tunable, find_family

TIME = Dim("time", ((8, 40, 400),))


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    family = find_family("disconformer")
    config = apply_settings(family.variants["t"], [*family.small, *family.adapted])
    return family.model.random_model(config, "ctc", 0)


def test_a_bundle_says_how_its_gradients_were_held_to_torch(adaptable: Bundle) -> None:
    found = adaptable.manifest.adaptation
    assert found is not None
    assert found.checked["gates"] == "full"
    assert 0 < found.checked["max_relative_error"] <= adaptation.ATOL
    assert 0 < found.checked["max_relative_loss_difference"] <= adaptation.LOSS_RTOL
    assert found.checked["lengths"] == list(adaptation.FULL)
    for file in found.files:
        adaptable.checked(file)
    weights = found.gradient[2]
    core_bytes = sum(parameter.numel() for parameter in _core(adaptable)) * 4
    # the core once, each weight on pages of its own, and not twice for two graphs
    assert core_bytes < weights.num_bytes < core_bytes + 4096 * 150


def _core(bundle: Bundle) -> list[torch.Tensor]:
    family = find_family("disconformer")
    module = family.model.build(apply_settings(family.variants["t"], family.small), "ctc")
    return list(module.deploy().parameters())  # type: ignore[attr-defined]


def test_gates_refuse_gradients_that_are_a_little_wrong(adaptable: Bundle, model: LoadedModel, tmp_path: Path) -> None:
    bundle = Bundle(Path(shutil.copytree(adaptable.path, tmp_path / "wrong")), adaptable.manifest)
    found = bundle.manifest.adaptation
    assert found is not None
    forward, backward, weights = found.gradient
    graph = onnx.load(bundle.path / backward.name, load_external_data=False)
    output = graph.graph.output[0].name
    last = next(node for node in graph.graph.node if output in node.output)
    last.output[list(last.output).index(output)] = "right"
    graph.graph.initializer.append(numpy_helper.from_array(np.float32([1 + 1e-4]), "factor"))
    graph.graph.node.append(onnx.helper.make_node("Mul", ["right", "factor"], [output]))
    with writing(bundle.path) as writer:
        onnx.save(graph, tmp_path / "wrong.onnx")
        file = writer.add(tmp_path / "wrong.onnx", "adapt-backward")
        changed = replace(found, gradient=(forward, file, weights))
        altered = writer.commit(replace(bundle.manifest, adaptation=changed))
    signature = next(iter(bundle.manifest.graphs.values())).signature
    with pytest.raises(VerificationError, match="expected gradients within 1e-05"):
        adaptation.check_gradient(altered, model, signature)


class _Linear(nn.Module):
    """A model of one layer, with one operation before it that theta's gradient passes."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: torch.Tensor, x_lens: torch.Tensor, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.operation(x @ theta.view(1, 4, 4))
        return h.log_softmax(-1), x_lens - 0


def _signature() -> Signature:
    batch, speakers = Dim("batch", ((1, 1, 4),)), Dim("speakers", ((1, 1, 4),))
    inputs = (
        TensorSpec("x", "float32", (batch, TIME, 4)),
        TensorSpec("x_lens", "int64", (batch,), lengths_of=TIME),
        TensorSpec("theta", "float32", (speakers, 16), weights=True),
    )
    frames = Derived("time", 0, 1, 0)
    outputs = (
        TensorSpec("log_probs", "float32", (batch, frames, 4)),
        TensorSpec("log_probs_lens", "int64", (batch,), lengths_of=frames),
    )
    return Signature(inputs, outputs)


def test_an_operator_without_a_gradient_in_onnx_is_named(tmp_path: Path) -> None:
    def attention(h: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(h[:, None], h[:, None], h[:, None])[:, 0]

    with pytest.raises(ExportError, match=r"scaled_dot_product.*backward.*which ONNX lacks"):
        gradient.export_gradient(_Linear(attention), _signature(), tmp_path / "joint.onnx")


def test_a_convolution_whose_gradient_is_not_ours_is_refused(tmp_path: Path) -> None:
    convolution = nn.Conv1d(4, 4, 3, padding=1)

    with pytest.raises(ExportError, match=r"depthwise convolutions of stride 1.*received one of"):
        gradient.export_gradient(
            _Linear(lambda h: convolution(h.transpose(1, 2)).transpose(1, 2)), _signature(), tmp_path / "joint.onnx"
        )


def test_a_pad_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    padded = _Linear(lambda h: nn.functional.pad(h, (0, 0, 1, 0))[:, 1:])
    with pytest.raises(ExportError, match="cannot trace the gradient of _Linear"):
        gradient.export_gradient(padded, _signature(), tmp_path / "joint.onnx")


def test_a_length_that_tracing_fixed_is_noticed() -> None:
    inputs = (torch.zeros(1, 40, 4), torch.tensor([40]), torch.zeros(1, 16), torch.zeros(1, 40, 4))
    program = torch.export.export(gradient._Product(_Linear(lambda h: h)), inputs)
    with pytest.raises(ExportError, match=r"expected x: .*tracing fixed axis 1"):
        gradient._require_dynamic(program, _signature())


def test_another_torch_is_refused_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    with pytest.raises(ExportError, match=r"expected torch 2\.13.*received 2\.6\.0") as caught:
        gradient.require_torch()
    assert caught.value.hint == 'pip install "torch==2.13.*"'


def test_a_family_that_names_nothing_to_tune_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(disconformer\), received hubert-student"):
        export(ExportRequest("hubert-student", adapt=True), tmp_path / "bundle")


def test_a_theta_of_which_nothing_was_trained_has_no_starts(tmp_path: Path) -> None:
    layout = ThetaLayout.of([("w", (2, 3))])
    with writing(tmp_path / "bundle") as writer:
        empty = adaptation.write_starts(Tunable(layout, np.zeros((0, 6), np.float32)), writer)
        some = adaptation.write_starts(Tunable(layout, np.ones((2, 6), np.float32)), writer)
    assert empty.starts is None
    assert some.starts is not None


def test_a_full_disk_is_explained(model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(adaptation, "export_gradient", full)
    signature = next(iter(model.config.graphs("ctc").values()))
    with writing(tmp_path / "bundle") as writer, pytest.raises(EdgekitError, match=r"cannot write.*No space left"):
        adaptation.write_gradient(model, signature, writer)
