"""A DisConformer one chunk at a time: the answers of the whole recording under `chunk_mask`, its memory handed on.

Shapes: B batch, W log-mel frames of a chunk, M mel bins, C frames of the stream, D width, L blocks, V labels,
P frames remembered for attention, U = heads x head width, K = P + C, k taps, G channels of the convolution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgekit.train.families.disconformer.config import MAX_CHUNK, Config
from edgekit.train.families.disconformer.model import DisConformer
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
            positions = [group["attention"].position(table_RD) for group in self._groups()]
        self.register_buffer("positions_RLU", torch.stack(positions, 1))
        self.positions_RLU: Tensor

    def _groups(self) -> list[Any]:
        return [block.groups[0] for block in self.encoder.blocks]  # type: ignore[index]

    def forward(
        self, x_BWM: Tensor, x_lens_B: Tensor, keys_values_BPL2U: Tensor, gated_BkLG: Tensor, processed_B: Tensor
    ) -> tuple[Tensor, ...]:
        """
        Args:
            keys_values_BPL2U, gated_BkLG: what attention and convolution remember; zeros at the beginning.
            processed_B: frames that came before, as far as they are remembered.

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
        keys_values, gated = [], []
        for index, (block, group) in enumerate(zip(self.encoder.blocks, self._groups())):
            b: Any = block
            h_BCD = h_BCD + 0.5 * group["feed_forward_1"](b.norms["feed_forward_1"](h_BCD))
            x_BCD = b.norms["attention"](h_BCD)
            new_BC2U = torch.stack(group["attention"].remember(x_BCD), 2)
            all_BK2U = torch.cat((keys_values_BPL2U[:, :, index], new_BC2U), 1)
            h_BCD = h_BCD + group["attention"].attend(
                x_BCD, all_BK2U[:, :, 0], all_BK2U[:, :, 1], positions_RLU[:, index], bias
            )
            before_BGk = gated_BkLG[:, :, index].transpose(1, 2)
            x_BCD, new_BGC = group["convolution"](b.norms["convolution"](h_BCD), valid_BC[:, :, None], before_BGk)
            h_BCD = h_BCD + x_BCD
            h_BCD = b.norms["out"](h_BCD + 0.5 * group["feed_forward_2"](b.norms["feed_forward_2"](h_BCD)))
            keys_values.append(new_BC2U)
            gated.append(new_BGC.transpose(1, 2))
        log_probs_BCV = self.head(h_BCD).log_softmax(-1)
        return (
            log_probs_BCV,
            lengths_B,
            _last(torch.cat((keys_values_BPL2U, torch.stack(keys_values, 2)), 1), lengths_B, self.left),
            _last(torch.cat((gated_BkLG, torch.stack(gated, 2)), 1), lengths_B, self.taps),
            (processed_B + lengths_B).clamp(max=self.left),
        )


def _last(frames_BT: Tensor, lengths_B: Tensor, count: int) -> Tensor:
    """Of each item's `count` remembered and then `lengths_B` new frames the last `count`; rows are copied whole."""
    batch, size = frames_BT.shape[:2]
    item_B = torch.arange(batch, device=frames_BT.device) * size
    index_Bn = (item_B + lengths_B)[:, None] + torch.arange(count, device=frames_BT.device)[None, :]
    rows = frames_BT.flatten(2).flatten(0, 1).index_select(0, index_Bn.flatten())
    return rows.view(batch, count, *frames_BT.shape[2:])
