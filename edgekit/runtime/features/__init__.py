"""From a recording to a graph's input, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.core.errors import AudioError, BundleError, SettingsError
from edgekit.core.settings import settings_from_dict
from edgekit.runtime.features.audio import MAX_RATE, MIN_RATE, normalise
from edgekit.runtime.features.fbank import Fbank, FbankConfig

Float32 = npt.NDArray[np.float32]

KINDS = ("kaldi-fbank", "waveform")
_UPGRADE = "the bundle may be from a newer edgekit: pip install --upgrade edgekit"


@dataclass(frozen=True)
class Features:
    """How a waveform becomes a graph's input.

    Attributes:
        sample_rate: of the waveform, Hz.
        min_samples: the shortest waveform, in samples.
        samples_per_step: by how many samples the input grows by one step of time.
        prepare: what is done once to a whole recording, float32 [n] to float32 [n], before it is cut into windows.
        compute: a prepared float32 [n] to the input of one item, without its batch axis.

    Raises:
        ValueError: a sample rate that no recording has, or no fewest samples.
    """

    sample_rate: int
    min_samples: int
    samples_per_step: int
    prepare: Callable[[Float32], Float32]
    compute: Callable[[Float32], Float32]

    def __post_init__(self) -> None:
        if not isinstance(self.sample_rate, int) or not MIN_RATE <= self.sample_rate <= MAX_RATE:
            raise ValueError(f"sample_rate is a whole number in {MIN_RATE}..{MAX_RATE} Hz, not {self.sample_rate!r}")
        if not isinstance(self.min_samples, int) or self.min_samples < 1:
            raise ValueError(f"min_samples is a whole number of 1 or more, not {self.min_samples!r}")

    def __call__(self, waveform: Float32) -> Float32:
        """The input for one recording: float32 [T, bins] (filter bank) or [n] (waveform).

        Raises:
            AudioError: not float32 [n], or shorter than `min_samples`.
        """
        if waveform.ndim != 1 or waveform.dtype != np.float32:
            raise AudioError(
                f"expected a waveform float32[n], received {waveform.dtype}{list(waveform.shape)}",
                hint="edgekit.runtime.features.audio.as_waveform makes one",
            )
        if len(waveform) < self.min_samples:
            raise AudioError(
                f"expected at least {self.min_samples} samples ({self.min_samples / self.sample_rate:.3f} s at "
                f"{self.sample_rate} Hz), received {len(waveform)}",
                hint="leave out recordings this short",
            )
        return self.compute(self.prepare(waveform))


def open_features(description: Mapping[str, Any]) -> Features:
    """The features that a manifest describes.

    Args:
        description: `{"kind": "kaldi-fbank", ...}` with fields of `FbankConfig`, or `{"kind": "waveform",
            "sample_rate": 16000, "normalise": bool}`; either may have `min_samples`, which defaults to one frame (of a
            waveform: 400 samples, the first frame of HuBERT's convolutions).

    Raises:
        BundleError: an unknown kind or field, or a value that does not fit.
    """
    settings = dict(description)
    kind = settings.pop("kind", None)
    min_samples = settings.pop("min_samples", None)
    if kind not in KINDS:
        hint = "this bundle takes pictures: edgekit classify" if kind == "image" else _UPGRADE
        raise BundleError(f"expected features of kind {' or '.join(KINDS)}, received {kind!r}", hint=hint)
    known = ["sample_rate", "normalise"] if kind == "waveform" else [field.name for field in fields(FbankConfig)]
    if unknown := sorted(settings.keys() - set(known)):
        raise BundleError(f"expected {kind} features of {known}, received also {unknown}", hint=_UPGRADE)
    try:
        if kind == "waveform":
            prepare = normalise if settings["normalise"] else np.asarray
            return Features(settings["sample_rate"], min_samples or 400, 1, prepare, np.asarray)
        config = settings_from_dict(FbankConfig, settings)
        shortest = min_samples or config.min_samples
        return Features(config.sample_rate, shortest, config.frame_shift, np.asarray, Fbank(config))
    except KeyError as error:
        raise BundleError(f"expected {kind} features of {known}, received none of {error}") from error
    except (ValueError, OverflowError, SettingsError) as error:
        raise BundleError(f"expected {kind} features that fit together, received {settings}: {error}") from error
