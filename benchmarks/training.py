"""How fast the training loop is: against a bare PyTorch loop on the same batch, and whether reading keeps up with it.

    python benchmarks/training.py [--data CORPUS] [--rounds 12] [--threads 2] [--out FILE.json]

The default student (deep-thin-fbank, at full size) learns CTC from one batch of 8 x 6 s. In each round both loops do
the same number of steps in turn: forward, backward, clipping, AdamW. Ours adds what a run needs: seeding each batch,
losses kept for the log, the schedule, the check for gradients that are not finite, and Fabric; nothing is logged, saved
or validated within the steps that count. With `--data` a real run of a small student follows, which tells the share of
time in which the loop waited for data.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from shared.interval import median_interval
from shared.record import describe, load, record, write_result

from edgekit.train.data.loading import Batch
from edgekit.train.families.hubert_student.config import VARIANTS
from edgekit.train.families.hubert_student.model import build
from edgekit.train.layers.features import features_of
from edgekit.train.loop import LoopSettings, fit, open_fabric
from edgekit.train.recipe import resolve, train
from edgekit.train.run import RunFolder
from edgekit.train.techniques.ctc import Ctc, CtcSettings
from edgekit.train.tokens import LETTERS

PACKAGES = ("edgekit", "torch", "lightning-fabric", "numpy")
ITEMS, SECONDS = 8, 6
MOST = 1.05
"""The time of our loop over the bare one's that is the aim."""


def one_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    wave_BN = 0.1 * torch.randn(ITEMS, SECONDS * 16_000, generator=generator)
    texts = ("THE SAME WORDS FOR EVERY ITEM OF THE BATCH",) * ITEMS
    return Batch(wave_BN, torch.full((ITEMS,), SECONDS * 16_000), texts, ("",) * ITEMS, epoch=0, index=0)


def student() -> Ctc:
    """The same weights every time."""
    torch.manual_seed(0)
    config = VARIANTS["deep-thin-fbank"]
    module = build(config, "ctc").init_weights()

    def nothing(folder: Path) -> None:
        folder.mkdir()

    return Ctc(module.hubert, module.lm_head, features_of(config.features()), LETTERS, nothing, CtcSettings())


class Same:
    """One batch, for ever."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def batches(self, start: int, rank: int, world: int, accumulate: int) -> Iterator[Batch]:
        while True:
            yield self.batch

    def validation(self) -> Iterable[Batch]:
        return [self.batch]


class Clock:
    """Notes when each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.waiting: list[float] = []

    def begin(self, what: str, done: int, total: int) -> None: ...

    def say(self, text: str) -> None: ...

    def step(self, done: int, numbers: dict[str, float]) -> None:
        self.ends.append(time.perf_counter())


def ours(batch: Batch, num_steps: int) -> float:
    """Seconds per step, without the first and the last (which validates and saves)."""
    settings = LoopSettings(steps=num_steps + 2, accelerator="cpu", log_every=10)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(open_fabric(settings), student(), Same(batch), settings, RunFolder(Path(folder)), clock)
    return (clock.ends[num_steps] - clock.ends[0]) / num_steps


def bare(batch: Batch, num_steps: int) -> float:
    """The same steps, as one would write them without any loop of ours."""
    model = student().train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=1e-6)
    ends = []
    for _ in range(num_steps + 1):
        with torch.no_grad():
            inputs = model.inputs(batch, 0)
        loss = model(**inputs)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ends.append(time.perf_counter())
    return (ends[-1] - ends[0]) / num_steps


def waiting(data: str, num_steps: int) -> dict[str, float]:
    """A real run of a small student: how fast, and how much of the time it waited for data."""
    sizes = ("model.hidden_size=96", "model.intermediate_size=96", "model.num_attention_heads=2")
    fast = ("model.attention_dropout=0", "data.batch_s=60", f"loop.steps={num_steps}", "loop.accelerator=cpu")
    rest = ("loop.log_every=10", f"loop.validate_every={num_steps}", f"loop.save_every={num_steps}", "data.workers=1")
    recipe, settings = resolve(
        "hubert-student", "ctc", None, data=data, assignments=(*sizes, *fast, *rest, "data.speed=0.9,1.0,1.1")
    )
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, settings, Path(folder) / "run", Clock())
        lines = map(json.loads, (Path(folder) / "run/metrics.jsonl").read_text().splitlines())
        # the first batches come before the reader is warm
        kept = [line for line in lines if line["kind"] == "train"][1:]
    names = ("audio_s_per_s", "waiting_share")
    return {name: sum(line[name] for line in kept) / len(kept) for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a corpus with texts, for the share of waiting")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=6, help="of each loop in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "training.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    result: dict[str, Any] = record("training", PACKAGES)
    batch = one_batch()
    loops = {"ours": ours, "bare": bare}
    for loop in loops.values():
        loop(batch, 2)
    samples: dict[str, list[float]] = {name: [] for name in loops}
    order = random.Random(0)
    for _ in range(given.rounds):
        for name in order.sample(sorted(loops), len(loops)):
            samples[name].append(loops[name](batch, given.steps))
    ratios = [a / b for a, b in zip(samples["ours"], samples["bare"])]
    ratio = median_interval(ratios)
    verdict = ratio.verdict(at_most=MOST)
    result |= {"threads": given.threads, "step_s": samples, "ratio": ratio.to_json(), "verdict": verdict}
    if given.data:
        result["reading"] = waiting(given.data, 40)
    result["load_after"] = load()
    print(describe(result))
    for name, values in samples.items():
        speed = ITEMS * SECONDS / sorted(values)[len(values) // 2]
        print(f"{name}: {speed:.1f} s of sound per second (median of {len(values)} rounds)")
    print(f"ours / bare, time per step: {ratio.text(3)}, at most {MOST}: {verdict}")
    if given.data:
        print(f"a real run: {result['reading']}")
    write_result(given.out, result)


if __name__ == "__main__":
    main()
