"""`edgekit demo personalise`: what is shown, what is kept, and what is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgekit.cli import app
from edgekit.core.bundle import Bundle
from edgekit.core.store import Store
from edgekit.runtime.adapt import demonstration
from edgekit.runtime.adapt.prompts import PROMPTS
from edgekit.runtime.samples import sample_clips, transcripts


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """The sample clips, four times each, as a person's recordings."""
    texts = transcripts()
    rows = []
    for clip in sample_clips():
        for copy in range(4):
            path = Path(shutil.copy(clip, tmp_path / f"{clip.stem}-{copy}{clip.suffix}"))
            rows.append(json.dumps({"audio": str(path), "text": texts[clip.name]}))
    file = tmp_path / "lines.jsonl"
    file.write_text("\n".join(rows), encoding="utf-8")
    return file


def test_what_was_shown_was_not_learned(adaptable: Bundle, lines: Path, tmp_path: Path, monkeypatch) -> None:
    learned: list[str] = []
    adapt = demonstration.adapt_speaker

    def spy(bundle, speaker, data, **options):
        learned.extend(Path(json.loads(line)["audio"]).name for line in Path(data[0]).read_text().splitlines())
        return adapt(bundle, speaker, data, **options)

    monkeypatch.setattr(demonstration, "adapt_speaker", spy)
    shown = demonstration.demonstrate(
        adaptable.path,
        "ann",
        [lines],
        store=tmp_path / "store",
        settings=demonstration.AdaptSettings(steps=20, evaluate_steps=5, learning_rate=1e-2),
        num_threads=1,
        allow_random_weights=True,
    )
    assert len(shown.heard) == 3
    assert len(learned) == 9
    assert not {each.audio.name for each in shown.heard} & set(learned)
    assert shown.outcome.record is not None
    assert Store(adaptable.manifest.core_hash, tmp_path / "store").names("speakers") == ["ann"]
    assert shown.wer_before is not None
    assert shown.wer_after is not None
    # random weights write nonsense, and what was learned writes another
    assert any(each.before != each.after for each in shown.heard)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected recordings or --mic, received neither"),
        (["a.wav", "--mic"], "expected recordings or --mic, received both"),
        (["--mic"], "expected a terminal with --mic"),
    ],
)
def test_what_is_missing_is_asked_for(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["demo", "personalise", *arguments])
    assert result.exit_code != 0
    assert message in str(result.exception)


def test_too_few_recordings_are_told_how_many(adaptable: Bundle) -> None:
    arguments = ["demo", "personalise", *map(str, sample_clips()), "--bundle", str(adaptable.path)]
    result = CliRunner().invoke(app, arguments)
    assert "expected 6 recordings of at most 20 s to show something, received 3" in str(result.exception)


def test_prompts_can_be_spelled_and_differ() -> None:
    assert len(set(PROMPTS)) == len(PROMPTS) == 24
    letters = set("".join(PROMPTS).lower())
    assert set("abcdefghijklmnopqrstuvwxyz") <= letters
    assert not letters & set("0123456789")
