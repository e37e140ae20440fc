"""Speakers of a running engine: weights from the store as a graph takes them, another speaker's with each request.

A speaker costs a question to the file system per request, so that what `edgekit adapt` makes meanwhile, in this
process or another, answers the next request; its weights are read again only then.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Union

import numpy as np

from edgekit.core.bundle import Bundle
from edgekit.core.errors import BundleError, EdgekitError, SignatureError, StoreError
from edgekit.core.record import Record, check_name, unpack
from edgekit.core.store import Store, cores
from edgekit.core.theta import INPUT, ThetaLayout
from edgekit.runtime.adapt.speaker import read_theta

KIND: Final = "speakers"
KNOWN_MIB = 256
"""Weights that a session keeps for its next requests: 33 speakers of a DisConformer s, 199 of a t. The speaker that
was asked for longest ago goes first, and is read again where it comes back."""

Speaker = Union[str, np.ndarray]
"""A name in the store, or values of theta, float32 `[P]` or `[1, P]`."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class SpeakerVersion:
    """Whose weights answered: a name in the store, and its version, from 1."""

    name: str
    version: int

    def to_json(self) -> dict[str, Any]:
        """`speaker` and `speaker_version`: what tells of a recording has the name, as corpora do."""
        return {"speaker": self.name, "speaker_version": self.version}

    def __str__(self) -> str:
        return f"{self.name} (version {self.version})"


@dataclass(frozen=True)
class Known:
    """A speaker's weights, ready for a graph.

    Attributes:
        theta: float32 `[1, P]`, contiguous. Requests share it: not to be written to.
        version: None: values were given, and no name.
    """

    # not read-only, of which OpenVINO would make a copy with each request
    theta: np.ndarray
    version: SpeakerVersion | None = None

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The graph's input."""
        return {INPUT: self.theta}


class Speakers:
    """The speakers of a bundle's core. Threads may share it.

    Args:
        bundle: whose graphs they are for.
        root: the store's folder; None: the platform's (`default_root`).
        known_mib: see `KNOWN_MIB`; the newest is kept, however large.
    """

    def __init__(self, bundle: Bundle, root: Path | str | None = None, *, known_mib: float = KNOWN_MIB) -> None:
        self.store = Store(bundle.manifest.core_hash, root)
        self._bundle, self._root, self._known_bytes = bundle, root, known_mib * 2**20
        self._known: OrderedDict[str, tuple[_Stamp | None, Known]] = OrderedDict()
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Whom there is."""
        return self.store.names(KIND)

    def find(self, speaker: Speaker) -> Known:
        """A speaker's weights: of the version that is in use now, or the values that are given, which are copied.

        Raises:
            BundleError: the bundle's graphs take nobody's weights.
            StoreError: an unknown name, a speaker of another core or layout, or one that was altered.
            SignatureError: values of another dtype or shape, or not finite.
        """
        size = self._size
        if isinstance(speaker, np.ndarray):
            shaped = speaker.dtype == np.float32 and speaker.shape in ((size,), (1, size))
            if not shaped or not np.isfinite(speaker).all():
                received = f"{speaker.dtype}{list(speaker.shape)}"
                raise SignatureError(f"expected finite values of theta float32[{size}], received {received}")
            return Known(np.array(speaker, order="C").reshape(1, size))
        stamp = self._stamp(check_name(speaker))
        with self._lock:
            kept = self._known.pop(speaker, None)
            if kept is not None and kept[0] == stamp is not None:
                self._known[speaker] = kept
                return kept[1]
        try:
            record = self.store.open(KIND, speaker)
        except StoreError as error:
            raise self._absent(speaker, error) from error
        theta_P = read_theta(record, self._layout_hash, size)
        known = Known(np.array(theta_P, order="C").reshape(1, size), SpeakerVersion(speaker, record.card.version))
        with self._lock:
            # of a version that was installed after the stamp was taken: it is read once more, at the next request
            self._known[speaker] = stamp, known
            while len(self._known) > 1 and len(self._known) * known.theta.nbytes > self._known_bytes:
                self._known.popitem(last=False)
        return known

    def find_all(self, speakers: Sequence[Speaker | None]) -> list[Known | None]:
        """Those of several requests; each speaker is looked up once, and has one version in all of them."""
        found: dict[str | int, Known] = {}
        answer = []
        for speaker in speakers:
            key = speaker if isinstance(speaker, str) else id(speaker)
            if speaker is not None and key not in found:
                found[key] = self.find(speaker)
            answer.append(found.get(key))
        return answer

    def theta(self, name: str) -> np.ndarray:
        """A speaker's weights, float32 `[1, P]`; see `find`."""
        return self.find(name).theta

    def import_from(self, path: Path | str, name: str | None = None) -> Record:
        """Install what `Store.export` wrote, as a new version of its own name or of `name`, after a look at its values.

        Raises:
            BundleError: the bundle's graphs take nobody's weights.
            StoreError: not an export, altered, for another core or layout, or not finite; nothing has changed.
        """
        card, files = unpack(Path(path))
        if (card.kind, card.core) == (KIND, self.store.core):
            with tempfile.TemporaryDirectory() as folder:
                for file, content in files.items():
                    Path(folder, file).write_bytes(content)
                read_theta(Record(Path(folder), card), self._layout_hash, self._size)
        # which refuses what is for another core
        return self.store.import_from(KIND, path, name)

    @cached_property
    def layout(self) -> ThetaLayout:
        """Which values are which parameter's.

        Raises:
            BundleError: the bundle's graphs take nobody's weights.
        """
        adaptation = self._bundle.manifest.adaptation
        if adaptation is None:
            raise BundleError(
                f"expected a bundle whose graphs take a speaker's weights, those of {self._bundle.path} take none",
                hint="edgekit export disconformer --adapt",
            )
        return adaptation.layout

    @cached_property
    def _layout_hash(self) -> str:
        return self.layout.hash

    @cached_property
    def _size(self) -> int:
        return self.layout.size

    def _stamp(self, name: str) -> _Stamp | None:
        """What changes with the version in use: the store replaces the file that says it. None: there is no such file.

        The time alone would not do: it counts in steps of milliseconds.
        """
        try:
            status = os.stat(self.store.path / KIND / name / "current")  # noqa: PTH116  (half the time of Path.stat)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _absent(self, name: str, error: StoreError) -> EdgekitError:
        """Why a speaker could not be opened, and what mends it."""
        adapt = f"edgekit adapt {self._bundle.path} --speaker {name} DATA"
        if name in self.names():
            return error
        for core in cores(self._root):
            if name in Store(core, self._root).names(KIND):
                return StoreError(
                    f"expected a speaker of the core {self.store.core[:16]}..., {name!r} is one of {core[:16]}...",
                    hint=f"open the bundle it was made with, or adapt this one: {adapt}",
                )
        return error if error.hint else StoreError(error.message, hint=adapt)
