"""What the choices of the hubert-student recipe give on real speech: word error rates, by the public commands alone.

    python benchmarks/learning.py --data librispeech --unlabelled unlabelled --pieces pieces.jsonl --work DIR

A small HuBERT is pretrained on all recordings that nobody is tested on, students are distilled from it, fine-tuned on
parts of train-clean-5, exported, and scored on the test speakers. Every step is one command of `edgekit`, printed and
recorded with its time. Steps that are done are kept and one that was interrupted goes on: call it again. `--stages`
chooses steps by name (`'*-1h-*'`).

`--data` has LibriSpeech's layout and a `splits.json`: {"train": {"subset", "speakers"}, "validation": ..., ...}.
`--pieces` are recordings cut to 1 to 5 s (`tools/builtin_data.py` cuts them): within a budget of minutes, CTC learns
from these and not from whole ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shared.arms import difference, rates
from shared.record import describe, load, record, write_result
from shared.steps import Step, collect, do, read_parts, say, score, train

from edgekit.runtime.corpus import Corpus, read_corpus, write_jsonl

PACKAGES = ("edgekit", "torch", "lightning-fabric", "scikit-learn", "jiwer", "onnxruntime")
SEEDS = (0, 1)
HOURS = {"10min": 1 / 6, "1h": 1.0, "5h": 100.0}

# scaled widths, which processor cores can train; attention without dropout has a fast kernel on CPUs
CONV = ("model.conv_dim=64,64,64,64,64,64,64", "model.attention_dropout=0", "model.activation_dropout=0")
WIDE = (*CONV, "model.hidden_size=144", "model.intermediate_size=576", "model.num_attention_heads=2")
TEACHER = (*WIDE, "model.num_hidden_layers=6")
# norms after each sum, as in HuBERT base: twelve layers stay at the loss of guessing for the whole budget
STUDENT = ("model.do_stable_layer_norm=true",)
# without it the loss stays that of guessing for thousands of updates of this size
PREDICTION = (
    "clusters=100,200",
    "losses.unmasked_weight=1",
    "losses.mask_probability=0.65",
    "losses.feature_penalty=1",
)
SIZES = {
    "deep-thin": (
        *CONV,
        *STUDENT,
        "model.hidden_size=96",
        "model.intermediate_size=96",
        "model.num_attention_heads=2",
    ),
    "shallow-wide": (*WIDE, *STUDENT),  # two layers: 804,224 parameters on filter bank, deep-thin 835,520
}


@dataclass(frozen=True)
class Arm:
    """A row of the ablation: a kind of student, how it was distilled (None: not at all), and from how many labels."""

    name: str
    structure: str
    front_end: str
    distil: tuple[str, ...] | None
    labels: tuple[str, ...] = ("1h",)

    @property
    def variant(self) -> str:
        return f"{self.structure}-{self.front_end}"


ARMS = (
    Arm("scratch", "deep-thin", "fbank", None, tuple(HOURS)),
    Arm("regression", "deep-thin", "fbank", ("losses.discriminative=0",), tuple(HOURS)),
    Arm("regression+discriminative", "deep-thin", "fbank", (), tuple(HOURS)),
    Arm("no-front-end-stage", "deep-thin", "fbank", ("losses.front_end_steps=0",)),
    Arm("shallow-wide", "shallow-wide", "fbank", ()),
    Arm("waveform-scratch", "deep-thin", "waveform", None),
    Arm("waveform", "deep-thin", "waveform", ()),
)


@dataclass(frozen=True)
class Budget:
    """Updates of each kind of run, and how many test recordings are scored."""

    pretrain: int = 2000
    distil: int = 500
    ctc: tuple[tuple[str, int], ...] = (("10min", 1200), ("1h", 1200), ("5h", 1200))
    test: int = 200


def steps(work: Path, budget: Budget, batch_s: float) -> list[Step]:
    """Every command, in order."""
    lists = {name: work / f"{name}.jsonl" for name in ("unlabelled", "train", "pieces", "validation", "test")}
    common = (f"data.batch_s={batch_s:g}", "data.workers=1", "loop.log_every=50", "loop.precision=bf16-mixed")
    held = f"data.validation={lists['validation']}"
    rate = ("loop.learning_rate=1e-3", "loop.validate_every=500", "loop.save_every=250")
    found = [
        train(
            "teacher",
            "hubert",
            "pretrain",
            lists["unlabelled"],
            work,
            (
                *TEACHER,
                *PREDICTION,
                f"loop.steps={budget.pretrain}",
                held,
                *rate,
                *common,
                "data.max_s=12",
            ),
        )
    ]
    for arm in ARMS:
        for seed in SEEDS:
            sizes = (*SIZES[arm.structure], *common, f"loop.seed={seed}")
            init: tuple[str, ...] = ()
            if arm.distil is not None:
                name = f"distil-{arm.name}-{seed}"
                front = budget.distil // 5
                chosen = (f"teacher={work / 'teacher/best'}", f"losses.front_end_steps={front}", *arm.distil)
                settings = (*sizes, *chosen, held, f"loop.steps={budget.distil}", *rate, "data.max_s=12")
                found.append(train(name, "hubert-student", "distil", lists["unlabelled"], work, settings, arm.variant))
                init = (f"init={work / name / 'best'}",)
            for label, num_steps in budget.ctc:
                if label not in arm.labels:
                    continue
                name = f"ctc-{arm.name}-{label}-{seed}"
                settings = (*sizes, *init, held, f"loop.steps={num_steps}", f"data.hours={HOURS[label]}")
                settings += (
                    f"data.seed={seed}",
                    "loop.learning_rate=1.5e-3",
                    "loop.validate_every=600",
                    "loop.save_every=300",
                    "data.speed=1.0",
                    "ctc.time_masks=0",
                    "ctc.freq_masks=0",
                    "ctc.mask_probability=0",
                )
                found.append(train(name, "hubert-student", "ctc", lists["pieces"], work, settings, arm.variant))
                found += score(name, "hubert-student", work / name, lists["test"], work, budget.test)
    return found


def summarise(done: dict[str, Any]) -> dict[str, Any]:
    """Error rates of each arm and amount of labels, and the questions that the ablation answers."""
    scores: dict[str, list[Any]] = {}
    for arm in ARMS:
        for label in arm.labels:
            names = [f"score-ctc-{arm.name}-{label}-{seed}" for seed in SEEDS]
            if found := [done[name]["score"] for name in names if name in done]:
                scores[f"{arm.name} {label}"] = found
    questions = [("regression", "scratch", label) for label in HOURS]
    questions += [("regression+discriminative", "regression", label) for label in HOURS]
    questions += [
        ("regression+discriminative", "no-front-end-stage", "1h"),
        ("regression+discriminative", "shallow-wide", "1h"),
        ("waveform", "waveform-scratch", "1h"),
        ("regression+discriminative", "waveform", "1h"),
    ]
    pairs = [(f"{ours} {label}", f"{other} {label}") for ours, other, label in questions]
    return {
        "arms": {name: rates(found) for name, found in scores.items()},
        "differences": {
            f"{ours} less {other}": difference(scores[ours], scores[other])
            for ours, other in pairs
            if ours in scores and other in scores
        },
    }


def write_lists(data: Path, unlabelled: Path, pieces: Path, work: Path) -> None:
    """The corpora as JSON lines: what is learned from, held back, and tested on, by speakers."""
    parts = read_parts(data, pieces)
    known = {u.id for part in parts.values() for u in part.utterances}
    extra = [u for u in read_corpus(unlabelled).utterances if u.audio.stem not in known]
    parts["unlabelled"] = Corpus(
        tuple(replace(u, text=None) for u in sorted((*parts["train"].utterances, *extra), key=lambda u: u.id))
    )
    for name, part in parts.items():
        write_jsonl(work / f"{name}.jsonl", part)
        say(f"{name}: {len(part.utterances)} recordings, {part.duration_s / 3600:.2f} h")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--unlabelled", type=Path, required=True)
    parser.add_argument("--pieces", type=Path, required=True, help="JSON lines of short parts of the recordings")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stages", nargs="*", default=["*"], help="names of steps, with wildcards")
    parser.add_argument("--batch-s", type=float, default=25.0)
    parser.add_argument("--out", type=Path, help="the result's JSON file")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    result = record("learning", PACKAGES)
    if not (given.work / "pieces.jsonl").exists():
        write_lists(given.data, given.unlabelled, given.pieces, given.work)
    budget = Budget()
    all_steps = steps(given.work, budget, given.batch_s)
    do(all_steps, given.work, given.stages)
    done = collect(given.work, all_steps)
    result |= {**summarise(done), "steps": done, "load_after": load()}
    for name, arm in result["arms"].items():
        say(f"{name}: WER {arm['wer']} %, CER {arm['cer']} %")
    for name, each in result["differences"].items():
        say(f"{name}: {each['cer_points']:+.2f} points of CER, 95 % {each['interval']}, by seed {each['by_seed']}")
    say(describe(result))
    if given.out is not None:
        write_result(given.out, result)


if __name__ == "__main__":
    main()
