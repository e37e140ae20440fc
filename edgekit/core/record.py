"""One version of a speaker or class: its card, its files, and the single file in which it travels to another machine.

That file is an uncompressed zip, the same bytes for the same version. Nothing in it is trusted: names, sizes, hashes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.core.bundle import StoredFile
from edgekit.core.errors import StoreError

SCHEMA = 1
CARD = "card.json"
MAX_BYTES = 256 << 20
"""What one version may hold, and the size of a file that is imported, in bytes."""

_MAX_ENTRIES = 10_000
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9_-])?")
_WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """What is known of one version.

    Attributes:
        core: the SHA-256 of the core it was made for (`Manifest.core_hash`).
        kind: "speakers" or "classes".
        version: from 1.
        created: UTC, ISO 8601.
        details: whatever its maker notes (data, settings, layout hash, metric), as JSON holds it.
    """

    core: str
    kind: str
    name: str
    version: int
    created: str
    files: tuple[StoredFile, ...]
    details: dict[str, Any]

    def to_bytes(self) -> bytes:
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Card:
        """Raises StoreError for what is no card, or one of a newer schema."""
        try:
            data = json.loads(content)
            schema = data.pop("schema")
            if schema > SCHEMA:
                raise StoreError(f"expected schema {SCHEMA}, received {schema}", hint="pip install --upgrade edgekit")
            card = cls(**{**data, "files": tuple(StoredFile.from_json(file) for file in data["files"])})
            texts = (card.core, card.kind, check_name(card.name), card.created)
            if not (all(isinstance(t, str) for t in texts) and isinstance(card.details, dict)):
                raise ValueError(f"{texts} and its details")
            check_file_names(file.name for file in card.files)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"expected a card, received something else: {error}") from error
        return card


@dataclass(frozen=True)
class Record:
    """One version of a speaker or class, opened: its folder and its card."""

    path: Path
    card: Card

    def read(self, file: str) -> bytes:
        """The content of one file, held to its SHA-256.

        Raises:
            StoreError: no such file, or missing, altered or unreadable.
        """
        names = [stored.name for stored in self.card.files]
        if file not in names:
            raise StoreError(f"expected one of {', '.join(names)} of {self.card.name!r}, received {file!r}")
        try:
            content = (self.path / file).read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {self.path / file}: {error.strerror}", hint=self._mend()) from error
        if hashlib.sha256(content).hexdigest() != self.card.files[names.index(file)].sha256:
            raise StoreError(f"{self.path / file} was altered: its SHA-256 is not its card's", hint=self._mend())
        return content

    def contents(self) -> dict[str, bytes]:
        """Every file, checked."""
        return {file.name: self.read(file.name) for file in self.card.files}

    def pack(self) -> bytes:
        """The whole version as one file, for `unpack`."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for name, content in {CARD: self.card.to_bytes(), **self.contents()}.items():
                entry = zipfile.ZipInfo(name)  # its date is 1980-01-01, whenever it is packed
                entry.create_system, entry.external_attr = 3, 0o600 << 16
                archive.writestr(entry, content)
        return packed.getvalue()

    def _mend(self) -> str:
        return f"roll {self.card.name} back to an earlier version, or make it again"


def unpack(path: Path) -> tuple[Card, dict[str, bytes]]:
    """The card and the files, all checked, of what `Record.pack` made. Writes nothing.

    Raises:
        StoreError: no such file, not such a file, larger than `MAX_BYTES`, or altered.
    """
    try:
        packed = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    # Counted before the list of entries is read, since that list can be the bomb.
    if packed is None or packed.count(b"PK\x01\x02") > _MAX_ENTRIES:
        raise StoreError(f"expected an export of at most {MAX_BYTES >> 20} MiB, {path} is larger")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ValueError("it is compressed")
            if sum(entry.file_size for entry in entries) > len(packed):
                raise ValueError("its entries are larger than itself")
            check_file_names(entry.filename for entry in entries if entry.filename != CARD)
            contents = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, RuntimeError, EOFError, OSError) as error:
        raise StoreError(f"expected an export of a speaker or class, {path} is none: {error}") from error
    card = Card.from_bytes(contents.pop(CARD, b""))
    found = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    if found != {file.name: file.sha256 for file in card.files}:
        raise StoreError(f"{path} was altered: its files are not those of its card")
    return card, contents


def check_name(name: str) -> str:
    """`name`, if every file system can hold it: 1 to 64 of `A-Z a-z 0-9 . _ -`.

    It starts with a letter or digit, does not end with a dot, and is no device of Windows ("con", "nul.txt"). ASCII,
    so that two names that look alike are one; another spelling belongs in a card's details.

    Raises:
        StoreError: it is not such a name.
    """
    if not _NAME.fullmatch(name) or _WINDOWS_DEVICE.fullmatch(name):
        rule = "1 to 64 of A-Z a-z 0-9 . _ -, a letter or digit first, no dot last, no device of Windows"
        raise StoreError(f"expected a name of {rule}; received {name!r}", hint='a name such as "anna-2"')
    return name


def check_file_names(names: Iterable[str]) -> None:
    """Raise StoreError unless these can be the files of one version."""
    folded = [check_name(name).casefold() for name in names]
    if len({*folded, CARD}) != len(folded) + 1:
        raise StoreError(f"expected file names that differ, none of them {CARD}; received {folded}")
