"""Writing a bundle: files first, then `os.replace` of manifest.json is the commit, one writer at a time.

A process killed anywhere leaves the old bundle or the new one; what no manifest names any more is swept before and
after every writing.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from edgekit.core.bundle import MANIFEST, Bundle, Manifest, StoredFile, is_builtin, open_bundle
from edgekit.core.errors import BundleError
from edgekit.core.files import UNFINISHED, erase, explained, locked, sha256_of, staging, sync_folder, write_atomic

_LOCK = ".lock"
_NAMED_BY_CONTENT = re.compile(r"[\w.-]+-(?P<digest>[0-9a-f]{16})\.\w+")


class BundleWriter:
    """Adds files to a bundle's folder and commits a manifest that names them. Use `writing(path)`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, source: Path, stem: str) -> StoredFile:
        """Move a finished file into the bundle under a name made of its content."""
        digest = sha256_of(source)
        name = f"{stem}-{digest[:16]}{source.suffix}"
        with explained(self.path / name):
            size = source.stat().st_size
            with source.open("rb") as file:
                os.fsync(file.fileno())
            source.replace(self.path / name)
        return StoredFile(name, digest, size)

    def add_bytes(self, content: bytes, stem: str, suffix: str) -> StoredFile:
        with self.staging() as folder:
            with explained(folder):
                (folder / f"content{suffix}").write_bytes(content)
            return self.add(folder / f"content{suffix}", stem)

    def staging(self) -> AbstractContextManager[Path]:
        """A temporary folder on the bundle's own disk."""
        return staging(self.path)

    def commit(self, manifest: Manifest) -> Bundle:
        """Make `manifest` the bundle's, atomically."""
        with explained(self.path):
            sync_folder(self.path)
        # in ASCII: the name of a file, which `provenance` may quote, need not be text that UTF-8 can hold
        write_atomic(self.path / MANIFEST, json.dumps(manifest.to_json(), indent=1).encode() + b"\n")
        return Bundle(self.path, manifest)


def _has_manifest(path: Path) -> bool:
    """Whether there is a bundle's manifest, even a damaged one or one of a newer schema."""
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (ValueError, FileNotFoundError, RecursionError):
        return False
    return isinstance(data, dict) and {"schema", "graphs"} <= set(data)


def _file_names(path: Path) -> set[str]:
    """The files that the manifest names; none where there is none.

    Raises:
        BundleError: it cannot be read.
    """
    return {file.name for file in open_bundle(path).manifest.files()} if (path / MANIFEST).exists() else set()


def _sweep(path: Path, earlier: set[str]) -> None:
    """Remove files of `earlier` manifests and of killed writers, which would take the space that this one needs."""
    with suppress(BundleError, OSError):  # a manifest of a newer schema; and what stays now is swept the next time
        keep = _file_names(path) | {MANIFEST, _LOCK}
        for entry in path.iterdir():
            if entry.name not in keep and ((entry.name in earlier and entry.is_file()) or _is_leftover(entry)):
                erase(entry)


def _is_leftover(entry: Path) -> bool:
    """Whether a killed writer left this: its name alone could be a stranger's, so its content must agree."""
    if unfinished := UNFINISHED.fullmatch(entry.name):
        return unfinished["of"] in ("staging", MANIFEST)
    named = _NAMED_BY_CONTENT.fullmatch(entry.name)
    return named is not None and entry.is_file() and sha256_of(entry).startswith(named["digest"])


def _instead(path: Path) -> str:
    """What to do where a bundle of the installed package was to be written."""
    try:
        family = open_bundle(path).manifest.family
    except BundleError:
        return "choose another --out"
    copy = shlex.join(["cp", "-r", str(path), "DIR"])
    return f"use a copy: edgekit export {family} --out DIR, or, without torch, {copy}"


@contextmanager
def writing(path: Path | str) -> Iterator[BundleWriter]:
    """Open a folder for writing a bundle, alone.

    Raises:
        BundleError: the folder holds something else than a bundle (another program's manifest.json too), is a file, or
            lies in the installed package.
    """
    path = Path(path)
    if is_builtin(path):
        raise BundleError(f"{path} belongs to the installed edgekit and stays as it is", hint=_instead(path))
    if path.exists() and not path.is_dir():
        raise BundleError(f"expected a folder to write the bundle to, {path} is a file", hint="choose another --out")
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
        if not _has_manifest(path):
            ours = (_NAMED_BY_CONTENT, UNFINISHED, re.compile(re.escape(_LOCK)))
            names = sorted(entry.name for entry in path.iterdir())
            foreign = [name for name in names if not any(pattern.fullmatch(name) for pattern in ours)]
            if foreign:
                raise BundleError(
                    f"expected a bundle or an empty folder, {path} holds other files ({', '.join(foreign[:3])})",
                    hint="choose another --out",
                )
    with locked(path / _LOCK):
        _sweep(path, set())
        earlier: set[str] = set()
        with suppress(BundleError):
            earlier = _file_names(path)
        try:
            yield BundleWriter(path)
        finally:
            _sweep(path, earlier)
