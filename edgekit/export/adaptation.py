"""What a bundle needs to be adapted on a device: starting points, gradient graphs, and the gates that these pass."""

from __future__ import annotations

import copy
from datetime import datetime, timezone
from typing import Any

import numpy as np
import onnx
import safetensors.numpy
import torch

from edgekit.core.bundle import Adaptation, Bundle, StoredFile
from edgekit.core.bundle_writer import BundleWriter
from edgekit.core.errors import ExportError, VerificationError
from edgekit.core.files import explained
from edgekit.core.signature import Signature
from edgekit.core.theta import INPUT
from edgekit.export.cut import cut, refer_to, share_weights
from edgekit.export.gradient import GRADIENT, export_gradient
from edgekit.runtime.adapt.adamw import AdamW
from edgekit.runtime.adapt.ctc import ctc_loss
from edgekit.runtime.adapt.gradient import GradientGraphs, open_gradient
from edgekit.train.family import LoadedModel, Tunable

ATOL = 1e-5
"""The largest error of a gradient, as a share of its largest value, against float64."""

LOSS_RTOL = 1e-4
"""The largest relative difference of a loss on the way of learning, against torch."""

FAST, FULL = (41, 97, 260, 533), (8, 41, 97, 200, 260, 533, 801, 1203)
"""Log-mel frames at which gradients are held to torch's; none is the length at which they were traced."""

_STEPS = 20


def write_starts(tunable: Tunable, writer: BundleWriter) -> Adaptation:
    """Theta's layout and starting points alone: the bundle takes what was learned elsewhere."""
    content = safetensors.numpy.save({INPUT: tunable.starts})
    starts = writer.add_bytes(content, "starts", ".safetensors") if len(tunable.starts) else None
    return Adaptation(tunable.layout, starts)


def write_gradient(model: LoadedModel, signature: Signature, writer: BundleWriter) -> tuple[StoredFile, ...]:
    """The two graphs and the weights that both read.

    Raises:
        ExportError: an operator without a gradient in ONNX, or another torch than was tried.
    """
    if model.head != "ctc":
        raise ExportError(f"expected a model that answers with labels (ctc), received the head {model.head}")
    with writer.staging() as folder, explained(folder):
        export_gradient(model.module, signature, folder / "joint.onnx")
        halves = cut(onnx.load(folder / "joint.onnx"), GRADIENT)
        models = share_weights([halves.forward, halves.backward], folder / "weights.bin")
        weights = writer.add(folder / "weights.bin", "adapt-weights")
        files = []
        for name, part in zip(("forward", "backward"), models):
            onnx.save(refer_to(part, weights.name), folder / "part.onnx")
            files.append(writer.add(folder / "part.onnx", f"adapt-{name}"))
    return (*files, weights)


def check_gradient(bundle: Bundle, model: LoadedModel, signature: Signature, *, full: bool = False) -> dict[str, Any]:
    """Hold a bundle's gradient graphs to torch; return what was found, for the manifest.

    Gradients of noise at lengths other than the traced one, against float64; with `full` at more of them, and a way of
    20 updates by CTC, whose losses are held to torch's.

    Raises:
        VerificationError: a gate was not passed.
    """
    gradient = open_gradient(bundle)
    try:
        lengths = [size for size in (FULL if full else FAST) if size >= signature.dims["time"].min]
        errors = _gradient_errors(gradient, model, lengths)
        worst = max(errors.values())
        if not worst <= ATOL:
            raise VerificationError(f"expected gradients within {ATOL:g} of float64's, received errors of {errors}")
        found: dict[str, Any] = {
            "gates": "full" if full else "fast",
            "backend": "onnxruntime on cpu",
            "atol": ATOL,
            "lengths": lengths,
            "max_relative_error": worst,
        }
        if full:
            mine, theirs = _losses(gradient, model)
            differing = float(np.max(np.abs(mine - theirs) / np.abs(theirs)))
            if not differing <= LOSS_RTOL:
                raise VerificationError(
                    f"expected the losses of {_STEPS} updates within {LOSS_RTOL:g} of torch's, received {differing:.2g}"
                )
            found |= {"updates": _STEPS, "loss_rtol": LOSS_RTOL, "max_relative_loss_difference": differing}
    finally:
        gradient.close()
    return {**found, "torch": torch.__version__, "date": datetime.now(timezone.utc).date().isoformat()}


def _gradient_errors(gradient: GradientGraphs, model: LoadedModel, lengths: list[int]) -> dict[int, float]:
    """By length, the largest error as a share of the gradient's largest value."""
    random = np.random.default_rng(0)
    module = copy.deepcopy(model.module).double()
    errors = {}
    for size in lengths:
        x_FM, theta_P = _noise(random, model, gradient.size, size)
        answer_TV = gradient.forward(x_FM, theta_P)
        d_TV = random.standard_normal(answer_TV.shape).astype(np.float32)
        received_P = gradient.backward(d_TV)
        theta = torch.from_numpy(theta_P).double()[None].requires_grad_(True)
        log_probs, _ = module(torch.from_numpy(x_FM).double()[None], torch.tensor([size]), theta)
        product = (log_probs * torch.from_numpy(d_TV).double()).sum()
        expected_P = torch.autograd.grad(product, theta)[0][0].numpy()
        errors[size] = float(np.abs(received_P - expected_P).max() / np.abs(expected_P).max())
    return errors


def _losses(gradient: GradientGraphs, model: LoadedModel) -> tuple[np.ndarray, np.ndarray]:
    """The losses of the same updates here and in torch, from the same beginning and on the same noise."""
    random = np.random.default_rng(1)
    theta_P = _noise(random, model, gradient.size, 8)[1]
    utterances = []
    for size in (160, 233, 310, 477):
        x_FM = _noise(random, model, gradient.size, size)[0]
        utterances.append((x_FM, random.integers(1, len(model.tokens), size // 25)))
    mine, theirs, blank = list[float](), list[float](), int(model.output["blank"])
    here, (first_P, second_P) = theta_P.copy(), np.zeros((2, gradient.size), np.float32)
    ours = AdamW(first_P, second_P, 0.0)
    there = torch.from_numpy(theta_P.copy())[None].requires_grad_(True)
    other = torch.optim.AdamW([there], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    for step in range(_STEPS):
        x_FM, labels_L = utterances[step % len(utterances)]
        loss, d_TV = ctc_loss(gradient.forward(x_FM, here), labels_L.tolist(), blank)
        mine.append(loss)
        ours.update(here, gradient.backward(d_TV), 1e-3, step + 1)
        log_probs, lengths = model.module(torch.from_numpy(x_FM)[None], torch.tensor([len(x_FM)]), there)
        value = torch.nn.functional.ctc_loss(
            log_probs[0],
            torch.from_numpy(labels_L),
            lengths[0],
            torch.tensor(len(labels_L)),
            blank=blank,
            reduction="sum",
        )
        (there.grad,) = torch.autograd.grad(value, there)
        other.step()
        theirs.append(float(value.detach()))
    return np.array(mine), np.array(theirs)


def _noise(
    random: np.random.Generator, model: LoadedModel, size: int, frames: int
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Features `[F, M]`, and a theta `[P]` of the size of a trained one."""
    bins = next(iter(model.config.graphs(model.head).values())).inputs[0].shape[-1]
    x_FM = random.standard_normal((frames, bins)).astype(np.float32)  # type: ignore[arg-type]
    return x_FM, (0.1 * random.standard_normal(size)).astype(np.float32)
