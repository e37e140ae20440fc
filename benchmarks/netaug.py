"""Core and augment nets against Conformers of their sizes, trained alike on real speech, by the public commands alone.

    python benchmarks/netaug.py --data librispeech --pieces pieces.jsonl --work DIR

The first claim of arXiv 2212.01393 at a small scale: variant t from nothing, as many updates of the same recordings for
every arm, then word error rates on general speech. NetAug goes through the model twice per update, so a Conformer with
twice the updates stands beside it. Steps that are done are kept and one that was interrupted goes on: call it again.
`--stages` chooses steps by name (`'*-0'`: the first seed).

`--data` has LibriSpeech's layout and a `splits.json`: {"train": {"subset", "speakers"}, "validation": ..., ...}.
`--pieces` are recordings cut to 1 to 5 s (`tools/builtin_data.py` cuts them): within a budget of minutes, CTC learns
from these and not from whole ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.arms import difference, rates
from shared.record import describe, load, record, write_result
from shared.steps import Step, collect, do, read_parts, say, score, train

from edgekit.runtime.corpus import write_jsonl

PACKAGES = ("edgekit", "torch", "lightning-fabric", "jiwer", "onnxruntime")
SEEDS = (0, 1)

# heads, feed-forward units and channels of variant t's core and one of its augment nets together
WIDE = ("model.num_heads=5", "model.feed_forward=480", "model.channels=120")
PLAIN = ("netaug.weight=0",)


@dataclass(frozen=True)
class Arm:
    """A model and how it is trained.

    Attributes:
        settings: of `edgekit train disconformer`.
        times: of the budget's updates.
        scored: what of it is exported, by name.
    """

    name: str
    settings: tuple[str, ...]
    times: float = 1
    scored: tuple[tuple[str, tuple[str, ...]], ...] = (("core", ()),)


NETS = (("core", ()), ("core+augment", ("active=0",)))
ARMS = (
    Arm("conformer", PLAIN),
    Arm("conformer-twice", PLAIN, times=2),
    Arm("wide-conformer", (*PLAIN, *WIDE)),
    Arm("netaug", ("netaug.at_once=1",), scored=NETS),
    Arm("netaug-two-at-once", ("netaug.at_once=2",), scored=NETS),
    Arm("netaug-core-last", ("netaug.core_only_share=0.5",), scored=NETS),
)


def steps(work: Path, updates: int, batch_s: float, test: int) -> list[Step]:
    """Every command, in order."""
    found = []
    for seed in SEEDS:
        for arm in ARMS:
            name = f"{arm.name}-{seed}"
            settings = (
                *arm.settings,
                f"loop.steps={round(updates * arm.times)}",
                f"loop.seed={seed}",
                f"data.seed={seed}",
                f"data.batch_s={batch_s:g}",
                f"data.validation={work / 'validation.jsonl'}",
                "data.speed=1.0",
                "data.min_s=0.15",
                "model.dropout=0.05",
                "chunks.share=0",
                "ctc.time_masks=1",
                "ctc.time_width=10",
                "ctc.freq_masks=1",
                "ctc.freq_width=10",
                "loop.learning_rate=1.5e-3",
                "loop.precision=bf16-mixed",
                "loop.ema=0.99",
                "loop.validate_every=500",
                "loop.save_every=250",
                "loop.log_every=50",
            )
            found.append(train(name, "disconformer", "ctc", work / "pieces.jsonl", work, settings, "t"))
            for part, chosen in arm.scored:
                named = f"{arm.name}-{part}-{seed}"
                found += score(named, "disconformer", work / name, work / "test.jsonl", work, test, *chosen)
    return found


def summarise(done: dict[str, Any]) -> dict[str, Any]:
    """Error rates of each arm and part, the wall time of their training, and differences to the Conformer."""
    scores: dict[str, list[Any]] = {}
    for arm in ARMS:
        for part, _ in arm.scored:
            names = [f"score-{arm.name}-{part}-{seed}" for seed in SEEDS]
            if found := [done[name]["score"] for name in names if name in done]:
                scores[f"{arm.name} {part}"] = found
    wall_s = {arm.name: [done[f"{arm.name}-{s}"]["wall_s"] for s in SEEDS if f"{arm.name}-{s}" in done] for arm in ARMS}
    first, *others = scores or ("none",)
    return {
        "arms": {name: {**rates(found), "wall_s": wall_s[name.split()[0]]} for name, found in scores.items()},
        "differences": {f"{name} less {first}": difference(scores[name], scores[first]) for name in others},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pieces", type=Path, required=True, help="JSON lines of short parts of the recordings")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stages", nargs="*", default=["*"], help="names of steps, with wildcards")
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--batch-s", type=float, default=25.0)
    parser.add_argument("--test", type=int, default=200, help="recordings that are scored")
    parser.add_argument("--out", type=Path, help="the result's JSON file")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    result = record("netaug", PACKAGES)
    if not (given.work / "test.jsonl").exists():
        for name, part in read_parts(given.data, given.pieces).items():
            write_jsonl(given.work / f"{name}.jsonl", part)
            say(f"{name}: {len(part.utterances)} recordings, {part.duration_s / 3600:.2f} h")
    all_steps = steps(given.work, given.updates, given.batch_s, given.test)
    do(all_steps, given.work, given.stages)
    done = collect(given.work, all_steps)
    result |= {"updates": given.updates, "batch_s": given.batch_s, **summarise(done), "steps": done}
    result["load_after"] = load()
    for name, arm in result["arms"].items():
        say(f"{name}: WER {arm['wer']} %, CER {arm['cer']} %, {arm['wall_s']} s")
    for name, each in result["differences"].items():
        say(f"{name}: {each['cer_points']:+.2f} points of CER, 95 % {each['interval']}, by seed {each['by_seed']}")
    say(describe(result))
    if given.out is not None:
        write_result(given.out, result)


if __name__ == "__main__":
    main()
