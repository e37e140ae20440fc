"""What an encoder's states become: CTC log-probabilities, or the states themselves."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgekit.core.errors import CheckpointError
from edgekit.train.checkpoint import Checkpoint
from edgekit.train.family import LoadedModel
from edgekit.train.layers.hubert.encoder import deploy, init_weights
from edgekit.train.tokens import LETTERS, ctc_output


class WithHead(nn.Module):
    """An encoder under the name `hubert`, and `lm_head` where it answers with labels (as `HubertForCTC`)."""

    def __init__(self, encoder: nn.Module, width: int, vocab_size: int | None) -> None:
        super().__init__()
        self.hubert: Any = encoder  # has `features` and, under `encoder`, its Transformer
        self.lm_head = nn.Linear(width, vocab_size) if vocab_size else None

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """`log_probs [B, T, V]` in natural logarithms, or `hidden_states [B, T, D]`; and their lengths."""
        h_BTD, lengths_B = self.hubert(x, x_lens)
        return (h_BTD if self.lm_head is None else self.lm_head(h_BTD).log_softmax(-1)), lengths_B

    def init_weights(self) -> WithHead:
        """Fresh weights as HuBERT's."""
        self.apply(init_weights)
        return self


def chosen_head(asked: str | None, has_ctc: bool, source: str) -> str:
    """The head to export: the one asked for, else CTC where the checkpoint was fine-tuned with it.

    Raises:
        CheckpointError: CTC was asked for and the checkpoint has no such head.
    """
    if asked == "ctc" and not has_ctc:
        raise CheckpointError(
            f"expected a CTC head (lm_head) in {source}, it has none: it was pretrained, not fine-tuned",
            hint="export its hidden states: --head embedding",
        )
    return asked or ("ctc" if has_ctc else "embedding")


def loaded_model(
    module: WithHead,
    config: Any,
    head: str,
    *,
    weights: dict[str, Any],
    checkpoint: Checkpoint | None = None,
) -> LoadedModel:
    """A module in its inference form, with all that its bundle must know.

    Args:
        config: the family's config, with `features()`, `vocab_size` and `frames`.
        checkpoint: where its labels are; None: random weights, and the 32 public letters.

    Raises:
        CheckpointError: the checkpoint has no labels, or they do not number the classes of the head.
    """
    module.apply(deploy).eval()
    frame_s = config.frame_s
    if head != "ctc":
        output: dict[str, Any] = {"kind": "embedding", "frame_s": frame_s}
        return LoadedModel(module, config, head, config.features(), output, weights)
    if checkpoint is None:
        tokens, blank, delimiter = LETTERS, None, None
    else:
        tokens, blank, delimiter = _labels(checkpoint, config.vocab_size)
    described = ctc_output(tokens, frame_s, blank=blank, delimiter=delimiter)
    return LoadedModel(module, config, head, config.features(), described, weights, tokens)


def _labels(checkpoint: Checkpoint, num_classes: int) -> tuple[tuple[str, ...], int | None, str | None]:
    """The labels, blank and word delimiter of a checkpoint, as `transformers`' CTC tokenizer keeps them."""
    vocab = checkpoint.json("vocab.json") or {}
    tokens = tuple(sorted(vocab, key=vocab.__getitem__))
    if sorted(vocab.values()) != list(range(num_classes)):
        raise CheckpointError(
            f"expected {num_classes} labels for the CTC head of {checkpoint.source}, received {len(tokens)}",
            hint="put the tokenizer's vocab.json beside config.json",
        )
    blank = checkpoint.config.get("pad_token_id")
    if blank is not None and not (isinstance(blank, int) and 0 <= blank < num_classes):
        raise CheckpointError(f"expected pad_token_id in 0..{num_classes - 1}, received {blank!r}")
    delimiter = (checkpoint.json("tokenizer_config.json") or {}).get("word_delimiter_token")
    return tokens, blank, delimiter if delimiter in tokens else None
