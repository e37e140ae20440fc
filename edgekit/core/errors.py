"""The one tree of errors. Every expected failure is an `EdgekitError`; only `edgekit.cli` prints them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgekitError(Exception):
    """An expected failure, told to a person.

    Args:
        message: what was expected and what was received, in that order.
        hint: the next command or step that mends it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgekitError):
    """The call itself is wrong: an unknown name, an impossible combination of options."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting's name or value does not fit its dataclass."""


class SignatureError(EdgekitError):
    """A tensor does not fit a graph's signature."""


class BundleError(EdgekitError):
    """A bundle is missing, altered, or from a newer edgekit."""


class EngineError(BundleError):
    """An engine cannot be read, or is not what its artifact says."""


class ForeignEngineError(EngineError):
    """An engine was built for another machine, or from another ONNX."""


class StoreError(EdgekitError):
    """A speaker or class is missing, altered, or belongs to another core."""


class BackendError(EdgekitError):
    """A backend cannot do what was asked of it."""


class UnavailableError(BackendError):
    """A backend, device or precision was asked for that this machine does not have."""


class AudioError(EdgekitError):
    """A recording cannot be read or cannot be used."""


class PictureError(EdgekitError):
    """A picture cannot be read or cannot be used."""


class DecodingError(EdgekitError):
    """Hotwords or a language model cannot be read, or do not fit the bundle's labels."""


class DataError(EdgekitError):
    """A corpus cannot be read, or holds nothing of use."""


class CheckpointError(EdgekitError):
    """A checkpoint cannot be read or does not fit its family."""


class ExportError(EdgekitError):
    """A graph could not be made."""


class VerificationError(EdgekitError):
    """An artifact was executed and its outputs are not what they must be."""


class TrainingError(EdgekitError):
    """Learning failed: the loss is no number, or a stage has nothing to learn from."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not among `known`, with the nearest one."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else None
    return UsageError(f"expected a {kind} among {', '.join(names)}; received {name!r}", hint=hint)
