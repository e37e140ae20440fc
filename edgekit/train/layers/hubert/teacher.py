"""A frozen HuBERT whose states others learn from, and the code vectors that turn them into soft labels.

Shapes: B batch, N samples, T frames, D width, E code width, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgekit.core.errors import CheckpointError
from edgekit.core.files import write_atomic
from edgekit.train.checkpoint import Checkpoint, open_checkpoint
from edgekit.train.layers.features import Waveform
from edgekit.train.layers.hubert.config import SAMPLE_RATE, HubertConfig
from edgekit.train.layers.hubert.encoder import HubertEncoder
from edgekit.train.layers.hubert.weights import load_weights

CODES_FILE = "codes.safetensors"


@dataclass(frozen=True)
class Codes:
    """Code vectors and the projection of a state to their space.

    Attributes:
        codes_KE: one vector per unit.
        projection_ED, bias_E: e = projection h + bias, from the teacher's last state h.
    """

    codes_KE: Tensor
    projection_ED: Tensor
    bias_E: Tensor

    def log_posteriors(self, h_BTD: Tensor, temperature: float) -> Tensor:
        """log softmax over k of cos(e, c_k) / temperature, `[B, T, K]`: HuBERT's output (Hsu et al. 2021, eq. 3)."""
        return self.log_posteriors_of_codes(h_BTD @ self.projection_ED.T + self.bias_E, temperature)

    def log_posteriors_of_codes(self, e_BTE: Tensor, temperature: float) -> Tensor:
        """The same from vectors `[B, T, E]` that are in the codes' space already."""
        with torch.autocast(e_BTE.device.type, enabled=False):  # a cosine of 8 bits, over 0.1, is off by 0.04
            codes_KE = nn.functional.normalize(self.codes_KE.float(), dim=-1)
            cosine_BTK = nn.functional.normalize(e_BTE.float(), dim=-1) @ codes_KE.T
            return (cosine_BTK / temperature).log_softmax(-1)

    def to(self, device: torch.device) -> Codes:
        return Codes(self.codes_KE.to(device), self.projection_ED.to(device), self.bias_E.to(device))

    def save(self, folder: Path) -> None:
        """Write `codes.safetensors`."""
        tensors = {"codes": self.codes_KE, "projection": self.projection_ED, "bias": self.bias_E}
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        write_atomic(folder / CODES_FILE, content)

    @classmethod
    def load(cls, folder: Path, width: int) -> Codes | None:
        """Read `codes.safetensors` of a folder, or None where there is none.

        Raises:
            CheckpointError: broken, or not made for states of this width.
        """
        path = folder / CODES_FILE
        if not path.is_file():
            return None
        try:
            tensors = load_file(path)
            codes = cls(tensors["codes"], tensors["projection"], tensors["bias"])
            fits = codes.projection_ED.shape == (codes.codes_KE.shape[1], width)
        except (SafetensorError, OSError, KeyError, IndexError) as error:
            raise CheckpointError(f"cannot read {path}: {error}", hint="remove it; it is made anew") from error
        if not fits or codes.bias_E.shape != codes.projection_ED.shape[:1]:
            raise CheckpointError(f"expected codes for states of {width} in {path}, it is made for others")
        return codes


class Teacher(nn.Module):
    """A HuBERT in evaluation mode, without gradients, in float32."""

    def __init__(self, encoder: HubertEncoder, config: HubertConfig, normalise: bool, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.encoder, self.config, self.checkpoint = encoder, config, checkpoint
        self.features = Waveform(normalise)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Teacher:
        """It stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def states(self, wave_BN: Tensor, lengths_B: Tensor, last: int | None = None) -> tuple[list[Tensor], Tensor]:
        """`num_hidden_layers + 1` states `[B, T, D]` (state 0: the input of the first layer) and frame lengths."""
        h_BTD, frames_B = self.encoder.features(*self.features(wave_BN, lengths_B))
        return self.encoder.encoder.states(h_BTD, frames_B, last), frames_B


def open_teacher(name: str | Path) -> Teacher:
    """Any `HubertModel` or `HubertForCTC` of `transformers`, from a folder or the hub.

    Raises:
        CheckpointError: not a HuBERT, one of another sample rate, or its tensors do not fit.
    """
    found = open_checkpoint(name)
    config = HubertConfig.from_transformers(found.config)
    # nothing is dropped: it does not learn
    config = replace(config, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    preprocessor = found.json("preprocessor_config.json") or {}
    if preprocessor.get("sampling_rate", SAMPLE_RATE) != SAMPLE_RATE:
        raise CheckpointError(
            f"expected a teacher of {SAMPLE_RATE} Hz, {found.source} is one of {preprocessor['sampling_rate']}"
        )
    encoder = HubertEncoder(config)
    body = {name: tensor for name, tensor in found.tensors().items() if not name.startswith("lm_head.")}
    load_weights(nn.ModuleDict({"hubert": encoder}), body, found.source)
    return Teacher(encoder, config, bool(preprocessor.get("do_normalize", True)), found)
