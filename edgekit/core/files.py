"""Writing files so that a kill or a full disk loses nothing: hashes, atomic writes, staging, durable renames, locks."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from edgekit.core.errors import EdgekitError

UNFINISHED = re.compile(r"\.(?P<of>[\w.-]+)\.\w{8}\.part")
"""The names of what `write_atomic` (of: the file) and `staging` (of: "staging") leave behind when they are killed."""


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees its old content or the new, never a part.

    Raises:
        EdgekitError: the disk is full or the folder cannot be written; the old content is kept.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not mkstemp: its 0600 would hide a bundle made by one user from the service that runs it as another.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems cannot sync a folder
                raise
        finally:
            os.close(handle)


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A temporary folder inside `folder`, on its disk and for this user only; removed on leaving, unless renamed.

    Raises:
        EdgekitError: `folder` cannot be written, or what is done inside meets a full disk.
    """
    with explained(folder):
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".staging.", suffix=".part"))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def erase(path: Path) -> None:
    """Remove a file, a link (not what it points to) or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing into `EdgekitError`."""
    try:
        yield
    except OSError as error:
        raise EdgekitError(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some space or choose another folder; what was there before is unchanged",
        ) from error


@contextmanager
def locked(path: Path, *, timeout_s: float = 60.0, busy: EdgekitError | None = None) -> Iterator[None]:
    """Hold an advisory lock file, so that two processes do not write at once.

    Args:
        busy: what is raised where another process keeps it for longer than `timeout_s`; None: that it writes there.

    Raises:
        EdgekitError: another process kept it for longer than `timeout_s`.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    with explained(path):
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout as error:  # is an OSError, so it must be told apart first
            raise busy or EdgekitError(
                f"another process has been writing {path.parent} for {timeout_s:.0f} s; nothing was changed",
                hint=f"run this again when it is done (engines take minutes to build); fuser -v {path} names it",
            ) from error
    try:
        yield
    finally:
        lock.release()
