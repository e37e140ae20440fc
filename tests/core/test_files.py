from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edgekit.core.errors import EdgekitError
from edgekit.core.files import (
    UNFINISHED,
    erase,
    explained,
    locked,
    sha256_of,
    staging,
    sync_folder,
    write_atomic,
)

pytestmark = pytest.mark.device_side

HOLDS_A_LOCK = """
import sys, time
from pathlib import Path
from edgekit.core.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

FILLS_THE_DISK = """
import resource, signal, sys
from pathlib import Path
from edgekit.core.errors import EdgekitError
from edgekit.core.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (0, 1, 5_000, 99_999):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_atomic(Path(sys.argv[1]), b"new" * 33_334)
    except EdgekitError as error:
        assert "File too large" in error.message and error.hint, error.message
    else:
        raise AssertionError(f"100 002 bytes were written below a limit of {limit}")
"""


def test_sha256_of_is_that_of_the_bytes_across_chunks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than two chunks of 1 MiB
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file.txt"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name != "posix", reason="only there folders can be synced")
def test_write_atomic_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        steps.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "sync file")
        fsync(handle)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_atomic(tmp_path / "file", b"content")
    assert steps == ["sync file", "rename", "sync folder"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_write_atomic_leaves_permissions_to_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"for the group too")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_write_atomic_keeps_the_old_file_when_the_rename_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "precious").write_bytes(b"old")
    with pytest.raises(EdgekitError, match=r"cannot write .*taken"):
        write_atomic(tmp_path / "taken", b"new")
    assert (tmp_path / "taken" / "precious").read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_write_atomic_keeps_the_old_file_when_the_disk_fills(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old" * 50_000)
    subprocess.run([sys.executable, "-c", FILLS_THE_DISK, path], check=True, timeout=60)
    assert path.read_bytes() == b"old" * 50_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_explained_turns_the_systems_refusals_only(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="No space left on device") as caught, explained(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(tmp_path) in caught.value.message
    with pytest.raises(KeyError), explained(tmp_path):
        raise KeyError("a defect, not a refusal")


def test_staging_is_private_and_removed_with_its_content(tmp_path: Path) -> None:
    def fail() -> None:
        with staging(tmp_path) as folder:
            assert folder.parent == tmp_path
            assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
            found = UNFINISHED.fullmatch(folder.name)
            assert found
            assert found["of"] == "staging"
            (folder / "file").write_bytes(b"x")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not list(tmp_path.iterdir())


def test_staging_may_be_renamed_away(tmp_path: Path) -> None:
    with staging(tmp_path) as folder:
        (folder / "file").write_bytes(b"x")
        folder.rename(tmp_path / "kept")
    assert (tmp_path / "kept" / "file").read_bytes() == b"x"


def test_staging_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="cannot write"), staging(tmp_path / "absent"):
        pass


def test_a_disk_that_fills_inside_staging_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match=r"cannot write .*No space left"), staging(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_what_a_killed_write_leaves_is_known_as_unfinished(tmp_path: Path) -> None:
    killed = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from edgekit.core.files import write_atomic
        sys.addaudithook(lambda event, _: event == "os.rename" and os.kill(os.getpid(), signal.SIGKILL))
        write_atomic(Path(sys.argv[1]) / "manifest.json", b"content")
    """)
    assert subprocess.run([sys.executable, "-c", killed, tmp_path], timeout=60).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    found = UNFINISHED.fullmatch(left.name)
    assert found
    assert found["of"] == "manifest.json"


def test_erase_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "file").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "target")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("folder", "link", "absent"):
        erase(tmp_path / name)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["target", "target/file"]


def test_sync_folder_accepts_a_file_system_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        def fsync(_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    refuse(errno.EINVAL)
    sync_folder(tmp_path)
    refuse(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync_folder(tmp_path)


def test_locked_waits_no_longer_than_it_was_told_and_names_the_reason(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDS_A_LOCK, tmp_path / ".lock"], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(EdgekitError, match="another process has been writing") as caught:  # noqa: SIM117
                with locked(tmp_path / ".lock", timeout_s=0.1):
                    pytest.fail("two hold one lock")
            assert str(caught.value.hint).startswith("run this again when it is done")
            assert str(tmp_path / ".lock") in str(caught.value.hint)
        finally:
            other.kill()
    with locked(tmp_path / ".lock", timeout_s=5):  # a killed process holds nothing
        pass


def test_locked_lets_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), locked(tmp_path / ".lock"):
        raise RuntimeError("stop")
    with locked(tmp_path / ".lock", timeout_s=0.1):
        pass


def test_locked_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EdgekitError, match="cannot write"), locked(tmp_path / "file" / ".lock"):
        pass
