"""Figures of arms whose errors are known; what is done stays done, and of another bundle or data it is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgekit.core.errors import DataError, EdgekitError, UnavailableError, UsageError
from edgekit.runtime.corpus import Corpus, write_jsonl
from edgekit.runtime.libricontinual.benchmark import Options, Run, run_benchmark
from edgekit.runtime.libricontinual.manifest import read_benchmark
from edgekit.runtime.libricontinual.sizes import Size
from edgekit.runtime.libricontinual.summary import ArmFigures

pytest.importorskip("jiwer", reason="counts the errors: pip install jiwer")

S2, S4 = Size(2), Size(4)


def arms_of(run: Run) -> dict[str, ArmFigures]:
    return {arm.name: arm for arm in run.summary.arms}


def test_the_figures(built: Path, general: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path) -> None:
    learner, nothing = made_up_arms.Learner(forgets=0.5), made_up_arms.Learner("none", tuned=0)
    run = run_benchmark(built, [nothing, learner], tmp_path, Options(general=general))
    none, learned = arms_of(run)["none"], arms_of(run)["learner"]
    assert none.start_wer is not None
    # three speakers of whom 4 of 10 words are lost, three of whom 6
    assert none.start_wer.mean == pytest.approx(0.5)
    assert none.start_wer.interval == (pytest.approx(0.4, abs=0.04), pytest.approx(0.6, abs=0.04))
    assert (none.start_general_wer, none.splits) == (0.1, {})
    assert learned.start_rates == {"1": 0.6, "2": 0.4, "3": 0.6, "4": 0.4, "5": 0.6, "6": 0.4}
    small, large = learned.splits[S2], learned.splits[S4]
    assert (small.wer.mean, large.wer.mean) == (pytest.approx(0.3), pytest.approx(0.1))
    assert (small.minutes, large.minutes) == (pytest.approx(2 / 60), pytest.approx(4 / 60))
    for split, gain, forgetting in ((small, 0.2, 0.1), (large, 0.4, 0.2)):
        assert split.gain is not None
        assert split.gain.mean == pytest.approx(gain)
        assert split.gain.interval == (pytest.approx(gain), pytest.approx(gain)), "of each speaker the same"
        assert split.forgetting is not None
        assert split.forgetting.mean == pytest.approx(forgetting)
    assert (large.seconds, large.cpu_seconds, large.peak_memory_mib, large.joules) == (8, 12, 100, None)
    told = {(str(d.split), d.a, d.b): d.verdict for d in run.summary.differences}
    assert told == {("2s", "none", "learner"): "learner is better", ("4s", "none", "learner"): "learner is better"}
    assert (run.summary.num_done, run.summary.num_tasks, run.summary.num_skipped) == (19, 19, 0)
    assert len(here) == len(set(here)) == 19, "what arms share before adaptation is measured once"
    json.dumps(run.to_json())
    assert run.context["general"]["num_recordings"] == 4


def test_without_a_general_list_nothing_is_said_of_it(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    run = run_benchmark(built, [made_up_arms.Learner()], tmp_path, Options(splits=(S2,), speakers=("3", "1")))
    arm = arms_of(run)["learner"]
    assert (arm.start_general_wer, arm.splits[S2].general_wer, arm.splits[S2].forgetting) == (None, None, None)
    assert arm.splits[S2].wer.interval is None, "two speakers"
    assert list(arm.splits) == [S2]
    assert here == [
        f"{here[0][:22]}/1.json",
        f"{here[0][:22]}/3.json",
        "learner/1/2s-seed0.json",
        "learner/3/2s-seed0.json",
    ]
    assert run.context["data"]["speakers"] == ["1", "3"]


def test_arms_of_two_models_have_starts_of_their_own(
    built: Path, general: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    arms = [made_up_arms.Learner("a"), made_up_arms.Learner("b", model="other", strength=0.5)]
    run = run_benchmark(built, arms, tmp_path, Options(splits=(S4,), general=general))
    assert len([file for file in here if file.startswith("start-")]) == 14
    (found,) = run.summary.differences
    assert (found.wer.mean, found.verdict) == (pytest.approx(-0.2), "a is better")


def test_seeds_are_averaged(built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path) -> None:
    options = Options(splits=(S2,), speakers=1, seeds=(0, 1))
    run = run_benchmark(built, [made_up_arms.Learner()], tmp_path, options)
    assert here[1:] == ["learner/1/2s-seed0.json", "learner/1/2s-seed1.json"]
    assert arms_of(run)["learner"].splits[S2].rates == {"1": pytest.approx(0.4)}


# What is done stays done.


def test_nothing_is_done_twice(built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path) -> None:
    learner = made_up_arms.Learner()
    first = run_benchmark(built, [learner], tmp_path, Options(speakers=2, splits=(S2,)))
    num = len(here)
    calls: list[tuple[int, int, str]] = []
    again = run_benchmark(
        built, [learner], tmp_path, Options(speakers=2, splits=(S2,)), report=lambda *told: calls.append(told)
    )
    assert len(here) == num
    assert calls == [(4, 4, "")]
    assert again.summary == first.summary
    run_benchmark(built, [learner], tmp_path, Options(speakers=2))
    assert here[num:] == ["learner/1/4s-seed0.json", "learner/2/4s-seed0.json"], "only what is new"
    (tmp_path / "tasks" / here[-1]).write_text("{")
    run_benchmark(built, [learner], tmp_path, Options(speakers=2))
    assert here[num + 2 :] == ["learner/2/4s-seed0.json"], "a broken file is no result"


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"model": "other bundle", "name": "learner"}, "start"),
        ({"strength": 0.25}, "settings"),
        ({"tuned": 7}, "tuned_parameters"),
    ],
)
def test_results_of_another_arm_are_refused_or_measured_again(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path, change: dict[str, Any], differs: str
) -> None:
    learner, options = made_up_arms.Learner(), Options(speakers=2, splits=(S2,))
    run_benchmark(built, [learner], tmp_path, options)
    other = replace(learner, **change)
    with pytest.raises(UsageError, match=rf"received 2 of another \(what differs: {differs}\)") as raised:
        run_benchmark(built, [other], tmp_path, options)
    assert raised.value.hint is not None
    assert "--redo" in raised.value.hint
    num = len(here)
    run = run_benchmark(built, [other], tmp_path, replace(options, redo=True))
    assert here[num:][-2:] == ["learner/1/2s-seed0.json", "learner/2/2s-seed0.json"]
    assert run.summary.num_done == 4


def test_results_of_another_version_or_general_list_are_refused(
    built: Path,
    general: Path,
    here: list[str],
    made_up_arms: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, options = made_up_arms.Learner(), Options(speakers=2, splits=(S2,), general=general)
    run_benchmark(built, [learner], tmp_path, options)
    for other in (replace(options, general=general / "90"), replace(options, general=None)):
        with pytest.raises(UsageError, match="what differs: general"):
            run_benchmark(built, [learner], tmp_path, other)
    monkeypatch.setattr("edgekit.__version__", "99")
    with pytest.raises(UsageError, match="what differs: edgekit"):
        run_benchmark(built, [learner], tmp_path, options)


def test_results_of_other_data_are_refused(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    options = Options(speakers=("1",), splits=(S2,))
    run_benchmark(built, [made_up_arms.Learner()], tmp_path / "out", options)
    data = json.loads((built / "manifest.json").read_text())
    # the same speaker with another test list
    data["speakers"]["1"]["test"]["sha256"] = "0" * 64
    shutil.copytree(built, tmp_path / "other")
    from edgekit.runtime.libricontinual.manifest import lists_sha256

    data["sha256"] = lists_sha256(data["speakers"])
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"received 2 of another .*what differs: test"):
        run_benchmark(tmp_path / "other", [made_up_arms.Learner()], tmp_path / "out", options)


# Failures.


def test_a_failure_leaves_the_rest_alone(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    learner, options = made_up_arms.Learner(fails=("2",)), Options(speakers=3, splits=(S2,))
    run = run_benchmark(built, [learner], tmp_path, options)
    assert [(f.message, f.hint) for f in run.failures] == [("learner, 2, 2s: expected to learn 2", "give it up")]
    assert sorted(arms_of(run)["learner"].splits[S2].rates) == ["1", "3"]
    assert (run.summary.num_done, run.summary.num_tasks) == (5, 6)
    num = len(here)
    mended = run_benchmark(built, [replace(learner, fails=())], tmp_path, options)
    assert here[num:] == ["learner/2/2s-seed0.json"]
    assert (mended.failures, mended.summary.num_done) == ((), 6)


def test_what_was_measured_of_something_else_and_not_again_is_not_counted(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    options = Options(speakers=3, splits=(S2,))
    run_benchmark(built, [made_up_arms.Learner()], tmp_path, options)
    other = made_up_arms.Learner(strength=0.5, fails=("2",))
    run = run_benchmark(built, [other], tmp_path, replace(options, redo=True))
    assert sorted(arms_of(run)["learner"].splits[S2].rates) == ["1", "3"]
    assert (len(run.failures), run.summary.num_done, run.summary.num_tasks) == (1, 5, 6)


def test_what_a_speaker_learns_from_is_no_general_list(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    """Of the larger split alone, whose recordings the list holds; and nobody learns for the first model."""
    benchmark = read_benchmark(built)
    lists = benchmark.speakers["1"]
    small, large = (benchmark.read(lists.splits[size]).utterances for size in (S2, S4))
    listed = tmp_path / "general.jsonl"
    write_jsonl(listed, Corpus(tuple(each for each in large if each not in small)))
    run = run_benchmark(built, [made_up_arms.Learner()], tmp_path / "out", Options(speakers=2, general=listed))
    (failure,) = run.failures
    assert failure.message == "learner, 1, 4s: expected a general list of other recordings, 2 of it are learned here"
    assert failure.hint is not None
    assert sorted(arms_of(run)["learner"].splits[S4].rates) == ["2"]
    assert sorted(arms_of(run)["learner"].splits[S2].rates) == ["1", "2"]
    validated = tmp_path / "validated.jsonl"
    write_jsonl(validated, benchmark.read(lists.validation))
    run = run_benchmark(built, [made_up_arms.Learner()], tmp_path / "two", Options(speakers=1, general=validated))
    assert len(run.failures) == 2


def test_where_the_first_fails_nothing_more_is_tried(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(EdgekitError, match="before adaptation, 1: expected to learn None"):
        run_benchmark(built, [made_up_arms.Learner(fails=(None,))], tmp_path, Options())
    assert len(here) == 1


def test_recordings_that_cannot_be_used_are_counted(
    built: Path, general: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(general, tmp_path / "general"))
    chapter = corpus / "90" / "901"
    (chapter / "90-901-0000.wav").rename(chapter / "broken.wav")
    table = chapter / "90-901.trans.txt"
    table.write_text(table.read_text().replace("90-901-0000", "broken"))
    run = run_benchmark(built, [made_up_arms.Learner(tuned=0)], tmp_path / "out", Options(speakers=1, general=corpus))
    assert run.summary.num_skipped == 1
    assert arms_of(run)["learner"].start_general_wer == 0.1


def test_of_the_general_list_too_it_is_told_what_cannot_be_read(
    built: Path, general: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    corpus = Path(shutil.copytree(general, tmp_path / "general"))
    (corpus / "90" / "901" / "90-901-0000.wav").write_bytes(b"no sound")
    run = run_benchmark(built, [made_up_arms.Learner(tuned=0)], tmp_path / "out", Options(speakers=1, general=corpus))
    assert (run.context["general"]["num_recordings"], run.context["general"]["num_skipped"]) == (3, 1)


def test_recordings_that_are_not_learned_are_counted(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path
) -> None:
    learner = made_up_arms.Learner(details={"num_left_out": 2})
    run = run_benchmark(built, [learner], tmp_path, Options(speakers=3, splits=(S2,)))
    assert run.summary.num_left_out == run.to_json()["num_left_out"] == 6


def test_wrong_turns(built: Path, made_up_arms: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = made_up_arms.Learner()
    for arms, options, told in (
        ([], Options(), "expected an arm"),
        ([learner, replace(learner, name="Learner")], Options(), "names that differ"),
        ([replace(learner, name="../x")], Options(), "an arm's name becomes a folder"),
        ([learner], Options(speakers=7), "expected 6 speakers or fewer"),
        ([learner], Options(speakers=("1", "99")), "expected a speaker among"),
        ([learner], Options(splits=(Size(600),)), "expected a split among 2s, 4s; received '10m'"),
    ):
        with pytest.raises(UsageError, match=told):
            run_benchmark(built, arms, tmp_path, options)
    with pytest.raises(DataError, match="which does not exist"):
        run_benchmark(built, [learner], tmp_path, Options(general=tmp_path / "none"))
    with pytest.raises(DataError, match=r"expected manifest\.json in"):
        run_benchmark(tmp_path, [learner], tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UnavailableError, match="expected the package ray") as raised:
        run_benchmark(built, [learner], tmp_path, Options(ray="auto"))
    assert raised.value.hint == 'pip install "edgekit[ray]"'
    assert not (tmp_path / "tasks").exists()


def test_a_full_disk(
    built: Path, here: list[str], made_up_arms: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync

    def full(handle: int) -> None:
        if len(here) > 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EdgekitError, match="No space left on device"):
        run_benchmark(built, [made_up_arms.Learner()], tmp_path, Options())
    monkeypatch.undo()
    assert len(list((tmp_path / "tasks").rglob("*.json"))) == 2, "what was written before is kept, nothing is half"
