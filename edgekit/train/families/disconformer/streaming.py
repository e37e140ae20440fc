"""A DisConformer one chunk at a time: the answers of the whole recording under `chunk_mask`, its memory handed on.

Shapes: B batch, W log-mel frames of a chunk, M mel bins, C frames of the stream, D width, L blocks, V labels,
P frames remembered for attention, U = heads x head width, K = P + C, k taps, G channels of the convolution,
R = P + 2 C distances, S = 1 or B.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.train.families.disconformer.config import MAX_CHUNK, Config
from edgekit.train.families.disconformer.model import DisConformer
from edgekit.train.families.disconformer.personal import Groups
from edgekit.train.layers.conformer.positions import distance_table
from edgekit.train.layers.masking import attention_bias, valid


class Streaming(nn.Module):
    """A deployed model with its memory as inputs and outputs; a chunk is of any size up to `MAX_CHUNK` frames.

    An item may have fewer frames than its batch: it then goes on after them, as if it had been alone.

    Args:
        model: after `deploy`: one group of each kind.
    """

    def __init__(self, model: DisConformer, config: Config) -> None:
        super().__init__()
        assert model.head is not None
        self.encoder, self.head = model.encoder, model.head
        self.frames, self.left, self.taps = config.frames, config.left_frames, config.kernel - 1
        # what a distance is worth does not depend on what is said
        table_RD = distance_table(MAX_CHUNK, self.left + MAX_CHUNK, config.width, next(model.parameters()))
        with torch.no_grad():
            positions = [block.groups[0]["attention"].position(table_RD) for block in self._blocks()]
        self.register_buffer("positions_RLU", torch.stack(positions, 1))
        self.positions_RLU: Tensor
        self.personal = None if config.theta_layout is None else Groups(config)
        if self.personal is not None:
            self.register_buffer("table_RD", table_RD)
            self.table_RD: Tensor

    def _blocks(self) -> list[Any]:
        return list(self.encoder.blocks)

    def forward(
        self,
        x_BWM: Tensor,
        x_lens_B: Tensor,
        keys_values_BPL2U: Tensor,
        gated_BkLG: Tensor,
        processed_B: Tensor,
        theta_SP: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """
        Args:
            keys_values_BPL2U, gated_BkLG: what attention and convolution remember; zeros at the beginning. Where there
                is a theta, its units and channels are the last.
            processed_B: frames that came before, as far as they are remembered.
            theta_SP: where the config has a layout of it.

        Returns:
            Log-probabilities `[B, C, V]`, their lengths `[B]`, and the memory after this chunk.
        """
        lengths_B = self.frames.of_size(x_lens_B)
        x_BWM = torch.where(valid(x_lens_B, x_BWM.shape[1])[:, :, None], x_BWM, 0.0)
        h_BCD = self.encoder.subsampling(x_BWM)
        size = h_BCD.shape[1]
        valid_BC = valid(lengths_B, size)
        known_BP = torch.arange(self.left, device=h_BCD.device)[None, :] >= self.left - processed_B[:, None]
        bias = attention_bias(torch.cat((known_BP, valid_BC), 1), h_BCD.dtype)
        distance_R = torch.arange(self.left + 2 * size, device=h_BCD.device) + (MAX_CHUNK - size)
        positions_RLU = self.positions_RLU.index_select(0, distance_R)
        personal = None if self.personal is None or theta_SP is None else self.personal(theta_SP)
        keys_values, gated = [], []
        for index, block in enumerate(self._blocks()):
            groups = [(block.groups[0], positions_RLU[:, index])]
            if personal is not None:
                mine = personal[index]
                groups.append((mine, mine["attention"].position(self.table_RD.index_select(0, distance_R))))
            x_BCD = block.norms["feed_forward_1"](h_BCD)
            h_BCD = h_BCD + 0.5 * sum(group["feed_forward_1"](x_BCD) for group, _ in groups)
            x_BCD = block.norms["attention"](h_BCD)
            new = [torch.stack(group["attention"].remember(x_BCD), 2) for group, _ in groups]
            before = _split(keys_values_BPL2U[:, :, index], [part.shape[-1] for part in new])
            all_BK2U = [torch.cat(pair, 1) for pair in zip(before, new)]
            h_BCD = h_BCD + sum(
                group["attention"].attend(x_BCD, known[:, :, 0], known[:, :, 1], positions, bias)
                for (group, positions), known in zip(groups, all_BK2U)
            )
            x_BCD = block.norms["convolution"](h_BCD)
            before = _split(gated_BkLG[:, :, index], [group["convolution"].channels for group, _ in groups])
            answers = [
                group["convolution"](x_BCD, valid_BC[:, :, None], part.transpose(1, 2))
                for (group, _), part in zip(groups, before)
            ]
            h_BCD = h_BCD + sum(answer for answer, _ in answers)
            x_BCD = block.norms["feed_forward_2"](h_BCD)
            h_BCD = block.norms["out"](h_BCD + 0.5 * sum(group["feed_forward_2"](x_BCD) for group, _ in groups))
            keys_values.append(_joined(new))
            gated.append(_joined([new_BGC.transpose(1, 2) for _, new_BGC in answers]))
        log_probs_BCV = self.head(h_BCD).log_softmax(-1)
        return (
            log_probs_BCV,
            lengths_B,
            _last(torch.cat((keys_values_BPL2U, torch.stack(keys_values, 2)), 1), lengths_B, self.left),
            _last(torch.cat((gated_BkLG, torch.stack(gated, 2)), 1), lengths_B, self.taps),
            (processed_B + lengths_B).clamp(max=self.left),
        )


def _split(x: Tensor, sizes: list[int]) -> list[Tensor]:
    return list(torch.split(x, sizes, -1)) if len(sizes) > 1 else [x]


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts, -1) if len(parts) > 1 else parts[0]


def _last(frames_BT: Tensor, lengths_B: Tensor, count: int) -> Tensor:
    """Of each item's `count` remembered and then `lengths_B` new frames the last `count`; rows are copied whole."""
    batch, size = frames_BT.shape[:2]
    item_B = torch.arange(batch, device=frames_BT.device) * size
    index_Bn = (item_B + lengths_B)[:, None] + torch.arange(count, device=frames_BT.device)[None, :]
    rows = frames_BT.flatten(2).flatten(0, 1).index_select(0, index_Bn.flatten())
    return rows.view(batch, count, *frames_BT.shape[2:])
