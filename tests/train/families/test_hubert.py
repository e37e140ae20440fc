"""Any HuBERT of transformers, as it comes: both heads, both weight formats, old names of weight norm, own labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import HubertConfig as TransformersConfig
from transformers import HubertForCTC, HubertModel

from edgekit.core.errors import CheckpointError
from edgekit.train.families.hubert.model import load_model

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": [32] * 7,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 6,
}
VOCAB = {"<pad>": 0, "|": 1, "A": 2, "B": 3, "'": 4, "<unk>": 5}


@pytest.fixture
def fine_tuned(tmp_path: Path) -> tuple[Path, HubertForCTC]:
    torch.manual_seed(0)
    model = HubertForCTC(TransformersConfig(**SMALL)).eval()
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(VOCAB))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    return tmp_path, model


def test_a_fine_tuned_model_answers_as_in_transformers(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, theirs = fine_tuned
    variant, loaded = load_model(folder, None, None)
    assert (variant, loaded.head, loaded.tokens) == ("custom", "ctc", tuple(VOCAB))
    assert loaded.output == {"kind": "ctc", "blank": 0, "delimiter": "|", "frame_s": 0.02}
    assert loaded.features["normalise"] is False
    wave = torch.randn(1, 8000)
    with torch.no_grad():
        ours = loaded.module(wave, torch.tensor([8000]))[0]
        torch.testing.assert_close(ours, theirs(wave).logits.log_softmax(-1), atol=2e-5, rtol=1e-4)


def test_its_hidden_states_are_the_encoders(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, theirs = fine_tuned
    _, loaded = load_model(folder, None, "embedding")
    wave = torch.randn(1, 8000)
    with torch.no_grad():
        ours = loaded.module(wave, torch.tensor([8000]))[0]
        torch.testing.assert_close(ours, theirs.hubert(wave).last_hidden_state, atol=2e-5, rtol=1e-4)


def test_weights_of_older_versions_load(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, theirs = fine_tuned
    _, before = load_model(folder, None, None)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert any(name.endswith("weight_g") for name in old)
    (folder / "model.safetensors").unlink()
    torch.save(old, folder / "pytorch_model.bin")
    _, after = load_model(folder, None, None)
    wave, lengths = torch.randn(1, 4000), torch.tensor([4000])
    with torch.no_grad():
        torch.testing.assert_close(after.module(wave, lengths), before.module(wave, lengths), atol=0, rtol=0)


def test_sharded_weights_load(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, theirs = fine_tuned
    (folder / "model.safetensors").unlink()
    theirs.save_pretrained(folder, max_shard_size="50KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    assert load_model(folder, None, None)[1].head == "ctc"


def test_a_pickle_that_runs_code_is_refused(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (Path(fine_tuned[0] / "was-run"),))

    folder, _ = fine_tuned
    (folder / "model.safetensors").unlink()
    torch.save({"hubert": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_model(folder, None, None)
    assert not (folder / "was-run").exists()


def test_a_model_without_ctc_head_gives_states_and_refuses_letters(tmp_path: Path) -> None:
    HubertModel(TransformersConfig(**SMALL)).save_pretrained(tmp_path)
    assert load_model(tmp_path, None, None)[1].head == "embedding"
    with pytest.raises(CheckpointError, match="pretrained, not fine-tuned") as caught:
        load_model(tmp_path, None, "ctc")
    assert caught.value.hint == "export its hidden states: --head embedding"


def test_blank_and_delimiter_come_from_the_checkpoint(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, _ = fine_tuned
    (folder / "vocab.json").write_text(json.dumps({" ": 0, "A": 1, "B": 2, "C": 3, "[UNK]": 4, "[PAD]": 5}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"word_delimiter_token": " "}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": 5}))
    output = load_model(folder, None, None)[1].output
    assert (output["blank"], output["delimiter"]) == (5, " ")


def test_a_head_without_labels_is_refused(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, _ = fine_tuned
    (folder / "vocab.json").unlink()
    with pytest.raises(CheckpointError, match="received 0") as caught:
        load_model(folder, None, None)
    assert "vocab.json" in str(caught.value.hint)


@pytest.mark.parametrize("saved", [{"epoch": 3, "state_dict": {}}, [torch.zeros(1)]])
def test_a_file_that_is_not_tensors_by_name_is_refused(fine_tuned: tuple[Path, HubertForCTC], saved: object) -> None:
    folder, _ = fine_tuned
    (folder / "model.safetensors").unlink()
    torch.save(saved, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="expected tensors by name"):
        load_model(folder, None, None)


def test_another_variant_than_the_checkpoints_is_refused(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    with pytest.raises(CheckpointError, match="expected the sizes of large"):
        load_model(fine_tuned[0], "large", None)


def test_another_sample_rate_is_refused(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, _ = fine_tuned
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 8000}))
    with pytest.raises(CheckpointError, match="expected a model of 16000 Hz"):
        load_model(folder, None, None)


def test_labels_must_number_the_classes(fine_tuned: tuple[Path, HubertForCTC]) -> None:
    folder, _ = fine_tuned
    (folder / "vocab.json").write_text(json.dumps({"<pad>": 0, "A": 1}))
    with pytest.raises(CheckpointError, match=r"expected 6 labels for the CTC head of .*, received 2"):
        load_model(folder, None, None)


def test_neither_a_folder_nor_a_model_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="neither, or out of reach"):
        load_model("nobody/nothing", None, None)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="is a file"):
        load_model(tmp_path / "file", None, None)
