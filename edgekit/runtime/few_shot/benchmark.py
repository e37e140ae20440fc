"""The few-shot benchmark: the same episodes answered by CSCA and by each control.

An answer is made of labelled pictures and queries; the queries' labels are compared with it here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import numpy as np

import edgekit
from edgekit.devices.probe import probe_machine
from edgekit.runtime.classes.csca import CscaSettings
from edgekit.runtime.few_shot.controls import Answer, csca, logistic, prototype, random_weights
from edgekit.runtime.few_shot.episodes import Drawing, EpisodeSettings
from edgekit.runtime.few_shot.features import Features
from edgekit.runtime.few_shot.intervals import mean_over
from edgekit.runtime.few_shot.preprocessing import Preprocessing
from edgekit.runtime.few_shot.summary import Arm, FewShotBenchmark

Report = Callable[[int, int], None]
"""Called with the number of episodes that are done, and of all."""

SHUFFLED = "csca, labels shuffled"
_ARMS: dict[str, Answer] = {
    "csca": csca,
    "nearest prototype": prototype,
    "random weights": random_weights,
    "logistic regression": logistic,
}
# values gathered at a time: what is computed on the way stays within a few times this
_MOST_VALUES = 4_000_000


def benchmark_few_shot(
    features: Features,
    settings: EpisodeSettings | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    data: dict[str, Any] | None = None,
    command: str = "",
    report: Report = lambda done, total: None,
) -> FewShotBenchmark:
    """Answer every episode in every way.

    Args:
        data: where the features came from, for the record: `path` and what else is known.
        command: what made the figure, for the record.

    Raises:
        DataError: too few classes with enough pictures, or embeddings that the preprocessing cannot take.
    """
    settings, preprocessing = settings or EpisodeSettings(), preprocessing or Preprocessing()
    features = preprocessing.apply(features)
    drawing = Drawing(features, settings)
    found = {name: np.empty(settings.episodes) for name in (*_ARMS, SHUFFLED)}
    pictures = settings.ways * (settings.shots + settings.queries)
    most = max(1, _MOST_VALUES // (pictures * features.embeddings.shape[1]))
    for done in range(0, settings.episodes, most):
        num = min(most, settings.episodes - done)
        part = slice(done, done + num)
        shots, queries = _gathered(features, *drawing.draw(settings.seed + done, num))
        for name, answer in _ARMS.items():
            found[name][part] = _accuracy(answer(shots, queries), settings)
        shuffled = drawing.draw(settings.seed + done, num, shuffled=True)
        found[SHUFFLED][part] = _accuracy(csca(*_gathered(features, *shuffled)), settings)
        report(done + num, settings.episodes)
    context = _context(features, drawing, settings, preprocessing, data or {}, command)
    return FewShotBenchmark(context, tuple(_arm(name, found, settings) for name in found))


def _gathered(features: Features, shots: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labelled pictures `[E, N, K, C]`, and queries `[E, N * Q, C]`, class by class."""
    asked = features.embeddings[queries]
    return features.embeddings[shots], asked.reshape(len(asked), -1, asked.shape[-1])


def _accuracy(scores: np.ndarray, settings: EpisodeSettings) -> np.ndarray:
    """The share of right answers of each episode, of scores `[E, N * Q, N]`."""
    truth = np.repeat(np.arange(settings.ways), settings.queries)
    shares: np.ndarray = (scores.argmax(-1) == truth).mean(-1)
    return shares


def _arm(name: str, found: dict[str, np.ndarray], settings: EpisodeSettings) -> Arm:
    plain = found["nearest prototype"]
    compared = name not in ("nearest prototype", SHUFFLED)
    note = ""
    if name == SHUFFLED:
        note = f"chance is {1 / settings.ways:.1%}"
    elif name == "csca" and settings.shots == 1:
        note = "of one picture of each class nothing is fitted: this is nearest prototype"
    return Arm(name, mean_over(found[name]), mean_over(found[name] - plain) if compared else None, note)


def _context(
    features: Features,
    drawing: Drawing,
    settings: EpisodeSettings,
    preprocessing: Preprocessing,
    data: dict[str, Any],
    command: str,
) -> dict[str, Any]:
    machine = asdict(probe_machine())
    machine["system"] = machine["system"].split("-")[0]  # a kernel's local name says nothing elsewhere
    return {
        "command": command,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "versions": {"edgekit": edgekit.__version__, "numpy": np.__version__},
        "data": {
            **data,
            "num_pictures": len(features.embeddings),
            "num_channels": features.embeddings.shape[1],
            "num_classes": len(features.classes),
            "num_classes_left_out": drawing.num_left_out,
        },
        "episodes": asdict(settings),
        "preprocessing": {
            "power": preprocessing.power,
            "l2": preprocessing.l2,
            "num_base_pictures": None if preprocessing.base is None else len(preprocessing.base),
        },
        "csca": asdict(CscaSettings()),
    }
