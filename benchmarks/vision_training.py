"""LIO against its plain backbone, and cosub against stochastic depth at equal compute, by the public commands alone.

    python benchmarks/vision_training.py --data DATA --work DIR

`--data` holds `cifar10` (train/CLASS, test/CLASS) and `tiny-imagenet` (images/WNID). Every arm of an experiment sees as
many pictures in training, those that are seen twice at once counted twice, with the same course of the rate; where
stochastic depth leaves branches out, it computes less than those arms that leave out none. The peak of the rate is each
arm's own: of those that are given, the one whose network is best on a quarter of the training pictures, held back in a
run of its own with a seed that is not scored. What is scored is the network after the last step, exported, by `edgekit
classify` on pictures that nobody has learned from or chosen by.

cosub: a small residual network on CIFAR-10 from nothing; each arm is also exported without 1, 2 and 3 of its 13 blocks.
LIO: EfficientNet-lite0 from ImageNet weights, tuned on the animals of tiny-imagenet, 12 pictures of each to learn from
and 10 to test. Those classes, and perhaps those pictures, are among what the weights have been trained on, in every arm
alike. The first seed's plain network and LIO's are also timed: they are one graph.

Steps that are done are kept and one that was interrupted goes on: call it again. `--stages` chooses steps by name
(`'tune-*'`: the choice of rates, which comes first; `'*-cosub-plain-*'` and `'cosub-plain-*'`: an arm).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from shared.record import describe, load, record, write_result
from shared.steps import Step, collect, do, say, train
from shared.top1 import accuracy, difference, right

BUDGETS = ("cosub_pictures", "lio_pictures", "cosub_rates", "lio_rates", "seeds", "rate", "side", "init", "accelerator")
PACKAGES = ("edgekit", "torch", "lightning-fabric", "onnxruntime", "pillow")
LEARNED, TESTED = 12, 10
# blocks that are left out of 13, spread over the stages
REMOVED = {0: "", 1: "3", 2: "3,7", 3: "3,7,11"}
NETWORK = '{"model_type": "residual", "channels": [16, 32, 64], "depth": 5, "stride": 2}'


@dataclass(frozen=True)
class Arm:
    """What is trained.

    Attributes:
        settings: of `edgekit train FAMILY`.
        pictures: of a step, those that are seen twice at once counted twice.
    """

    name: str
    family: str
    settings: tuple[str, ...]
    pictures: int


DROP = ("learning.drop_path.sub_batch=true", "learning.drop_path.rate={rate}")
TWICE = (*DROP, "learning.cosub.use=true")
COSUB = (
    Arm("plain", "classifier", (), 64),
    Arm("stochastic-depth", "classifier", DROP, 64),
    Arm("twice-labels-only", "classifier", (*TWICE, "learning.cosub.label_share=1"), 128),
    Arm("cosub", "classifier", TWICE, 128),
)
TUNING_SEED = 1000  # of no run that is scored
TIMED = ("plain", "lio")
GROUPS = ("data.batch_size=8", "lio.positives=3")
LIO = (
    Arm("plain", "classifier", ("data.batch_size=32", "learning.head_rate=10"), 32),
    Arm("groups-alone", "lio", (*GROUPS, "lio.extent_weight=0", "lio.structure_weight=0"), 32),
    Arm("extent-alone", "lio", (*GROUPS, "lio.structure_weight=0"), 32),
    Arm("structure-alone", "lio", (*GROUPS, "lio.extent_weight=0"), 32),
    Arm("lio-unit-features", "lio", (*GROUPS, "lio.unit_features=true"), 32),
    Arm("lio", "lio", GROUPS, 32),
)


def cosub_run(given: argparse.Namespace, arm: Arm, name: str, seed: int, rate: float, *apart: str) -> Step:
    """The training of an arm of the experiment on cosub."""
    settings = (
        *(setting.format(rate=given.rate) for setting in arm.settings),
        f"model.backbone={NETWORK}",
        "data.batch_size=64",
        "data.augment.crop=padded",
        *_common(given, given.cosub_pictures // arm.pictures, seed, rate),
        *apart,
    )
    return train(name, arm.family, "classes", given.data / "cifar10" / "train", given.work, settings, "tiny")


def lio_run(given: argparse.Namespace, arm: Arm, name: str, seed: int, rate: float, *apart: str) -> Step:
    """The training of an arm of the experiment on LIO: the authors' optimiser and multiple of the rate for what begins
    at random."""
    pixels = (f"model.height={given.side}", f"model.width={given.side}", "model.resize=exact", "model.resize_to=none")
    settings = (
        *arm.settings,
        *("loop.optimizer=sgd", "loop.weight_decay=0", f"init={given.init}"),
        *pixels,
        *(("model.stages=stage3", "lio.pictures=0") if arm.family == "lio" else ()),
        "data.augment.crop=random",
        "data.augment.rotate_degrees=15",
        *_common(given, given.lio_pictures // arm.pictures, seed, rate),
        *apart,
    )
    learned = given.work / "animals" / "train"
    return train(name, arm.family, "classes", learned, given.work, settings, "efficientnet-lite0")


RUNS = {"cosub": (COSUB, cosub_run), "lio": (LIO, lio_run)}


def tuning_steps(given: argparse.Namespace, experiment: str) -> list[Step]:
    """Each arm at each rate, on three quarters of the training pictures; none where there is nothing to choose."""
    rates = getattr(given, f"{experiment}_rates")
    arms, run = RUNS[experiment]
    return [
        run(given, arm, f"tune-{experiment}-{arm.name}-{rate:g}", TUNING_SEED, rate, "data.validation_share=0.25")
        for arm in arms
        for rate in (rates if len(rates) > 1 else ())
    ]


def chosen_rates(given: argparse.Namespace, experiment: str) -> dict[str, float]:
    """Each arm's rate: the most right on what was held back, of the same the smaller loss."""
    rates = getattr(given, f"{experiment}_rates")
    if len(rates) == 1:
        return {arm.name: rates[0] for arm in RUNS[experiment][0]}
    chosen = {}
    for arm in RUNS[experiment][0]:
        found = {rate: given.work / f"tune-{experiment}-{arm.name}-{rate:g}" / "metrics.jsonl" for rate in rates}
        if all((path.parent / "done.json").exists() for path in found.values()):
            scores = {rate: json.loads(path.read_text().splitlines()[-1]) for rate, path in found.items()}
            chosen[arm.name] = min(rates, key=lambda rate: (scores[rate]["error"], scores[rate]["loss"]))
        else:
            say(f"{experiment}, {arm.name}: no rate is chosen yet")
    return chosen


def cosub_steps(given: argparse.Namespace, rates: dict[str, float]) -> list[Step]:
    """Every command of the experiment on cosub, in order, of arms whose rate is chosen."""
    data = given.data / "cifar10"
    found = []
    for seed in range(given.seeds):
        for arm in (arm for arm in COSUB if arm.name in rates):
            name = f"cosub-{arm.name}-{seed}"
            found.append(cosub_run(given, arm, name, seed, rates[arm.name], f"data.validation={data / 'test'}"))
            for count, blocks in REMOVED.items():
                chosen = (f"drop_blocks={blocks}",) if blocks else ()
                timed = arm.name == "cosub" and seed == 0  # the arms' graphs are alike
                where = f"{name}-less-{count}"
                found += _scored(where, arm.family, given.work / name, data / "test", given, chosen, timed=timed)
    return found


def lio_steps(given: argparse.Namespace, rates: dict[str, float]) -> list[Step]:
    """Every command of the experiment on LIO, in order, of arms whose rate is chosen."""
    animals = given.work / "animals"
    found = []
    for seed in range(given.seeds):
        for arm in (arm for arm in LIO if arm.name in rates):
            name = f"lio-{arm.name}-{seed}"
            found.append(lio_run(given, arm, name, seed, rates[arm.name], f"data.validation={animals / 'test'}"))
            timed = arm.name in TIMED and seed == 0
            found += _scored(name, arm.family, given.work / name, animals / "test", given, timed=timed)
    return found


def _common(given: argparse.Namespace, steps: int, seed: int, rate: float) -> tuple[str, ...]:
    """Validated once, at the end: nothing is chosen by what is tested on."""
    return (
        f"loop.learning_rate={rate:g}",
        f"data.workers={given.workers}",
        f"data.seed={seed}",
        f"loop.steps={steps}",
        f"loop.validate_every={steps}",
        f"loop.save_every={max(1, steps // 10)}",
        f"loop.log_every={max(1, min(20, steps))}",
        f"loop.seed={seed}",
        f"loop.accelerator={given.accelerator}",
        "loop.schedule=cosine",
        "loop.warmup=0.05",
    )


def _scored(
    name: str,
    family: str,
    run: Path,
    test: Path,
    given: argparse.Namespace,
    chosen: tuple[str, ...] = (),
    *,
    timed: bool = False,
) -> list[Step]:
    """Export the last weights with some settings, and answer all pictures of `test`."""
    bundle, result = given.work / "bundles" / name, given.work / "answers" / f"{name}.json"
    export = ["export", family, str(run / "last"), "--out", str(bundle), "--json"]
    export += [] if timed else ["--no-latency"]
    for setting in chosen:
        export += ["--set", setting]
    exported = given.work / "exports" / f"{name}.json"
    ask = ("classify", str(bundle), str(test), "--top", "1", "--json", "--threads", "1")
    return [
        Step(f"export-{name}", tuple(export), exported, prints=True),
        Step(f"classify-{name}", ask, result, prints=True),
    ]


def prepare_animals(data: Path, folder: Path) -> None:
    """The animals of tiny-imagenet (their WordNet numbers begin with 01 or are below 02666), as links, in two parts."""
    if folder.exists():
        return
    rng = np.random.default_rng(0)
    for wnid in sorted(path for path in (data / "tiny-imagenet" / "images").iterdir() if path.name < "n02666"):
        files = sorted(wnid.glob("*.JPEG"))
        order = rng.permutation(len(files))
        for part, places in (("train", order[:LEARNED]), ("test", order[LEARNED : LEARNED + TESTED])):
            (folder / part / wnid.name).mkdir(parents=True)
            for place in places:
                (folder / part / wnid.name / files[place].name).symlink_to(files[place].resolve())


def summarise(given: argparse.Namespace, rates: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Top-1 of every arm, differences to the others, and of each number of blocks left out its latency here."""

    def answered(name: str) -> list[Any]:
        files = (given.work / "answers" / f"{name.format(seed=seed)}.json" for seed in range(given.seeds))
        return [right(file) for file in files if file.exists()]

    result: dict[str, Any] = {"cosub": {}, "lio": {}, "learning_rates": rates}
    for count in REMOVED:
        arms = {arm.name: answered(f"cosub-{arm.name}-{{seed}}-less-{count}") for arm in COSUB}
        latency_ms = _latency(given, f"cosub-cosub-0-less-{count}")
        result["cosub"][f"less {count}"] = {**_compared(arms, "cosub"), "latency_ms": latency_ms}
    result["lio"] = _compared({arm.name: answered(f"lio-{arm.name}-{{seed}}") for arm in LIO}, "lio")
    result["lio"]["latency_ms"] = {name: _latency(given, f"lio-{name}-0") for name in TIMED}
    return result


def _compared(arms: dict[str, list[Any]], ours: str) -> dict[str, Any]:
    there = {name: found for name, found in arms.items() if found}
    others = [name for name in there if name != ours] if ours in there else []
    return {
        "arms": {name: accuracy(found) for name, found in there.items()},
        "differences": {f"{ours} less {name}": difference(there[ours], there[name]) for name in others},
    }


def _latency(given: argparse.Namespace, name: str) -> float | None:
    """The median of one picture at a time on ONNX Runtime; None: not measured."""
    path = given.work / "exports" / f"{name}.json"
    if not path.exists():
        return None
    rows = json.loads(path.read_text(encoding="utf-8"))["latency"]
    found = [row["p50_ms"] for row in rows if row["batch"] == 1 and row["backend"] == "onnxruntime"]
    return round(float(np.median(found)), 3) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--experiments", nargs="*", choices=("cosub", "lio"), default=["cosub", "lio"])
    parser.add_argument("--stages", nargs="*", default=["*"], help="names of steps, with wildcards")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cosub-rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2], help="to choose from")
    parser.add_argument("--lio-rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2], help="likewise")
    parser.add_argument("--cosub-pictures", type=int, default=64_000, help="that each arm sees in training")
    parser.add_argument("--lio-pictures", type=int, default=6_400, help="likewise")
    parser.add_argument("--accelerator", choices=("cpu", "cuda"), default="cpu", help="to train on")
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures")
    parser.add_argument("--rate", type=float, default=0.2, help="of stochastic depth")
    parser.add_argument("--side", type=int, default=128, help="of LIO's pictures, in pixels")
    parser.add_argument("--init", default="imagenet", help="LIO's beginning; '': random weights")
    parser.add_argument("--out", type=Path, help="the result's JSON file")
    given = parser.parse_args()
    given.work, given.data = given.work.resolve(), given.data.resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    result = record("vision_training", PACKAGES)
    prepare_animals(given.data, given.work / "animals")
    made = {"cosub": cosub_steps, "lio": lio_steps}
    tuning = [step for name in given.experiments for step in tuning_steps(given, name)]
    do(tuning, given.work, given.stages)
    rates = {name: chosen_rates(given, name) for name in given.experiments}
    all_steps = [step for name in given.experiments for step in made[name](given, rates[name])]
    do(all_steps, given.work, given.stages)
    budgets = {name: getattr(given, name) for name in BUDGETS}
    result |= {**budgets, **summarise(given, rates), "steps": collect(given.work, [*tuning, *all_steps])}
    result["load_after"] = load()
    for title, found in _tables(result):
        say(title)
        for name, arm in found["arms"].items():
            say(f"  {name}: top-1 {arm['mean_top1']} %, 95 % {arm['interval']}, by seed {arm['top1']}")
        for name, each in found["differences"].items():
            say(f"  {name}: {each['points']:+.2f} points, 95 % {each['interval']}, by seed {each['by_seed']}")
    say(describe(result))
    if given.out is not None:
        write_result(given.out, result)


def _tables(result: dict[str, Any]) -> list[tuple[str, Any]]:
    tables = [(f"cosub, {name} blocks ({each['latency_ms']} ms)", each) for name, each in result["cosub"].items()]
    return [*tables, (f"lio ({result['lio']['latency_ms']} ms)", result["lio"])]


if __name__ == "__main__":
    main()
