"""Writing bundles: what is swept, and what a full disk, a kill or a second writer leaves behind."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.core.bundle import MANIFEST, SCHEMA, Artifact, Bundle, Manifest, open_bundle
from edgekit.core.bundle_writer import BundleWriter, writing
from edgekit.core.errors import BundleError, EdgekitError

pytestmark = [pytest.mark.device_side, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

Put = Callable[[BundleWriter, int], Manifest]
Write = Callable[[Path, int], Bundle]


def tag_of(path: Path) -> int:
    """The tag of a bundle, after every file was held to its hash and to the tag."""
    bundle = open_bundle(path)
    tag = int(bundle.manifest.provenance["tag"])
    contents = {file.name: bundle.checked(file).read_bytes() for file in bundle.manifest.files()}
    assert len(contents) == 5
    for name, content in contents.items():
        assert str(tag).encode() in content or name.startswith("always-")
    return tag


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


def named(path: Path) -> set[str]:
    """What a bundle's folder holds where nothing is left over."""
    return {MANIFEST, ".lock"} | {file.name for file in open_bundle(path).manifest.files()}


def test_nothing_is_written_inside_the_installed_package() -> None:
    place = Path(edgekit.__file__).parent / "runtime" / "builtin" / "another"
    with pytest.raises(BundleError, match="belongs to the installed edgekit and stays as it is") as caught:
        writing(place).__enter__()
    assert caught.value.hint == "choose another --out"
    assert not place.exists()


def in_a_fork(work: Callable[[], None]) -> int:
    """Run `work` in a copy of this process; its exit status as `os.waitstatus_to_exitcode` gives it."""
    process = os.fork()
    if process == 0:
        status = 99
        try:
            work()
            status = 0
        except EdgekitError:
            status = 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.fixture
def path(tmp_path: Path, write: Write) -> Path:
    write(tmp_path / "bundle", 0)
    return tmp_path / "bundle"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((path / MANIFEST).read_text())
    change(data)
    (path / MANIFEST).write_text(json.dumps(data))


# What is written is what is read.


def test_round_trip(tmp_path: Path, write: Write) -> None:
    written = write(tmp_path / "new" / "bundle", 7)
    read = open_bundle(str(tmp_path / "new" / "bundle"))
    assert read == written
    assert read.manifest.weights == "random"
    assert read.manifest.core_hash == read.artifact("infer", "onnx", "fp32").files[0].sha256
    assert read.asset("tokens").read_bytes() == b"tokens 7"
    assert tag_of(read.path) == 7
    assert names(read.path) == named(read.path)


def test_a_name_that_is_no_text_survives(path: Path) -> None:
    manifest = replace(
        open_bundle(path).manifest, provenance={"weights": {"source": "random"}, "command": "a \udcff é"}
    )
    with writing(path) as writer:
        writer.commit(manifest)
    assert open_bundle(path).manifest == manifest


def test_the_same_content_has_the_same_name(path: Path) -> None:
    with writing(path) as writer:
        first, second = (writer.add_bytes(b"once", "stem", ".bin") for _ in range(2))
        third = writer.add_bytes(b"other", "stem", ".bin")
        assert first == second != third
        assert (path / first.name).read_bytes() == b"once"


def test_another_writer_leaves_the_files_the_manifest_keeps(path: Path) -> None:
    bundle = open_bundle(path)
    with writing(path) as writer:
        engine = writer.add_bytes(b"engine", "infer", ".plan")
        made = Artifact("trt", "fp16", (engine,), reason="not executed: no GPU", engine={"gpu": "Orin"})
        data = bundle.manifest.to_json()
        manifest = Manifest.from_json(data)
        manifest.graphs["infer"] = manifest.graphs["infer"].with_artifact(made)
        writer.commit(manifest)
    assert open_bundle(path).artifact("infer", "trt", "fp16") == made
    for file in open_bundle(path).manifest.files():
        open_bundle(path).checked(file)


# Where it may write, and what it may sweep.


@pytest.mark.parametrize("stranger", ["README.md", ".git", "manifest.json", "notes.part", "weights.onnx"])
def test_a_folder_of_others_is_refused_and_untouched(tmp_path: Path, stranger: str) -> None:
    (tmp_path / stranger).write_text('{"name": "a web page", "icons": []}')
    with pytest.raises(BundleError, match=f"expected a bundle or an empty folder, .*{stranger}"), writing(tmp_path):
        pytest.fail("opened")
    assert names(tmp_path) == {stranger}
    assert "a web page" in (tmp_path / stranger).read_text()


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match="is a file"), writing(tmp_path / "file"):
        pytest.fail("opened")
    with pytest.raises(EdgekitError, match="cannot write"), writing(tmp_path / "file" / "bundle"):
        pytest.fail("opened")


def test_what_an_export_that_failed_left_is_no_obstacle(tmp_path: Path, write: Write) -> None:
    def fail() -> None:
        with writing(tmp_path / "bundle") as writer:
            writer.add_bytes(b"x", "infer", ".onnx")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert names(tmp_path / "bundle") == {".lock"}
    write(tmp_path / "bundle", 1)
    assert names(tmp_path / "bundle") == named(tmp_path / "bundle")


def test_a_damaged_bundle_can_be_written_again(path: Path, write: Write) -> None:
    damaged = path / open_bundle(path).manifest.assets["tokens"].name
    damaged.write_bytes(b"altered, so its name is no longer its hash")
    edit(path, lambda data: data.update(assets={"tokens": data["assets"]["tokens"]}))
    write(path, 1)
    assert tag_of(path) == 1
    assert names(path) == named(path)


def test_sweeping_takes_all_that_is_ours(path: Path, put: Put) -> None:
    old = named(path)
    (path / ".staging.abcd1234.part").mkdir()
    (path / ".staging.abcd1234.part" / "half").write_bytes(b"x")
    (path / f".{MANIFEST}.0123abcd.part").write_bytes(b"{")
    (path / f"infer-{sha256(b'engine').hexdigest()[:16]}.plan").write_bytes(b"engine")
    with writing(path) as writer:
        assert names(path) == old  # before writing, since it may fill the disk
        writer.commit(put(writer, 1))
    assert names(path) == named(path)
    assert len(old & named(path)) == 3  # the lock, the manifest and the file that never changes


def test_nothing_of_a_newer_edgekit_is_swept(path: Path) -> None:
    files = names(path)
    edit(path, lambda data: data.update(schema=SCHEMA + 1))
    with writing(path):
        assert names(path) == files
    assert names(path) == files


def test_sweeping_takes_nothing_of_others(path: Path, tmp_path: Path, write: Write) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    others = {
        "README.md",
        "movie.part",
        ".movie.mkv12345.part",
        ".abcd1234.part",
        "backup-0123456789abcdef.onnx",
        ".env",
    }
    for name in others:
        (path / name).write_text("mine")
    (path / "photos-0123456789abcdef.d").mkdir()
    (path / "photos-0123456789abcdef.d" / "photo").write_text("mine")
    (path / "link-0123456789abcdef.d").symlink_to(tmp_path / "elsewhere")
    others |= {"photos-0123456789abcdef.d", "link-0123456789abcdef.d"}
    for tag in (1, 2):
        write(path, tag)
        assert names(path) == named(path) | others
    assert (path / "photos-0123456789abcdef.d" / "photo").read_text() == "mine"
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"


def test_a_manifest_cannot_have_the_lock_or_a_folder_swept(path: Path, write: Write) -> None:
    def name_them(data: dict[str, Any]) -> None:
        for name in (".lock", MANIFEST, "photos"):
            data["assets"][name] = {**data["assets"]["tokens"], "name": name}

    (path / "photos").mkdir()
    (path / "photos" / "photo").write_text("mine")
    edit(path, name_them)
    write(path, 1)
    assert names(path) == named(path) | {"photos"}
    assert tag_of(path) == 1
    assert (path / "photos" / "photo").read_text() == "mine"


# A full disk, a kill, two writers.


@posix
def test_a_disk_that_fills_keeps_the_old_bundle(path: Path, write: Write) -> None:
    import resource

    def write_below(limit: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        write(path, limit)

    size = (path / MANIFEST).stat().st_size
    for limit in (1, 11, 150, 250, 400, size - 100):
        assert in_a_fork(partial(write_below, limit)) == 1
        assert tag_of(path) == 0
    assert in_a_fork(partial(write_below, 2 * size)) == 0
    assert tag_of(path) == 2 * size
    assert names(path) == named(path)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "disk").mkdir()
    mount = shutil.which("mount")
    mounted = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=96k", "tmpfs", tmp_path / "disk"], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("may not mount a tmpfs here")
    yield tmp_path / "disk"
    subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_a_disk_without_space_keeps_the_old_bundle(tiny_disk: Path, write: Write) -> None:
    path = tiny_disk / "bundle"
    write(path, 0)
    ballast = os.statvfs(tiny_disk).f_bavail * 4096
    (tiny_disk / "ballast").write_bytes(bytes(ballast))
    num_refused = 0
    for tag in range(1, 12):
        old = tag_of(path)
        try:
            write(path, tag)
        except EdgekitError as error:
            refusal = error.message
            num_refused += 1
            assert tag_of(path) == old == 0
            assert names(path) == named(path)  # or the disk would only fill further
        else:
            assert tag_of(path) == tag
        os.truncate(tiny_disk / "ballast", ballast - tag * 4096)
    assert 2 <= num_refused <= 10
    assert "No space left on device" in refusal
    assert names(path) == named(path)


@posix
def test_a_kill_at_any_step_leaves_the_old_bundle_or_the_new(
    path: Path, monkeypatch: pytest.MonkeyPatch, write: Write
) -> None:
    """Dies before each file-system call in turn, until a writer comes through."""
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and a kill, unlike a power cut, loses nothing written

    def write_until(step: int, folder: Path) -> None:
        steps = iter(range(step, -1, -1))

        def hook(event: str, _: object) -> None:
            if event != "os.kill" and event.startswith(("open", "os.", "shutil.", "tempfile.")) and not next(steps):
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        write(folder, 1)

    found = []
    for step in range(1000):
        folder = path.with_name(f"step-{step}")
        shutil.copytree(path, folder)
        status = in_a_fork(partial(write_until, step, folder))
        found.append(tag_of(folder))
        write(folder, 2)
        assert tag_of(folder) == 2
        assert names(folder) == named(folder)
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert found == sorted(found)
    assert {0, 1} == set(found)


def rewrite_for_ever(write: Write, path: Path, first: int, committed: Connection) -> None:
    for tag in range(first, first + 1_000_000):
        write(path, tag)
        committed.send(tag)


@posix
def test_a_writer_killed_at_random_moments_leaves_a_sound_bundle(path: Path, write: Write) -> None:
    fork, chance = multiprocessing.get_context("fork"), random.Random(0)
    for kill in range(20):
        before = tag_of(path)
        receiver, sender = fork.Pipe(duplex=False)
        writer = fork.Process(target=rewrite_for_ever, args=(write, path, before + 1, sender), daemon=True)
        writer.start()
        sender.close()
        committed = receiver.recv()
        time.sleep(chance.random() * 0.03)
        writer.kill()
        writer.join()
        assert writer.exitcode == -signal.SIGKILL, f"kill {kill}"
        while True:
            try:
                committed = receiver.recv()
            except EOFError:
                break
        assert tag_of(path) in (committed, committed + 1)
    write(path, 0)
    assert names(path) == named(path)


@posix
def test_two_writers_take_turns(path: Path, write: Write) -> None:
    def write_many(first: int) -> None:
        for tag in range(first, first + 20):
            write(path, tag)

    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_many, args=(first,)) for first in (1000, 2000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert tag_of(path) in (1019, 2019)
    assert names(path) == named(path)
