"""HuBERT and its students learn: the whole chain on a corpus of tones, and each loss against its formula."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgekit.core.errors import CheckpointError, SettingsError, UsageError
from edgekit.train.data.loading import Batch
from edgekit.train.families.hubert.config import Config as HubertVariant
from edgekit.train.families.hubert.model import build as build_hubert
from edgekit.train.families.hubert.objective import MaskedPrediction, MfccFrames, PredictionLosses
from edgekit.train.families.hubert.recipe import save_model
from edgekit.train.families.hubert_student.config import Config
from edgekit.train.families.hubert_student.model import build
from edgekit.train.families.hubert_student.objective import Distillation, DistilLosses
from edgekit.train.layers.features import features_of
from edgekit.train.layers.hubert.teacher import Codes, Teacher, open_teacher
from edgekit.train.layers.masking import valid
from edgekit.train.run import RunFolder

pytest.importorskip("lightning_fabric", reason="training needs edgekit[train]")

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
TEACHER = HubertVariant(**SIZES, hidden_dropout=0.0, attention_dropout=0.0)
STUDENT: dict[str, Any] = {**SIZES, "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 24}


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    save_model(folder, build_hubert(TEACHER, None).init_weights(), TEACHER, "small", ())
    return folder


@pytest.fixture(scope="module")
def teacher(teacher_folder: Path) -> Teacher:
    return open_teacher(teacher_folder)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    lengths = [9000, 6000, 4000]
    wave_BN = torch.zeros(3, 9000)
    for row, length in zip(wave_BN, lengths):
        row[:length] = torch.from_numpy(rng.normal(0, 0.1, length).astype(np.float32))
    return Batch(wave_BN, torch.tensor(lengths), ("A",) * 3, ("a", "b", "c"), epoch=0, index=0)


@pytest.fixture
def codes() -> Codes:
    torch.manual_seed(3)
    return Codes(torch.randn(7, 5), torch.randn(5, 32), torch.randn(5))


def distillation(teacher: Teacher, codes: Codes | None, front_end: str, **losses: Any) -> Distillation:
    torch.manual_seed(1)
    config = Config(**STUDENT, front_end=front_end, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)

    def nothing(folder: Path) -> None: ...

    return Distillation(
        build(config, None).init_weights(),
        features_of(config.features()),
        teacher,
        codes,
        DistilLosses(**losses),
        width=24,
        num_layers=2,
        front_end=front_end == "fbank",
        save=nothing,
    )


def test_a_teachers_states_are_those_of_transformers(teacher_folder: Path, teacher: Teacher) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.HubertModel.from_pretrained(teacher_folder).eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(teacher_folder)
    wave = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    states, frames_B = teacher.states(torch.from_numpy(wave)[None], torch.tensor([8000]))
    given = extractor(wave, sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = theirs(given, output_hidden_states=True).hidden_states
    assert len(states) == len(expected) == 3
    assert frames_B.item() == expected[0].shape[1]
    for ours, reference in zip(states, expected):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("front_end", ["fbank", "waveform"])
def test_losses_do_not_see_padding(front_end: str, teacher: Teacher, codes: Codes, batch: Batch) -> None:
    model = distillation(teacher, codes, front_end).eval()
    loud = batch.wave_BN.clone()
    for row, length in zip(loud, batch.lengths_B):
        row[length:] = 0.9
    lengths = batch.lengths_B.tolist()
    counts = [(length - 400) // 320 + 1 for length in lengths]
    for step in (0, 10**6):
        clean = model(**model.inputs(batch, step))
        noisy = model(**model.inputs(replace(batch, wave_BN=loud), step))
        items = [
            Batch(wave_N[None, :length], torch.tensor([length]), ("A",), ("a",), 0, 0)
            for wave_N, length in zip(batch.wave_BN, lengths)
        ]
        alone = [model(**model.inputs(item, step)) for item in items]
        for name, value in clean.items():
            torch.testing.assert_close(value, noisy[name], atol=1e-5, rtol=1e-4, msg=name)
            # all frames count alike, those of no item more than those of another
            mean = sum(count * values[name] for count, values in zip(counts, alone)) / sum(counts)
            torch.testing.assert_close(value, mean, atol=1e-5, rtol=1e-4, msg=name)


def test_regression_by_layers_is_its_formula(teacher: Teacher, codes: Codes, batch: Batch) -> None:
    model = distillation(teacher, codes, "waveform", cosine_weight=0.5, discriminative_weight=0.3).eval()
    values = model(**model.inputs(batch, 0))
    targets, frames_B = teacher.states(batch.wave_BN, batch.lengths_B)
    h, _ = model.student.features(batch.wave_BN, batch.lengths_B)
    states = model.student.encoder.states(h, frames_B)
    squares, cosines, divergences = [], [], []
    assert isinstance(model.regression, nn.Module)
    for item, count in enumerate(frames_B.tolist()):
        for layer in (1, 2):
            predicted = model.regression.heads[layer - 1](states[layer])[item, :count]
            target = targets[layer][item, :count]
            squares.append((predicted - target).square().mean(1))
            cosines.append(-torch.log(torch.sigmoid(nn.functional.cosine_similarity(predicted, target, dim=1))))
        e = targets[-1][item, :count] @ codes.projection_ED.T + codes.bias_E
        cosine = (e[:, None] * codes.codes_KE).sum(-1) / (e.norm(dim=1)[:, None] * codes.codes_KE.norm(dim=1))
        p = (cosine / 0.1).softmax(-1)
        assert model.discriminative is not None
        q = model.discriminative(states[-1])[item, :count].softmax(-1)
        divergences.append((p * (p / q).log()).sum(1))
    torch.testing.assert_close(values["regression"], torch.cat(squares).mean())
    torch.testing.assert_close(values["cosine"], torch.cat(cosines).mean())
    torch.testing.assert_close(values["discriminative"], torch.cat(divergences).mean(), rtol=1e-4, atol=1e-5)
    total = values["regression"] + 0.5 * values["cosine"] + 0.3 * values["discriminative"]
    torch.testing.assert_close(values["loss"], total)


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_each_kind_of_soft_labels_is_learned(kind: int, teacher: Teacher, codes: Codes, batch: Batch) -> None:
    model = distillation(teacher, codes, "waveform", discriminative=kind, regression="none").train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    values = []
    for _ in range(40):
        value = model(**model.inputs(batch, 0))["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value))
    assert values[-1] < 0.7 * values[0]


def test_prediction_reads_the_last_state_alone(teacher: Teacher, batch: Batch) -> None:
    model = distillation(teacher, None, "waveform", regression="prediction", discriminative=0, distance="l1")
    assert model.targets == (1, 2)
    values = model(**model.inputs(batch, 0))
    assert set(values) == {"loss", "regression", "cosine"}
    states = [torch.randn(1, 5, 24) for _ in range(3)]
    assert isinstance(model.regression, nn.Module)
    for found, expected in zip(model.regression(states), model.regression([states[2]])):
        torch.testing.assert_close(found, expected)


def test_layers_that_the_teacher_lacks_are_told(teacher: Teacher) -> None:
    for targets in ((1, 3), (0,)):
        with pytest.raises(SettingsError, match=r"losses.targets: expected layers in 1..2, received"):
            distillation(teacher, None, "waveform", regression="prediction", discriminative=0, targets=targets)


def test_a_teacher_of_other_frames_is_told(tone_corpus: Path, tmp_path: Path, silent: Any) -> None:
    faster = replace(TEACHER, conv_stride=(5, 2, 2, 2, 2, 2, 1))
    save_model(tmp_path / "teacher", build_hubert(faster, None).init_weights(), faster, "faster", ())
    with pytest.raises(CheckpointError, match=r"400 samples every 320, as the student's, .* every 160"):
        run("hubert-student", tone_corpus, tmp_path / "run", silent, f"teacher={tmp_path / 'teacher'}")


def test_the_front_end_learns_first_and_alone(teacher: Teacher, codes: Codes, batch: Batch) -> None:
    model = distillation(teacher, codes, "fbank", front_end_steps=5)
    model(**model.inputs(batch, 4))["loss"].backward()
    learning = {
        name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }
    assert learning == {"front_end", "weight", "bias"}  # of the front end, and of its head
    model.zero_grad()
    model(**model.inputs(batch, 5))["loss"].backward()
    assert model.student.encoder.layers[0].attention.q_proj.weight.grad.abs().sum() > 0
    assert model.front_end_head is not None
    assert model.front_end_head.weight.grad is None


def test_masked_prediction_counts_hidden_frames_alone(batch: Batch) -> None:
    torch.manual_seed(0)
    centroids_KD = torch.randn(6, 39)

    def nothing(folder: Path) -> None: ...

    model = MaskedPrediction(
        build_hubert(TEACHER, None).init_weights(),
        32,
        True,
        MfccFrames(),
        centroids_KD,
        PredictionLosses(0.5, 3),
        nothing,
    ).eval()
    torch.manual_seed(5)
    inputs = model.inputs(batch, 0)
    values = model(**inputs)
    torch.manual_seed(5)
    conv, frames_B = model.hubert.feature_extractor(inputs["x"], inputs["x_lens"])
    hidden_h, hidden_BT = model.spans(model.hubert.feature_projection(conv), frames_B)
    assert not (hidden_BT & ~valid(frames_B, hidden_BT.shape[1])).any()
    out = model.hubert.encoder(hidden_h, frames_B)
    e = model.final_proj(out)
    cosine = nn.functional.cosine_similarity(e[:, :, None], model.label_embs, dim=-1)
    losses = nn.functional.cross_entropy((cosine / 0.1)[hidden_BT], inputs["labels"][hidden_BT])
    torch.testing.assert_close(values["prediction"], losses, rtol=1e-4, atol=1e-5)


def test_recordings_without_a_hidden_frame_have_a_loss(batch: Batch) -> None:
    def nothing(folder: Path) -> None: ...

    losses = PredictionLosses(0.5, 30)  # the longest has 27 frames
    model = MaskedPrediction(
        build_hubert(TEACHER, None).init_weights(), 32, True, MfccFrames(), torch.randn(6, 39), losses, nothing
    )
    values = model(**model.inputs(batch, 0))
    assert all(bool(torch.isfinite(value)) for value in values.values())
    assert float(values["prediction"]) == 0


def test_codes_are_kept_and_held_to_the_width(tmp_path: Path, codes: Codes) -> None:
    assert Codes.load(tmp_path, 32) is None
    codes.save(tmp_path)
    found = Codes.load(tmp_path, 32)
    assert found is not None
    torch.testing.assert_close(found.codes_KE, codes.codes_KE)
    with pytest.raises(CheckpointError, match="states of 48"):
        Codes.load(tmp_path, 48)
    (tmp_path / "codes.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot read"):
        Codes.load(tmp_path, 32)


FAST = ("loop.validate_every=8", "loop.save_every=8", "data.batch_s=12", "data.workers=0", "loop.accelerator=cpu")
SMALL = tuple(f"model.{k}={','.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in SIZES.items())


def run(family: str, data: Path, out: Path, report: Any, *more: str, recipe: str | None = None, **options: Any) -> Any:
    from edgekit.train.recipe import resolve, train

    chosen, settings = resolve(family, recipe, None, data=str(data), assignments=(*SMALL, *FAST, *more), **options)
    return train(chosen, settings, out, report)


def test_the_whole_chain(tone_corpus: Path, tmp_path: Path, silent: Any) -> None:
    """Pretrain a HuBERT, distil students of both front ends, fine-tune one, export it, and read tones."""
    import edgekit
    from edgekit.export.export import ExportRequest, export

    scores = run(
        "hubert", tone_corpus, tmp_path / "hubert", silent, "clusters=5,6", "loop.steps=8", "cluster_hours=0.01"
    )
    assert scores["loss"] > 0
    teacher = tmp_path / "hubert/best"
    assert {"config.json", "model.safetensors", "codes.safetensors"} <= {file.name for file in teacher.iterdir()}
    assert load_file(teacher / "codes.safetensors")["codes"].shape == (6, 256)
    for front_end in ("fbank", "waveform"):
        out = tmp_path / front_end
        chosen = (f"model.front_end={front_end}", f"teacher={teacher}", "loop.steps=8", "losses.front_end_steps=4")
        scores = run("hubert-student", tone_corpus, out, silent, *chosen)
        assert {"loss", "regression", "discriminative"} <= scores.keys()
        assert ("front_end" in scores) is (front_end == "fbank")
    scores = run(
        "hubert-student",
        tone_corpus,
        tmp_path / "ctc",
        silent,
        f"init={tmp_path / 'fbank/best'}",
        "loop.steps=250",
        "loop.learning_rate=3e-3",
        "loop.validate_every=50",
        "ctc.time_masks=0",
        "ctc.freq_masks=0",
        recipe="ctc",
    )
    assert scores["cer"] < 0.2
    bundle = export(ExportRequest("hubert-student", str(tmp_path / "ctc/best")), tmp_path / "bundle")
    assert bundle.manifest.variant == "scaled-deep-thin-fbank"
    recogniser = edgekit.load(bundle.path)
    heard = [recogniser.transcribe(path).text for path in sorted(tone_corpus.rglob("*.flac"))]
    said = [
        line.split(" ", 1)[1] for file in sorted(tone_corpus.rglob("*.txt")) for line in file.read_text().splitlines()
    ]
    jiwer = pytest.importorskip("jiwer")
    assert jiwer.cer(said, heard) < 0.2


def test_more_steps_leave_iterations_alone_whose_clusters_were_used(
    tone_corpus: Path, tmp_path: Path, silent: Any
) -> None:
    from edgekit.train.recipe import resolve, train

    for num_steps, resume in ((2, False), (3, True)):
        fast = ("clusters=5,6", "cluster_hours=0.01", f"loop.steps={num_steps}")
        recipe, settings = resolve("hubert", None, None, data=str(tone_corpus), assignments=(*SMALL, *FAST, *fast))
        train(recipe, settings, tmp_path, silent, resume=resume)
    states = [RunFolder(tmp_path / f"iteration-{index}").load_state() for index in (1, 2)]
    assert [state.facts["step"] for state in states if state is not None] == [2, 3]


def test_a_run_without_teacher_or_data_is_told(tone_corpus: Path, tmp_path: Path, silent: Any) -> None:
    from edgekit.train.recipe import resolve

    with pytest.raises(SettingsError, match="expected a teacher"):
        run("hubert-student", tone_corpus, tmp_path / "run", silent)
    with pytest.raises(UsageError, match="expected data"):
        resolve("hubert-student", None, None)
    with pytest.raises(UsageError, match="recipe of hubert-student") as caught:
        resolve("hubert-student", "distill", None, data="x")
    assert "distil" in str(caught.value.hint)
