"""CSCA beside nearest prototype and other controls on real pictures, and how well "unknown" is told.

    python benchmarks/few_shot_accuracy.py NAME=FEATURES.npz... [--base NAME] [--episodes 2000] [--out FILE.json]

FEATURES are as `edgekit benchmark few-shot` takes them. Classes called GROUP-CLASS stay together by their group. Groups
in the order of their names are base, validation, base, novel, and so on (CUB's rule); a set of fewer than 20 classes is
novel as a whole. How fast CSCA learns is chosen on each set's validation classes alone, and reported on its novel ones.
`--base` names the set whose base classes, and choice, stand in for a set that has none, and for the cross-domain rows.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import functools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from shared.record import describe, load, record, write_result

from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.classes.enrolment import enrol
from edgekit.runtime.classes.library import ClassLibrary
from edgekit.runtime.few_shot import controls
from edgekit.runtime.few_shot.episodes import Drawing, EpisodeSettings
from edgekit.runtime.few_shot.features import Features, read_features
from edgekit.runtime.few_shot.intervals import mean_over
from edgekit.runtime.few_shot.preprocessing import Preprocessing

PACKAGES = ("edgekit", "numpy")
SPLITS = ("base", "validation", "base", "novel")
LEAST_TO_SPLIT = 20
GRID = [CscaSettings(rate=rate) for rate in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)]
EPISODES_TO_CHOOSE, EPISODES_UNKNOWN = 300, 300
TOGETHER = 25
Row = dict[str, Any]


def parts(features: Features) -> dict[str, Features]:
    """Base, validation and novel classes."""
    if len(features.classes) < LEAST_TO_SPLIT:
        return {"novel": features}
    groups = sorted({name.split("-")[0] for name in features.classes})
    split = [SPLITS[groups.index(name.split("-")[0]) % len(SPLITS)] for name in features.classes]
    return {each: _kept(features, [name == each for name in split]) for each in dict.fromkeys(SPLITS)}


def _kept(features: Features, classes: list[bool]) -> Features:
    rows = np.array(classes)[features.labels]
    names = np.array(features.classes)[features.labels[rows]]
    return Features.of(features.embeddings[rows], names)


def answered(
    features: Features, settings: EpisodeSettings, arms: Mapping[str, controls.Answer], *, shuffled: bool = False
) -> dict[str, np.ndarray]:
    """The accuracy of each episode, by arm; all arms have the same episodes."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in arms}
    truth = np.repeat(np.arange(settings.ways), settings.queries)
    for shots, queries in drawn(features, settings, shuffled=shuffled):
        for name, answer in arms.items():
            found[name].append((answer(shots, queries).argmax(-1) == truth).mean(-1))
    return {name: np.concatenate(each) for name, each in found.items()}


def drawn(
    features: Features, settings: EpisodeSettings, *, shuffled: bool = False
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labelled pictures `[E, N, K, C]` and queries `[E, N * Q, C]`."""
    drawing = Drawing(features, settings)
    for first in range(0, settings.episodes, TOGETHER):
        shots, queries = drawing.draw(
            settings.seed + first, min(TOGETHER, settings.episodes - first), shuffled=shuffled
        )
        yield (
            features.embeddings[shots],
            features.embeddings[queries].reshape(len(queries), -1, features.embeddings.shape[1]),
        )


def choose(name: str, features: Features) -> tuple[CscaSettings, list[Row]]:
    """The settings with the largest gain over nearest prototype on these classes, 5 ways and 5 shots."""
    arms: dict[str, controls.Answer] = {"prototype": controls.prototype}
    arms |= {str(index): functools.partial(controls.csca, settings=settings) for index, settings in enumerate(GRID)}
    found = answered(features, EpisodeSettings(shots=5, episodes=EPISODES_TO_CHOOSE), arms)
    gains = [mean_over(found[str(index)] - found["prototype"]) for index in range(len(GRID))]
    best = GRID[int(np.argmax([gain.mean for gain in gains]))]
    say(f"{name}: rate {best.rate:g}")
    return best, [{"set": name, "rate": each.rate, "gain": points(gain)} for each, gain in zip(GRID, gains)]


def one_after_another(shots: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Logistic regression as a device could keep it: each class fitted beside those before it, and left as it is."""
    ways = range(1, shots.shape[-3] + 1)
    return np.stack([controls.logistic(shots[..., :num, :, :], queries)[..., -1] for num in ways], axis=-1)


def compare(name: str, what: str, features: Features, settings: EpisodeSettings, chosen: CscaSettings) -> list[Row]:
    """Each arm's accuracy in percent, and its gain in points over nearest prototype on the same features."""
    arms: dict[str, controls.Answer] = {
        "nearest prototype": controls.prototype,
        "csca, default": controls.csca,
        "csca, chosen": functools.partial(controls.csca, settings=chosen),
        "logistic regression": controls.logistic,
        "logistic regression, one class after another": one_after_another,
        "random weights": controls.random_weights,
    }
    if settings.shots == 1 or chosen == CscaSettings():
        del arms["csca, chosen"]
    found = answered(features, settings, arms)
    if what == "as they are":
        found |= answered(features, settings, {"csca, labels shuffled": controls.csca}, shuffled=True)
    rows = []
    for arm, accuracies in found.items():
        row: Row = {"set": name, "features": what, "shots": settings.shots, "arm": arm}
        row |= {"num_classes": len(features.classes), "num_episodes": settings.episodes}
        row["accuracy"] = points(mean_over(accuracies))
        compared = arm not in ("nearest prototype", "csca, labels shuffled")
        row["gain"] = points(mean_over(accuracies - found["nearest prototype"])) if compared else None
        rows.append(row)
    say(
        f"{name}, {what}, {settings.shots} shots: "
        + ", ".join(f"{row['arm']} {row['accuracy']['mean']}" for row in rows)
    )
    return rows


def unknown(name: str, features: Features, shots: int, ways: int = 5, queries: int = 10) -> Row:
    """Half of an episode's classes are enrolled: how their pictures, and those of the others, are answered."""
    num = min(2 * ways, len(features.classes))
    counts = np.zeros((EPISODES_UNKNOWN, 3))
    settings = EpisodeSettings(num, shots, queries, EPISODES_UNKNOWN)
    done = 0
    for some_shots, some_queries in drawn(features, settings):
        for labelled, asked in zip(some_shots, some_queries):
            classes = enrol({str(way): labelled[way] for way in range(ways)}).classes
            answers = ClassLibrary(classes, labelled.shape[-1]).answer(np.ascontiguousarray(asked), top=1)
            truth = [str(way) for way in range(num) for _ in range(queries)]
            known, others = answers[: ways * queries], answers[ways * queries :]
            counts[done] = (
                np.mean([answer.name is not None for answer in known]),
                np.mean([answer.name == name for answer, name in zip(known, truth)]),
                np.mean([answer.name is None for answer in others]),
            )
            done += 1
    accepted, right, rejected = (points(mean_over(each)) for each in counts.T)
    say(f"{name}, unknown, {shots} shots: accepted {accepted}, right {right}, rejected {rejected}")
    told = {"set": name, "shots": shots, "num_enrolled": ways, "num_not_enrolled": num - ways}
    return {**told, "known_accepted": accepted, "known_right": right, "unknown_rejected": rejected}


def points(mean: Any) -> dict[str, float]:
    """In percent, or points, with the half width of the 95 % interval."""
    return {"mean": round(100 * mean.mean, 2), "half_width": round(100 * (mean.half_width or 0.0), 2)}


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = [
        "| set | features | shots | arm | accuracy, % | gain, points |",
        "| --- | --- | ---: | --- | ---: | ---: |",
    ]
    for row in rows:
        gain = row["gain"] and f"{row['gain']['mean']:+.2f} ± {row['gain']['half_width']:.2f}"
        accuracy = f"{row['accuracy']['mean']:.2f} ± {row['accuracy']['half_width']:.2f}"
        lines.append(
            f"| {row['set']} | {row['features']} | {row['shots']} | {row['arm']} | {accuracy} | {gain or ''} |"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("features", nargs="+", metavar="NAME=FILE", help="embeddings of a set")
    parser.add_argument("--base", help="the set whose base classes stand in")
    parser.add_argument("--episodes", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "few_shot_accuracy.json")
    arguments = parser.parse_args()

    result = record("few-shot accuracy", PACKAGES)
    files = dict(each.split("=", 1) for each in arguments.features)
    sets = {name: parts(read_features(file)) for name, file in files.items()}
    result["sets"] = {
        name: {part: [len(each.classes), len(each.embeddings)] for part, each in of_it.items()}
        for name, of_it in sets.items()
    }
    chosen, result["choosing"] = {}, []
    for name, of_it in sets.items():
        if "validation" in of_it:
            chosen[name], rows = choose(name, of_it["validation"])
            result["choosing"] += rows
    for name in sets:
        chosen.setdefault(name, chosen[arguments.base] if arguments.base else CscaSettings())
    result["settings"] = asdict(CscaSettings())
    result["chosen_rates"] = {name: settings.rate for name, settings in chosen.items()}
    result["unknown"], result["rows"] = [], []

    def keep() -> None:
        write_result(arguments.out, {**result, "load_after": load()})

    def plain(shots: int) -> EpisodeSettings:
        return EpisodeSettings(shots=shots, episodes=arguments.episodes)

    for shots in (5, 1):
        for name, of_it in sets.items():
            result["rows"] += compare(name, "as they are", of_it["novel"], plain(shots), chosen[name])
            keep()
    for shots in (5, 1):
        for name, of_it in sets.items():
            result["unknown"].append(unknown(name, of_it["novel"], shots))
            keep()
    elsewhere = sets[arguments.base]["base"].embeddings if arguments.base else None
    for shots in (5, 1):
        for name, of_it in sets.items():
            own = of_it["base"].embeddings if "base" in of_it else None
            ways = {"power, length 1": Preprocessing(True, True)}
            if own is not None:
                ways["length 1, own base mean taken away"] = Preprocessing(False, True, own)
            if elsewhere is not None and name != arguments.base:
                ways[f"length 1, base mean of {arguments.base} taken away"] = Preprocessing(False, True, elsewhere)
            for what, preprocessing in ways.items():
                settings = replace(plain(shots), episodes=max(1, arguments.episodes // 2))
                result["rows"] += compare(name, what, preprocessing.apply(of_it["novel"]), settings, chosen[name])
                keep()
    print(describe({**result, "load_after": load()}), table(result["rows"]), sep="\n\n")


if __name__ == "__main__":
    main()
