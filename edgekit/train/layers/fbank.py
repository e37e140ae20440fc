"""The device's log-mel filter bank (`edgekit.runtime.features.fbank`) for a batch, in torch.

B items, N samples, F frames, M mel bins; L samples per frame.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgekit.runtime.features.fbank import FbankConfig, mel_weights, povey_window
from edgekit.train.layers.masking import valid

# A block's frames stay in cache.
_FRAMES_PER_BLOCK = 512


class TorchFbank(nn.Module):
    """What `Fbank(config)` answers for each item alone, whatever stands in the padding.

    In float32, also under autocast; do not cast the module itself. No gradient reaches the waveform.

    Args:
        config: what to compute.

    Raises:
        ValueError: more mel bins than the transform can tell apart.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, config: FbankConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FbankConfig()
        # as on the device, without a frame's first sample, whose window is zero
        window = torch.from_numpy(povey_window(config.frame_length)[1:] * config.scale).float()
        # Nyquist's frequency has no weight
        mel = nn.functional.pad(torch.from_numpy(mel_weights(config)), (0, 0, 0, 1))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel", mel, persistent=False)

    def num_frames(self, lengths_B: Tensor) -> Tensor:
        """Frames of recordings of so many samples."""
        config = self.config
        if config.snip_edges:
            return ((lengths_B - config.frame_length) // config.frame_shift + 1).clamp(min=0)
        return (lengths_B + config.frame_shift // 2) // config.frame_shift

    def forward(self, wave_BN: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a batch.

        Args:
            wave_BN: in [-1, 1]; anything after each item's length.
            lengths_B: int64, samples, at most N.

        Returns:
            log_mel_BFM: float32, natural logarithms; zero after each item's frames.
            frame_lengths_B: int64.
        """
        config = self.config
        frame_lengths_B = self.num_frames(lengths_B)
        num_frames = config.num_frames(wave_BN.shape[1])
        log_mel_BFM = wave_BN.new_zeros((len(wave_BN), num_frames, config.num_mel_bins), dtype=torch.float32)
        if num_frames == 0:
            return log_mel_BFM, frame_lengths_B
        with torch.no_grad(), torch.autocast(wave_BN.device.type, enabled=False):
            wave_BN = wave_BN.float()
            if not config.snip_edges:
                wave_BN = self._mirrored(wave_BN, lengths_B, num_frames)
            frames_BFL = wave_BN.unfold(1, config.frame_length, config.frame_shift)
            if wave_BN.device.type != "cpu":
                inside_BF1 = valid(frame_lengths_B, num_frames)[:, :, None]
                return torch.where(inside_BF1, self._log_mel(frames_BFL), log_mel_BFM), frame_lengths_B
            for frames_FL, log_mel_FM, count in zip(frames_BFL, log_mel_BFM, frame_lengths_B.tolist()):
                for first in range(0, count, _FRAMES_PER_BLOCK):
                    block = slice(first, min(first + _FRAMES_PER_BLOCK, count))
                    log_mel_FM[block] = self._log_mel(frames_FL[block])
        return log_mel_BFM, frame_lengths_B

    def _log_mel(self, frames: Tensor) -> Tensor:
        """[..., L] to [..., M], in Kaldi's order: centre, pre-emphasise, window, transform."""
        config = self.config
        if config.remove_dc_offset:
            frames = frames - frames.mean(-1, keepdim=True)
        frames = torch.sub(frames[..., 1:], frames[..., :-1], alpha=config.preemphasis).mul_(self.window)
        spectrum = torch.fft.rfft(frames, n=config.num_fft)
        # abs().square() and a sum over both parts take three to five times as long on a CPU
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        log_mel: Tensor = (power @ self.mel).clamp_(min=config.energy_floor).log_()
        return log_mel

    def _mirrored(self, wave_BN: Tensor, lengths_B: Tensor, num_frames: int) -> Tensor:
        """All that the frames cover, from before the first sample on, mirrored at each item's own edges."""
        config = self.config
        start = config.frame_shift // 2 - config.frame_length // 2
        size = (num_frames - 1) * config.frame_shift + config.frame_length
        before = max(0, -start)
        lengths_B1 = lengths_B.clamp(min=1)[:, None]
        # no valid frame reaches further than this from either end
        first_E = torch.arange(-before, 0, device=wave_BN.device)
        last_E = torch.arange(config.frame_length, device=wave_BN.device)
        edges_BE = torch.cat((first_E.expand(len(wave_BN), -1), lengths_B1 + last_E), 1)
        source_BE = edges_BE % (2 * lengths_B1)
        source_BE = torch.minimum(source_BE, 2 * lengths_B1 - 1 - source_BE)
        padded_BN = nn.functional.pad(wave_BN, (before, config.frame_length))
        padded_BN.scatter_(1, edges_BE + before, wave_BN.gather(1, source_BE))
        return padded_BN.narrow(1, before + start, size)
