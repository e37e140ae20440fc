"""Episodes as they are drawn, what is done to features before, and what a result holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import DataError, UsageError
from edgekit.runtime.few_shot.benchmark import SHUFFLED, benchmark_few_shot
from edgekit.runtime.few_shot.episodes import Drawing, EpisodeSettings
from edgekit.runtime.few_shot.features import Features, read_features
from edgekit.runtime.few_shot.intervals import mean_over
from edgekit.runtime.few_shot.preprocessing import Preprocessing

pytestmark = pytest.mark.device_side


def told_apart(num_classes: int = 8, each: int = 30, noise: float = 0.8) -> Features:
    random = np.random.default_rng(0)
    centres = np.maximum(random.normal(size=(num_classes, 1, 48)), 0)
    pictures = np.maximum(centres + noise * random.normal(size=(num_classes, each, 48)), 0)
    return Features.of(pictures.reshape(-1, 48), np.repeat(np.arange(num_classes), each))


def test_an_episode_is_drawn_by_its_number() -> None:
    settings = EpisodeSettings(ways=3, shots=2, queries=4, episodes=6)
    features = told_apart()
    shots, queries = Drawing(features, settings).draw(0, 6)
    again_shots, again_queries = Drawing(features, settings).draw(4, 2)
    assert (shots[4:] == again_shots).all()
    assert (queries[4:] == again_queries).all()
    for episode in range(6):
        drawn = np.concatenate([shots[episode].ravel(), queries[episode].ravel()])
        assert len(set(drawn)) == 18
        labels = features.labels[np.concatenate([shots[episode], queries[episode]], axis=1)]
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == 3


def test_shuffled_labels_are_of_the_same_pictures() -> None:
    drawing = Drawing(told_apart(), EpisodeSettings(ways=3, shots=2, queries=4))
    for plain, shuffled in zip(zip(*drawing.draw(7, 5)), zip(*drawing.draw(7, 5, shuffled=True))):
        each, other = (np.concatenate([part.ravel() for part in of]) for of in (plain, shuffled))
        assert sorted(each) == sorted(other)
        assert (each != other).any()
    assert (drawing.draw(9, 1, shuffled=True)[0] == drawing.draw(7, 5, shuffled=True)[0][2]).all()


def test_classes_of_too_few_pictures_are_left_out() -> None:
    features = told_apart()
    fewer = Features(features.embeddings[15:], features.labels[15:], features.classes)
    assert Drawing(fewer, EpisodeSettings(ways=5, shots=5, queries=15)).num_left_out == 1
    with pytest.raises(DataError, match="expected 8 classes of at least 20 pictures"):
        Drawing(fewer, EpisodeSettings(ways=8, shots=5, queries=15))
    with pytest.raises(UsageError):
        EpisodeSettings(ways=1)


def test_a_result_is_the_same_each_time_and_says_what_it_belongs_to() -> None:
    features, settings = told_apart(), EpisodeSettings(shots=5, episodes=40)
    done: list[tuple[int, int]] = []
    one = benchmark_few_shot(
        features, settings, data={"path": "x"}, command="c", report=lambda *progress: done.append(progress)
    )
    two = benchmark_few_shot(features, settings)
    assert [arm.accuracy for arm in one.arms] == [arm.accuracy for arm in two.arms]
    assert done[-1] == (40, 40)
    told = json.loads(json.dumps(one.to_json()))
    assert told["data"]["path"] == "x"
    assert told["data"]["num_classes"] == 8
    assert {"command", "date", "machine", "versions", "episodes", "preprocessing", "csca"} <= set(told)
    arms = {arm.name: arm for arm in one.arms}
    assert arms["csca"].accuracy.mean > 0.6
    assert arms["csca"].gain is not None
    assert arms["nearest prototype"].gain is None
    assert arms[SHUFFLED].accuracy.mean == pytest.approx(0.2, abs=0.03)


def test_one_shot_says_that_nothing_was_fitted() -> None:
    csca, plain, *_ = benchmark_few_shot(told_apart(), EpisodeSettings(shots=1, episodes=20)).arms
    assert csca.accuracy == plain.accuracy
    assert "nearest prototype" in csca.note


def test_preprocessing() -> None:
    features = Features.of(np.array([[0.0, 4.0], [9.0, 0.0]]), np.arange(2))
    np.testing.assert_allclose(
        Preprocessing(power=True).apply(features).embeddings, [[0.001, 2], [3, 0.001]], atol=1e-5
    )
    np.testing.assert_allclose(Preprocessing(l2=True).apply(features).embeddings, [[0, 1], [1, 0]])
    base = np.array([[2.0, 2.0], [4.0, 0.0]], np.float32)
    np.testing.assert_allclose(Preprocessing(base=base).apply(features).embeddings, [[-3, 3], [6, -1]])
    # the base is treated as the features are, and the length is 1 again afterwards
    both = Preprocessing(l2=True, base=base).apply(features).embeddings
    mean = (np.array([1, 1]) / np.sqrt(2) + np.array([1, 0])) / 2
    np.testing.assert_allclose(both[0], (np.array([0, 1]) - mean) / np.linalg.norm(np.array([0, 1]) - mean), atol=1e-6)
    with pytest.raises(DataError, match="at least 0"):
        Preprocessing(power=True).apply(Features.of(-features.embeddings, features.labels))
    with pytest.raises(DataError, match="base embeddings of 2 values"):
        Preprocessing(base=np.ones((3, 5), np.float32)).apply(features)


def test_intervals() -> None:
    values = np.array([0.1, 0.2, 0.6, 0.3])
    found = mean_over(values)
    assert found.half_width == pytest.approx(1.96 * np.sqrt(values.var(ddof=1) / 4))
    assert mean_over(values[:1]).half_width is None


def test_reading_features(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez(file, embeddings=np.ones((3, 2)), labels=np.array(["b", "a", "b"]))
    found = read_features(file)
    assert (found.classes, found.labels.tolist(), found.embeddings.dtype) == (("a", "b"), [1, 0, 1], np.float32)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.ones(3)}, "expected embeddings and labels"),
        ({"embeddings": np.ones((3, 2)), "labels": np.ones(3)}, "labels, whole numbers or text"),
        ({"embeddings": np.ones(3), "labels": np.ones(3, int)}, r"embeddings \[n, C\]"),
        ({"embeddings": np.full((3, 2), np.inf), "labels": np.ones(3, int)}, "finite"),
        ({"embeddings": np.ones((3, 2)), "labels": np.array([{}, {}, {}])}, "of numbers and text"),
    ],
)
def test_features_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_features(tmp_path / "a.npz")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "one.npy", np.ones(3))
    for name in ("text.npz", "one.npy", "gone.npz"):
        with pytest.raises(DataError):
            read_features(tmp_path / name)
