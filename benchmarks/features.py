"""The filter bank against kaldi_native_fbank: CPU time of one recording, one thread, taken in turns.

    python benchmarks/features.py [--seconds 10] [--repeats 200] [--json FILE]

kaldi_native_fbank has no bulk access: features come out one frame at a time, by `get_frame`. Of the ways to pass
samples in, a memoryview is its fastest (a list takes a third longer, an array half as long again), and is used here.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kaldi_native_fbank  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from shared.interval import median_interval
from shared.record import describe, load, record, write_result

from edgekit.runtime.features.audio import Float32, load_audio
from edgekit.runtime.features.fbank import Fbank, FbankConfig
from edgekit.runtime.samples import sample_clips

Compute = Callable[[Float32], Float32]
Floats = npt.NDArray[np.float64]


def kaldi(config: FbankConfig) -> Compute:
    """The reference with the same configuration, at its best setting."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.samp_freq = config.sample_rate
    options.mel_opts.num_bins = config.num_mel_bins

    def compute(waveform: Float32) -> Float32:
        online = kaldi_native_fbank.OnlineFbank(options)
        online.accept_waveform(config.sample_rate, (waveform * np.float32(config.scale)).data)
        online.input_finished()
        features = np.empty((online.num_frames_ready, config.num_mel_bins), np.float32)
        for frame in range(len(features)):
            features[frame] = online.get_frame(frame)
        return features

    return compute


def take_turns(contenders: dict[str, Compute], waveform: Float32, num_repeats: int) -> dict[str, Floats]:
    """CPU milliseconds [num_repeats] of each, A B A B."""
    times_ms = {name: np.empty(num_repeats) for name in contenders}
    for compute in contenders.values():
        compute(waveform)
    for repeat in range(num_repeats):
        for name, compute in contenders.items():
            start = time.process_time_ns()
            compute(waveform)
            times_ms[name][repeat] = (time.process_time_ns() - start) / 1e6
    return times_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--json", type=Path, help="also write the result here")
    arguments = parser.parse_args()

    result = record("features", ("numpy", "kaldi-native-fbank"))
    config = FbankConfig()
    waveform = np.resize(
        np.concatenate([load_audio(clip) for clip in sample_clips()]), int(arguments.seconds * config.sample_rate)
    )
    contenders: dict[str, Compute] = {"edgekit": Fbank(config), "kaldi_native_fbank": kaldi(config)}
    expected = contenders["kaldi_native_fbank"](waveform)
    times_ms = take_turns(contenders, waveform, arguments.repeats)

    rows: list[dict[str, Any]] = []
    for name, compute in contenders.items():
        ratio = median_interval(times_ms[name] / times_ms["edgekit"])
        p50, p90, p99 = np.percentile(times_ms[name], [50, 90, 99])
        rows.append(
            {
                "name": name,
                "cpu_p50_ms": round(p50, 3),
                "cpu_p90_ms": round(p90, 3),
                "cpu_p99_ms": round(p99, 3),
                "times_edgekit": round(ratio.median, 2),
                "interval_95": [round(ratio.low, 2), round(ratio.high, 2)],
                "mean_abs_difference": float(np.abs(compute(waveform) - expected).mean()),
            }
        )
    result |= {
        "load_after": load(),
        "seconds_of_audio": arguments.seconds,
        "repeats": arguments.repeats,
        "threads": 1,
        "rows": rows,
        "raw_cpu_ms": {name: [round(value, 4) for value in values] for name, values in times_ms.items()},
    }
    print(f"{arguments.seconds:g} s of speech, 80 bins, one thread; {describe(result)}")
    print(f"{'':20}{'CPU p50':>10}{'p90':>10}{'p99':>10}   {'x edgekit (95 %)':<22}{'mean |difference|'}")
    for row in rows:
        low, high = row["interval_95"]
        print(
            f"{row['name']:20}{row['cpu_p50_ms']:>7.2f} ms{row['cpu_p90_ms']:>7.2f} ms{row['cpu_p99_ms']:>7.2f} ms   "
            f"{row['times_edgekit']:.2f} ({low:.2f} to {high:.2f})".ljust(74)
            + f"{row['mean_abs_difference']:.1e}"
        )
    print(json.dumps(result))
    if arguments.json:
        write_result(arguments.json, result)


if __name__ == "__main__":
    main()
