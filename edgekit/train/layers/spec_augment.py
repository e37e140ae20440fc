"""Masks over time and frequency: SpecAugment's bands and the spans of wav2vec 2.0 and HuBERT.

B items, F frames, M mel bins, T frames of whatever is masked. Random numbers come from torch's CPU generator, the
same on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.train.layers.masking import valid


class SpecAugment(nn.Module):
    """Bands of frequency and of time replaced by `fill`, in training mode only (Park et al. 2019, arXiv 1904.08779).

    Without time warping, which that paper found to matter least. Each band's width is uniform from 0 to its most, and
    so is its place among those where it fits into the item's own frames; bands may overlap. The defaults are the
    paper's policy LD.

    Args:
        num_freq: bands of frequency.
        freq_width: the most bins of one.
        num_time: bands of time.
        time_width: the most frames of one.
        time_share: the most of an item's frames that one may take (the paper's p), 0..1.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        num_freq: int = 2,
        freq_width: int = 27,
        num_time: int = 2,
        time_width: int = 100,
        time_share: float = 1.0,
    ) -> None:
        super().__init__()
        if min(num_freq, freq_width, num_time, time_width) < 0 or not 0 <= time_share <= 1:
            raise ValueError(
                f"expected counts and widths of 0 or more and time_share in 0..1, received {num_freq}, {freq_width}, "
                f"{num_time}, {time_width} and {time_share}"
            )
        self.num_freq, self.freq_width = num_freq, freq_width
        self.num_time, self.time_width, self.time_share = num_time, time_width, time_share

    def forward(self, log_mel_BFM: Tensor, lengths_B: Tensor, fill: Tensor | float = 0.0) -> Tensor:
        """Mask each item's valid frames.

        Args:
            log_mel_BFM: features.
            lengths_B: valid frames; those after them are left as they are.
            fill: the value of masked bins: one, or one per bin [M]; the features' mean over the training data.

        Returns:
            A new [B, F, M], or `log_mel_BFM` itself in evaluation mode.
        """
        if not self.training:
            return log_mel_BFM
        _, num_frames, num_bins = log_mel_BFM.shape
        widest_B = (lengths_B * self.time_share).long().clamp(max=self.time_width)
        time_BF = _bands(lengths_B, num_frames, widest_B, self.num_time)
        bins_B = torch.full_like(lengths_B, num_bins)
        freq_BM = _bands(bins_B, num_bins, bins_B.clamp(max=self.freq_width), self.num_freq)
        masked_BFM = (time_BF[:, :, None] | freq_BM[:, None, :]) & valid(lengths_B, num_frames)[:, :, None]
        return torch.where(masked_BFM, torch.as_tensor(fill).to(log_mel_BFM), log_mel_BFM)


def span_mask(
    lengths_B: Tensor,
    size: int,
    probability: float,
    span: int,
    *,
    min_spans: int = 0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Spans of `span` frames that start anywhere where they fit into an item, for masked prediction.

    An item of n frames gets `probability n / span` spans, rounded up or down at random so that the mean is right; their
    starts are drawn without replacement and the spans may overlap, so that less than `probability` of the frames is
    masked. As fairseq's `compute_mask_indices` with "static" lengths (wav2vec 2.0, Baevski et al. 2020, section 3.1:
    probability 0.65, span 10; HuBERT: 0.8), but a span may reach an item's last frame, items need not have equally many
    masked frames, and an item shorter than one span has none.

    Args:
        lengths_B: valid frames of each item, at most `size`.
        size: T.
        probability: 0..1.
        span: frames, 1 or more.
        min_spans: the fewest spans of an item that has room for them.
        generator: of the CPU; None: torch's global one.

    Returns:
        bool [B, T] on the device of `lengths_B`, true where masked; never beyond an item's own frames.

    Raises:
        ValueError: an argument out of range.
    """
    if not 0 <= probability <= 1 or span < 1 or min_spans < 0:
        raise ValueError(
            f"expected probability in 0..1, span >= 1 and min_spans >= 0, received {probability}, {span}, {min_spans}"
        )
    # both are drawn on the CPU, whatever the lengths are, so that the masks after these stay the same
    rounding_B = torch.rand(len(lengths_B), generator=generator).to(lengths_B.device)
    order_BT = torch.rand(len(lengths_B), size, generator=generator).to(lengths_B.device)
    places_B = (lengths_B - span + 1).clamp(min=0)
    wanted_B = (probability / span * lengths_B + rounding_B).long().clamp(min=min_spans)
    num_spans_B = torch.minimum(wanted_B, places_B)
    # the places of the lowest numbers among those where a span fits
    order_BT = torch.where(valid(places_B, size), order_BT, 2.0)
    starts_BT = order_BT.argsort(1).argsort(1) < num_spans_B[:, None]
    begun_BT = starts_BT.long().cumsum(1)
    ended_BT = nn.functional.pad(begun_BT, (span, 0))[:, :size]
    return begun_BT > ended_BT


def _bands(lengths_B: Tensor, size: int, widest_B: Tensor, count: int) -> Tensor:
    """bool [B, size], true inside any of `count` bands of 0 ... widest_B within lengths_B."""
    where_2BN = torch.rand(2, len(lengths_B), count).to(lengths_B.device)
    width_BN = (where_2BN[0] * (widest_B[:, None] + 1)).long()
    start_BN = (where_2BN[1] * (lengths_B[:, None] - width_BN + 1)).long()
    at = torch.arange(size, device=lengths_B.device)[None, None, :]
    inside_BNS = (at >= start_BN[:, :, None]) & (at < (start_BN + width_BN)[:, :, None])
    return inside_BNS.any(1)
