"""A torch module as a model that learns: theta is the difference between its tuned values and where they began.

So weight decay leads back to the start, and the runtime's loop learns this as it learns an augment net's weights.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgekit.core.errors import BackendError
from edgekit.train.libricontinual.choice import Choice


class ModuleGradient:
    """`edgekit.runtime.adapt.differentiable.Gradient` of a module, with torch's own derivative.

    Values that are not chosen are never written. Dropout is off, as it is in a bundle's gradient graphs.

    Args:
        module: takes log-mel frames `[B, F, M]` and lengths `[B]`, gives log-probabilities `[B, T, V]` and theirs. It
            is changed: it answers with the theta that was used last.
        choice: what of it is tuned.

    Attributes:
        size: P.
        layout_hash: SHA-256 of which value is what.
        starts: float32 `[0, P]`: learning begins at zeros, which is the module as it is.
    """

    def __init__(self, module: nn.Module, choice: Choice) -> None:
        self._module = module.eval().requires_grad_(False)
        parameters = dict(module.named_parameters())
        self._tuned = [parameters[each.parameter].requires_grad_(True) for each in choice.values]
        self._where = [each.where for each in choice.values]
        self._begun = [tuned.detach()[where].clone() for tuned, where in zip(self._tuned, self._where)]
        self._sizes = [begun.numel() for begun in self._begun]
        self._answer: Tensor | None = None
        self.size = sum(self._sizes)
        listed: list[Any] = [[each.parameter, each.axis, each.units] for each in choice.values]
        listed += [list(begun.shape) for begun in self._begun]
        self.layout_hash = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        self.starts = np.zeros((0, self.size), np.float32)

    def forward(self, features_FM: np.ndarray, theta_P: np.ndarray) -> np.ndarray:
        """Log-probabilities float32 `[T, V]` of one utterance; its autograd graph is kept until the next one."""
        self._answer = None  # before the next graph is made, or both would be in memory
        self.use(theta_P)
        x_BFM = torch.from_numpy(np.ascontiguousarray(features_FM[None], np.float32))
        log_probs_BTV, _ = self._module(x_BFM, torch.tensor([len(features_FM)]))
        self._answer = log_probs_BTV[0]
        answer: np.ndarray = self._answer.detach().numpy()
        return answer

    def backward(self, d_log_probs_TV: np.ndarray) -> np.ndarray:
        """The gradient float32 `[P]` by theta of the sum of `log_probs * d_log_probs`, of the last `forward`.

        Raises:
            BackendError: there was none.
        """
        if self._answer is None:
            raise BackendError("expected a forward pass before its gradient")
        answer, self._answer = self._answer, None
        found = torch.autograd.grad(answer, self._tuned, torch.from_numpy(d_log_probs_TV))
        gradient: np.ndarray = torch.cat([each[where].flatten() for each, where in zip(found, self._where)]).numpy()
        return gradient

    @torch.no_grad()
    def use(self, theta_P: np.ndarray) -> None:
        """Let the module answer with `theta_P`, float32 `[P]`; zeros are the values that it began with."""
        parts = torch.split(torch.from_numpy(theta_P), self._sizes)
        for tuned, where, begun, part in zip(self._tuned, self._where, self._begun, parts):
            tuned[where] = begun + part.view_as(begun)

    def close(self) -> None:
        """Let go of the graph; the module stays as it is."""
        self._answer = None
