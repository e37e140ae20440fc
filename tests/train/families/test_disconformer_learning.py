"""DisConformer learns: NetAug's passes, letters and word pieces by the recipe, and baselines of equal size."""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit.core.errors import EdgekitError
from edgekit.train.data.loading import Batch
from edgekit.train.families import disconformer
from edgekit.train.families.disconformer.config import VARIANTS, Config
from edgekit.train.families.disconformer.model import Encoder, build, save_model
from edgekit.train.families.disconformer.objective import NetAug, NetAugSettings
from edgekit.train.layers.chunks import ChunkSettings
from edgekit.train.layers.features import features_of
from edgekit.train.techniques.ctc import CtcSettings
from edgekit.train.tokens import LETTERS

pytest.importorskip("lightning_fabric", reason="training needs edgekit[train]")

SMALL = Config(
    width=32,
    num_layers=1,
    num_heads=2,
    head_width=8,
    feed_forward=48,
    channels=24,
    kernel=7,
    augment_feed_forward=12,
    augment_channels=6,
    dropout=0.0,
)
FAST = (
    "model.width=48",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.head_width=16",
    "model.feed_forward=96",
    "model.channels=48",
    "model.kernel=7",
    "model.dropout=0",
    "loop.learning_rate=3e-3",
    "loop.accelerator=cpu",
    "data.batch_s=12",
    "data.workers=0",
    "data.speed=1.0",
    "ctc.time_masks=0",
    "ctc.freq_masks=0",
)


def run(corpus: Path, out: Path, report: Any, *settings: str, resume: bool = False) -> dict[str, float]:
    """The recipe, on sizes that learn tones in seconds."""
    from edgekit.train.recipe import resolve, train

    recipe, resolved = resolve("disconformer", None, None, data=str(corpus), assignments=(*FAST, *settings))
    return train(recipe, resolved, out, report, resume=resume)


def test_learns_core_and_augments_and_is_exported(tone_corpus: Path, tmp_path: Path, silent: Any) -> None:
    """Tones to letters, by the recipe: the core alone and the core with an augment net both read them."""
    import edgekit
    from edgekit.export.export import ExportRequest, export

    settings = ("model.num_augments=2", "loop.steps=200", "loop.validate_every=100", "loop.ema=0.9")
    scores = run(tone_corpus, tmp_path / "run", silent, *settings)
    assert scores["cer"] < 0.3
    assert scores["cer_augmented"] < 0.3
    bundle = export(ExportRequest("disconformer", str(tmp_path / "run/best")), tmp_path / "bundle")
    recogniser = edgekit.load(bundle.path)
    line = next(tone_corpus.rglob("*.txt")).read_text().splitlines()[0]
    name, said = line.split(" ", 1)
    heard = recogniser.transcribe(next(tone_corpus.rglob(f"{name}.flac"))).text
    jiwer = pytest.importorskip("jiwer")
    assert jiwer.cer(said, heard) < 0.5


class Told:
    """A reporter."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, what: str, done: int, total: int) -> None: ...

    def step(self, done: int, numbers: dict[str, float]) -> None: ...

    def say(self, text: str) -> None:
        self.said.append(text)


WORD_PIECES = ("tokens=bpe", "model.vocab_size=12", "model.num_augments=0", "loop.ema=0", "loop.average_last=2")


@pytest.fixture(scope="module")
def word_pieces_run(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned tones in word pieces."""
    pytest.importorskip("sentencepiece", reason="learns word pieces: pip install edgekit[train]")
    out, told = tmp_path_factory.mktemp("pieces") / "run", Told()
    assert run(tone_corpus, out, told, *WORD_PIECES, "loop.steps=100", "loop.validate_every=50")["cer"] < 0.3
    assert "learned 11 word pieces from the texts" in told.said
    return out


def test_a_bundle_of_word_pieces_transcribes_and_takes_hotwords(
    word_pieces_run: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without sentencepiece, which only learns."""
    import edgekit
    from edgekit.core.errors import DecodingError
    from edgekit.export.export import ExportRequest, export
    from edgekit.runtime.decode.decoding import Decoding
    from edgekit.runtime.decode.hotwords import Hotword

    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    bundle = export(ExportRequest("disconformer", str(word_pieces_run / "best")), tmp_path / "bundle")
    labels = bundle.asset("tokens").read_text(encoding="utf-8").split()
    assert (len(labels), labels[0]) == (12, "<pad>")
    assert {"▁", "A", "B", "C", "D"} <= set(labels)
    assert (bundle.manifest.output["blank"], bundle.manifest.output["delimiter"]) == (0, "▁")
    recogniser = edgekit.load(bundle.path)
    lines = [line.split(" ", 1) for file in tone_corpus.rglob("*.txt") for line in file.read_text().splitlines()]
    said = dict(lines)
    heard = {path: recogniser.transcribe(path).text for path in sorted(tone_corpus.rglob("*.flac"))}
    jiwer = pytest.importorskip("jiwer")
    assert jiwer.cer([said[path.stem] for path in heard], list(heard.values())) < 0.3
    path, text = next((path, text) for path, text in heard.items() if len(text.split()) == 2)
    joined = "".join(text.split())
    assert recogniser.transcribe(path, decoding=Decoding()).text.split() != [joined]
    wanted = Decoding(hotwords=(Hotword(joined.lower(), 20.0),))
    assert joined in recogniser.transcribe(path, decoding=wanted).text.split()
    with pytest.raises(DecodingError, match="labels can spell, received 'BED'"):
        recogniser.transcribe(path, decoding=Decoding(hotwords=(Hotword("BED"),)))


def test_what_is_learned_on_keeps_its_word_pieces(
    word_pieces_run: Path, tone_corpus: Path, tmp_path: Path, silent: Any
) -> None:
    """Also from texts that would make others, and in a run that goes on."""
    checkpoint, out = (word_pieces_run / "best").resolve(), tmp_path / "on"
    pieces = (checkpoint / "bpe.model").read_bytes()
    assert (word_pieces_run / "bpe.model").read_bytes() == pieces
    other = tmp_path / "other.jsonl"
    files = sorted(tone_corpus.rglob("*.flac"))
    rows = [{"audio": str(path), "text": "D DD", "speaker": path.parts[-3]} for path in files]
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    begun = (*WORD_PIECES, f"init={checkpoint}", "loop.save_every=1", "loop.validate_every=2")
    run(other, out, silent, *begun, "loop.steps=2")
    run(other, out, silent, *begun, "loop.steps=4", resume=True)
    for folder in (out, out / "best"):
        assert (folder / "bpe.model").read_bytes() == pieces
    tokens = [
        json.loads((place / "config.json").read_text())["edgekit"]["tokens"] for place in (checkpoint, out / "best")
    ]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize(
    ("settings", "told", "hint"),
    [
        (("model.vocab_size=128",), "expected model.vocab_size 32 for letters, received 128", "--set tokens=bpe"),
        (("tokens=bpe",), "another model.vocab_size for word pieces than the 32", "--set tokens=letters"),
        (("tokens=bpe", "model.vocab_size=500"), "expected texts that make 499 word pieces", "model.vocab_size="),
        (("netaug.at_once=5",), "netaug.at_once of at most the 4 augment nets", "--set netaug.at_once=4"),
        (
            ("init=PIECES",),
            "to answer with the 32 labels of this run, it has 12 others",
            "--set tokens=bpe --set model.vocab_size=12",
        ),
        (("init=LETTERS", "tokens=bpe", "model.vocab_size=12"), "expected word pieces at", "--set tokens=letters"),
        (
            ("init=PIECES", "tokens=bpe", "model.vocab_size=14"),
            "to answer with the 14 labels",
            "--set model.vocab_size=12",
        ),
    ],
    ids=str,
)
def test_labels_that_do_not_fit_are_told(
    settings: tuple[str, ...],
    told: str,
    hint: str,
    word_pieces_run: Path,
    tone_corpus: Path,
    tmp_path: Path,
    silent: Any,
) -> None:
    save_model(tmp_path / "letters", build(SMALL, "ctc"), SMALL, "scaled-t", LETTERS)
    names = {"init=PIECES": f"init={word_pieces_run / 'best'}", "init=LETTERS": f"init={tmp_path / 'letters'}"}
    with pytest.raises(EdgekitError) as caught:
        run(tone_corpus, tmp_path / "run", silent, *(names.get(setting, setting) for setting in settings))
    assert told in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(("variant", "tokens"), [("t", "letters"), ("s", "bpe"), ("m", "bpe")])
def test_what_a_variants_labels_spell(variant: str, tokens: str) -> None:
    from edgekit.train.recipe import resolve

    assert resolve("disconformer", None, variant, data="x")[1].tokens == tokens


# `t` and 2 | `model.num_heads=6` ... | 2,289,536
BASELINE = re.compile(r"\| `(\w)`(?: and (\d).*)? \| (`model\..*`) \| ([\d,]+) \|")


def test_baselines_of_the_model_card_are_of_equal_size() -> None:
    from edgekit.train.recipe import resolve

    card = Path(disconformer.__file__).with_name("README.md").read_text(encoding="utf-8")
    found = [match for line in card.splitlines() if (match := BASELINE.fullmatch(line))]
    assert [(match[1], int(match[2] or 0)) for match in found] == [(v, n) for v in VARIANTS for n in (0, 1, 2, 4)]
    for match in found:
        ours, settings = VARIANTS[match[1]], tuple(re.findall("`(.*?)`", match[3]))
        plain = resolve("disconformer", None, match[1], data="x", assignments=settings)[1].model
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in build(plain, "ctc").parameters())
        augmented = replace(ours, active=tuple(range(int(match[2] or 0)))).num_parameters()
        assert size == augmented + (ours.width + 1) * ours.vocab_size == int(match[4].replace(",", ""))


def netaug(settings: NetAugSettings, **more: Any) -> NetAug:
    def nothing(folder: Path) -> None: ...

    chunks, fbank = ChunkSettings(share=1.0), features_of(SMALL.features())
    return NetAug(build(SMALL, "ctc"), SMALL, fbank, LETTERS, nothing, CtcSettings(), settings, chunks, **more).eval()


def batch_of(index: int = 0) -> Batch:
    torch.manual_seed(index)
    return Batch(0.1 * torch.randn(2, 24_000), torch.tensor([24_000, 16_000]), ("AB", "C"), ("0", "1"), 0, index)


def test_netaug_is_two_passes_over_one_mask() -> None:
    objective = netaug(NetAugSettings(weight=0.5))
    given = objective.inputs(batch_of(), 0)
    assert len(given["active"]) == 1
    assert given["allowed"] is not None
    values = objective(**given)
    torch.testing.assert_close(values["loss"], values["core"] + 0.5 * values["augmented"])
    same = objective(**{**given, "active": ()})
    torch.testing.assert_close(same["loss"], values["core"])
    plain = objective(**{**given, "allowed": None})
    assert not torch.equal(plain["core"], values["core"])


@pytest.mark.parametrize("draw", ["random", "in-turn"])
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_every_augment_net_is_seen_alike_often(draw: Any, at_once: int) -> None:
    objective, num_batches = netaug(NetAugSettings(at_once=at_once, draw=draw)), 400
    counts, orders = [0] * SMALL.num_augments, set()
    for index in range(num_batches):
        torch.manual_seed(index)
        active = objective._active(index, 0)
        assert len(set(active)) == len(active) == at_once
        orders.add(active)
        for augment in active:
            counts[augment] += 1
    expected = num_batches * at_once / SMALL.num_augments
    if draw == "in-turn" or at_once == 4:
        assert counts == [expected] * SMALL.num_augments
    else:
        assert max(abs(count - expected) for count in counts) < 40  # more than four standard deviations
        assert len(orders) == math.perm(4, at_once)


def test_a_batch_decides_what_it_is_seen_with() -> None:
    """And not how many were seen before: runs that go on, and several processes, see the same."""
    for draw in ("random", "in-turn"):
        settings = NetAugSettings(at_once=2, draw=draw)  # type: ignore[arg-type]
        seen = [netaug(settings).inputs(batch_of(index), 0)["active"] for index in (3, 7, 3)]
        assert seen[0] == seen[2]
    assert seen == [(2, 3), (2, 3), (2, 3)]


def test_the_core_may_learn_alone_in_the_end() -> None:
    settings = NetAugSettings(core_only_share=0.25)
    objective = netaug(settings, core_only_from=settings.core_only_from(100))
    seen = [len(objective.inputs(batch_of(), step)["active"]) for step in (0, 74, 75, 99)]
    assert seen == [1, 1, 0, 0]
    assert set(objective(**objective.inputs(batch_of(), 75))) == {"loss", "core"}
    assert NetAugSettings().core_only_from(100) == 100
    with pytest.raises(ValueError, match="core_only_share must be in"):
        NetAugSettings(core_only_share=1.5)


@pytest.mark.parametrize(("weight", "num_augments", "passes"), [(1.0, 4, 2), (0.0, 4, 1), (1.0, 0, 1)])
def test_a_baseline_is_not_validated_with_augment_nets(
    weight: float, num_augments: int, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = netaug(NetAugSettings(weight=weight))
    objective.config = replace(SMALL, num_augments=num_augments)
    calls = []
    forward = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda *given: calls.append(1) or forward(*given))
    with torch.no_grad():
        scores = objective.validate([batch_of()])
    assert len(calls) == passes
    assert ("wer_augmented" in scores) is (passes == 2)
