"""What a user makes, speakers and classes, apart from the bundle: `<root>/<core hash>/<kind>/<name>/<version>/`.

A version is staged, renamed into place, and committed by replacing the file `current`, which lists the versions that
count and the one in use. A process killed anywhere leaves the old state; the next change sweeps what it left.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import platformdirs

from edgekit.core.bundle import StoredFile
from edgekit.core.errors import StoreError
from edgekit.core.files import UNFINISHED, erase, explained, locked, staging, sync_folder, write_atomic
from edgekit.core.record import CARD, MAX_BYTES, Card, Record, check_file_names, check_name, unpack

Kind = Literal["speakers", "classes"]
_CORE = re.compile(r"[0-9a-f]{64}")
_CURRENT, _RESUME, _LOCK = "current", "resume", ".lock"


def default_root() -> Path:
    """Where the store lies unless `--store` says otherwise: in the platform's data directory."""
    return platformdirs.user_data_path("edgekit", appauthor=False) / "store"


def cores(root: Path | str | None = None) -> list[str]:
    """The hashes of the cores that somebody has made something for."""
    folder = default_root() if root is None else Path(root)
    return sorted(entry.name for entry in folder.iterdir() if _CORE.fullmatch(entry.name)) if folder.is_dir() else []


@dataclass(frozen=True)
class _State:
    """The file `current`: the version in use, and for each version that counts the one it was made after."""

    version: int | None
    parents: dict[int, int | None]

    @property
    def next(self) -> int:
        return max(self.parents, default=0) + 1


class Store:
    """The speakers and classes of one core.

    Args:
        core: the core's SHA-256 (`Manifest.core_hash`).
        root: the store's folder; None: `default_root()`.
    """

    def __init__(self, core: str, root: Path | str | None = None) -> None:
        if not _CORE.fullmatch(core):
            raise StoreError(f"expected the SHA-256 of a core, received {core!r}")
        self.core = core
        self.path = (default_root() if root is None else Path(root)) / core

    def names(self, kind: Kind) -> list[str]:
        return sorted(file.parent.name for file in (self.path / kind).glob(f"[!.]*/{_CURRENT}"))

    def versions(self, kind: Kind, name: str) -> list[int]:
        """The versions that can be opened or rolled back to, oldest first."""
        return sorted(self._committed(kind, name).parents)

    def open(self, kind: Kind, name: str, version: int | None = None) -> Record:
        """One version, by default the one in use. Its files are held to their hashes when they are read.

        Raises:
            StoreError: no such name or version, or a card that is broken or another's.
        """
        state = self._committed(kind, name)
        number = state.version if version is None else version
        if number not in state.parents:
            raise StoreError(f"expected a version of {name!r} in {sorted(state.parents)}, received {number}")
        path = self.path / kind / name / str(number)
        try:
            card = Card.from_bytes((path / CARD).read_bytes())
        except OSError as error:
            raise StoreError(f"cannot read {path / CARD}: {error.strerror}", hint="roll back") from error
        if (card.core, card.kind, card.name, card.version) != (self.core, kind, name, number):
            raise StoreError(f"{path} was altered: its card is that of another version or name")
        return Record(path, card)

    def write(
        self,
        kind: Kind,
        name: str,
        files: Mapping[str, bytes],
        details: Mapping[str, Any] | None = None,
        *,
        created: str | None = None,
    ) -> Record:
        """Commit a new version and put it in use. What was left to resume is erased, since it is finished.

        Args:
            files: by name (`check_name`), together less than `MAX_BYTES`.
            details: for the card; what JSON can hold.
            created: UTC, ISO 8601; None: now.

        Raises:
            StoreError: a name or a size is refused; nothing has changed.
            EdgekitError: the disk is full or the folder cannot be written; the version in use is the old one.
        """
        check_file_names(files)
        stored = [StoredFile(file, hashlib.sha256(files[file]).hexdigest(), len(files[file])) for file in sorted(files)]
        if sum(file.num_bytes for file in stored) > MAX_BYTES - (1 << 20):
            raise StoreError(f"expected less than {MAX_BYTES >> 20} MiB for {name!r}, received more")
        date = created or datetime.now(timezone.utc).isoformat(timespec="seconds")
        with self._changing(kind, name) as folder:
            state = _read_state(folder)
            card = Card(self.core, kind, name, state.next, date, tuple(stored), dict(details or {}))
            with staging(folder.parent) as staged:
                for file, content in files.items():
                    write_atomic(staged / file, content)
                write_atomic(staged / CARD, card.to_bytes())
                folder.mkdir(mode=0o700, exist_ok=True)
                staged.rename(folder / str(card.version))
                sync_folder(folder)
                sync_folder(folder.parent)
            state = _State(card.version, {**state.parents, card.version: state.version})
            write_atomic(folder / _CURRENT, json.dumps(asdict(state)).encode())
            erase(folder / _RESUME)
        return self.open(kind, name, card.version)

    def rollback(self, kind: Kind, name: str, version: int | None = None) -> Record:
        """Put an earlier version back in use, by default the one that the present one was made after.

        Raises:
            StoreError: there is none, or its files were altered; nothing has changed.
        """
        with self._changing(kind, name) as folder:
            state = self._committed(kind, name)
            number = state.parents.get(state.version or 0) if version is None else version
            if number is None:
                raise StoreError(f"expected an earlier version of {name!r}, {state.version} is the first")
            record = self.open(kind, name, number)
            record.contents()
            write_atomic(folder / _CURRENT, json.dumps(asdict(_State(number, state.parents))).encode())
        return record

    def export(self, kind: Kind, name: str, path: Path | str, version: int | None = None) -> None:
        """Write one version, by default the one in use, to a single file, for `import_from`."""
        write_atomic(Path(path), self.open(kind, name, version).pack())

    def import_from(self, kind: Kind, path: Path | str, name: str | None = None) -> Record:
        """Commit what `export` wrote as a new version of its own name, or of `name`.

        Raises:
            StoreError: not an export, altered, of another kind or for another core; nothing has changed.
        """
        card, files = unpack(Path(path))
        if card.kind != kind:
            raise StoreError(f"expected an export of {kind}, {path} is one of {card.kind}")
        if card.core != self.core:
            message = f"expected an export for the core {self.core[:16]}..., {path} is for {card.core[:16]}..."
            raise StoreError(message, hint="open the bundle it was made with")
        return self.write(kind, name or card.name, files, card.details, created=card.created)

    def resume_folder(self, kind: Kind, name: str) -> Path:
        """A folder for the state of an unfinished adaptation of `name`, which need not have a version yet."""
        with self._changing(kind, name) as folder:
            (folder / _RESUME).mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / _RESUME

    def forget(self, kind: Kind, name: str) -> None:
        """Erase every trace of a name for this core: versions, resume state, what killed processes left.

        Other cores (`cores`) and exports are other files; flash memory may keep freed blocks.

        Raises:
            StoreError: there is no trace of it, or something could not be erased (says what).
        """
        folder = self.path / kind / check_name(name)
        with locked(self.path / _LOCK):
            try:
                _sweep(folder.parent)
                if not folder.is_dir():
                    raise self._unknown(kind, name)
                # Renamed first: gone at once for readers, and swept like any unfinished folder if this is killed.
                erase(folder.rename(folder.with_name(f".staging.{secrets.token_hex(4)}.part")))
                sync_folder(folder.parent)
            except OSError as error:
                raise StoreError(f"cannot erase {error.filename}: {error.strerror}", hint="erase it by hand") from error

    @contextmanager
    def _changing(self, kind: Kind, name: str) -> Iterator[Path]:
        """The folder of a name, alone, without what killed processes left; what the system refuses is explained."""
        folder = self.path / kind / check_name(name)
        with locked(self.path / _LOCK), explained(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sweep(folder.parent)
            for other in folder.parent.iterdir():
                if other.name != name and other.name.casefold() == name.casefold():
                    raise StoreError(f"expected a name unlike {other.name!r} in more than case, received {name!r}")
            if folder.is_dir():
                _sweep_versions(folder)
            yield folder

    def _committed(self, kind: Kind, name: str) -> _State:
        state = _read_state(self.path / kind / check_name(name))
        if state.version is None:
            raise self._unknown(kind, name)
        return state

    def _unknown(self, kind: Kind, name: str) -> StoreError:
        names = self.names(kind)
        near = difflib.get_close_matches(name, names, n=1)
        expected = f"expected one of this core's {len(names)} {kind} ({', '.join(names[:10])})"
        return StoreError(f"{expected}, received {name!r}", hint=f"did you mean {near[0]}?" if near else None)


def _read_state(folder: Path) -> _State:
    try:
        data = json.loads((folder / _CURRENT).read_bytes())
        state = _State(data["version"], {int(number): parent for number, parent in data["parents"].items()})
        if state.version in state.parents:
            return state
        error: Exception = ValueError(f"version {state.version}")
    except FileNotFoundError:
        return _State(None, {})
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError) as broken:
        error = broken
    raise StoreError(f"{folder / _CURRENT} does not say which version is in use: {error}", hint="forget it") from error


def _sweep(folder: Path) -> None:
    """Remove what was being written, or forgotten, when a process was killed; for the holder of the lock."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if UNFINISHED.fullmatch(entry.name):
            erase(entry)


def _sweep_versions(folder: Path) -> None:
    """Remove the version whose commit was killed, which is always the next one."""
    _sweep(folder)
    following = _read_state(folder).next
    if any(entry.name.isdecimal() and int(entry.name) > following for entry in folder.iterdir()):
        raise StoreError(f"{folder} was altered: it has versions that {_CURRENT} does not know", hint="forget it")
    erase(folder / str(following))
