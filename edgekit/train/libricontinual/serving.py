"""A torch module in the place of a bundle's graph: the bundle's features and decoder, and what the module answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from edgekit.core.bundle import Bundle
from edgekit.core.signature import Signature
from edgekit.runtime.backends.base import SessionOptions
from edgekit.runtime.session import CheckedSession
from edgekit.runtime.tasks.speech_recognition import SpeechRecognition


class ModuleSession:
    """A session of torch on the CPU.

    Args:
        module: in evaluation mode; takes the signature's inputs in order, but for those of weights.
        signature: of the graph that it stands for.
    """

    backend, device, precision, computed_in = "torch", "cpu", "fp32", "fp32"

    def __init__(self, module: nn.Module, signature: Signature) -> None:
        self._module, self.signature = module, signature

    @torch.no_grad()
    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name; nobody's weights are read, since the module has its own."""
        given = [torch.from_numpy(inputs[spec.name]) for spec in self.signature.inputs if not spec.weights]
        return {spec.name: answer.numpy() for spec, answer in zip(self.signature.outputs, self._module(*given))}

    def close(self) -> None:
        """Nothing is held."""


def recogniser_of(bundle: Bundle, module: nn.Module) -> SpeechRecognition:
    """A recogniser that hears and spells as `bundle` does, with the answers of `module`."""
    session = CheckedSession(ModuleSession(module, bundle.graph().signature))
    return SpeechRecognition(bundle, None, SessionOptions(), session=session)
