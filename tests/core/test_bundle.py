from __future__ import annotations

import copy
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.bundle import (
    MANIFEST,
    SCHEMA,
    Artifact,
    Bundle,
    BundleWriter,
    Graph,
    Manifest,
    StoredFile,
    open_bundle,
    writing,
)
from edgekit.core.errors import BundleError, EdgekitError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec

pytestmark = [pytest.mark.device_side, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

BATCH, TIME = Dim("batch", ((1, 1, 4),)), Dim("time", ((400, 1600, 3200),))
SIGNATURE = Signature(
    (TensorSpec("x", "float32", (BATCH, TIME)),),
    (TensorSpec("logits", "float32", (BATCH, Derived("time", 400, 320, 1), 32)),),
)


def put(writer: BundleWriter, tag: int) -> Manifest:
    """Add the files of a bundle whose content is `tag`, except for one that never changes."""
    onnx = writer.add_bytes(f"graph {tag} ".encode() * 20, "infer", ".onnx")
    with writer.staging() as folder:
        (folder / "model.xml").write_text(f"<net>{tag}</net>")
        (folder / "model.bin").write_bytes(f"weights {tag} ".encode() * 30)
        openvino = tuple(writer.add(folder / name, "infer-fp16") for name in ("model.xml", "model.bin"))
    artifacts = (
        Artifact("onnx", "fp32", (onnx,), parity={"inputs": "synthesised", "atol": 1e-4, "rtol": 1e-3}),
        Artifact(
            "openvino", "fp16", openvino, reason="not executed: no such device", details={"operators": {"Add": 1}}
        ),
    )
    return Manifest(
        family="hubert-student",
        variant="tiny",
        task="ctc",
        config={"layers": [1, 2], "name": "é"},
        features={"sample_rate_hz": 16_000},
        output={"kind": "ctc"},
        provenance={"weights": {"source": "random"}, "tag": tag},
        graphs={"infer": Graph(SIGNATURE, artifacts)},
        assets={
            "tokens": writer.add_bytes(f"tokens {tag}".encode(), "tokens", ".txt"),
            "always": writer.add_bytes(b"the same", "always", ".txt"),
        },
    )


def write(path: Path, tag: int) -> Bundle:
    with writing(path) as writer:
        return writer.commit(put(writer, tag))


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
def path(tmp_path: Path) -> Path:
    write(tmp_path / "bundle", 0)
    return tmp_path / "bundle"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((path / MANIFEST).read_text())
    change(data)
    (path / MANIFEST).write_text(json.dumps(data))


# What is written is what is read.


def test_round_trip(tmp_path: Path) -> None:
    written = write(tmp_path / "new" / "bundle", 7)
    read = open_bundle(str(tmp_path / "new" / "bundle"))
    assert read == written
    assert read.manifest.weights == "random"
    assert read.manifest.core_hash == read.artifact("infer", "onnx", "fp32").files[0].sha256
    assert read.asset("tokens").read_bytes() == b"tokens 7"
    assert tag_of(read.path) == 7
    assert names(read.path) == named(read.path)


def test_the_manifest_survives_json(path: Path) -> None:
    manifest = open_bundle(path).manifest
    again = Manifest.from_json(json.loads(json.dumps(manifest.to_json())))
    assert again == manifest
    assert manifest.to_json()["schema"] == SCHEMA


def test_an_artifact_counts_its_files(path: Path) -> None:
    artifact = open_bundle(path).artifact("infer", "openvino", "fp16")
    assert artifact.file == artifact.files[0].name
    assert artifact.file.endswith(".xml")
    assert artifact.num_bytes == len("<net>0</net>") + len("weights 0 " * 30)


def test_with_artifact_adds_or_takes_the_place(path: Path) -> None:
    graph = open_bundle(path).graph()
    other = Artifact("trt", "fp16", graph.artifacts[1].files, reason="not executed: no GPU")
    assert graph.with_artifact(other).artifacts == (*graph.artifacts, other)
    newer = Artifact("onnx", "fp32", graph.artifacts[0].files, reason="not executed")
    assert graph.with_artifact(newer).artifacts == (newer, graph.artifacts[1])


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


# What is altered, missing or strange is refused.


def test_one_flipped_byte_anywhere_is_refused(path: Path) -> None:
    bundle = open_bundle(path)
    file = bundle.manifest.assets["tokens"]
    original = (path / file.name).read_bytes()
    for position in range(len(original)):
        altered = bytearray(original)
        altered[position] ^= 1
        (path / file.name).write_bytes(altered)
        with pytest.raises(BundleError, match="was altered"):
            bundle.checked(file)
    (path / file.name).write_bytes(original + b"\0")
    with pytest.raises(BundleError, match="was altered"):
        bundle.asset("tokens")


def test_a_missing_file_is_refused_with_what_mends_it(path: Path) -> None:
    bundle = open_bundle(path)
    for artifact, mends in zip(bundle.graph().artifacts, ("edgekit export hubert-student", "edgekit build")):
        (path / artifact.file).unlink()
        with pytest.raises(BundleError, match="is missing") as caught:
            bundle.checked(artifact.files[0])
        assert caught.value.hint is not None
        assert mends in caught.value.hint


def test_a_folder_in_the_place_of_a_file_is_refused(path: Path) -> None:
    bundle = open_bundle(path)
    asset = bundle.asset("tokens")
    asset.unlink()
    asset.mkdir()
    with pytest.raises(BundleError, match="is missing"):
        bundle.asset("tokens")


def test_a_file_that_cannot_be_read_is_no_traceback(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("edgekit.core.bundle.sha256_of", refuse)
    with pytest.raises(BundleError, match=r"cannot read .*Permission denied"):
        open_bundle(path).asset("tokens")


def test_a_newer_schema_asks_for_a_newer_edgekit(path: Path) -> None:
    edit(path, lambda data: data.update(schema=SCHEMA + 1, graphs="something new"))
    with pytest.raises(BundleError, match=f"has schema {SCHEMA + 1}, this edgekit reads up to {SCHEMA}") as caught:
        open_bundle(path)
    assert caught.value.hint == "pip install --upgrade edgekit"


@pytest.mark.parametrize("schema", [0, -1, "1", None, 1.5, [1]])
def test_a_schema_that_is_none(path: Path, schema: object) -> None:
    edit(path, lambda data: data.update(schema=schema))
    with pytest.raises(BundleError, match="is not a manifest"):
        open_bundle(path)


BAD_NAMES = ["../secret", "folder/file", "/etc/passwd", "..", ".", "", "folder\\file", "C:file", "nul\0byte"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_file_name_with_a_folder_is_refused(path: Path, name: str) -> None:
    with_artifact, with_asset = path, path.with_name("other")
    shutil.copytree(path, with_asset)
    edit(with_artifact, lambda data: data["graphs"]["infer"]["artifacts"][1]["files"][1].update(name=name))
    edit(with_asset, lambda data: data["assets"]["tokens"].update(name=name))
    for folder in (with_artifact, with_asset):
        with pytest.raises(BundleError, match="expected a plain file name"):
            open_bundle(folder)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"1", b'"text"', b"{}", b"\xff\xfe{}", b"[" * 100_000, b'{"schema": 1}', b"1" * 5000],
)
def test_a_manifest_that_is_none_is_refused(path: Path, text: bytes) -> None:
    (path / MANIFEST).write_bytes(text)
    with pytest.raises(BundleError, match="is not a manifest"):
        open_bundle(path)


def test_every_cut_of_a_manifest_is_refused(path: Path) -> None:
    text = (path / MANIFEST).read_bytes().rstrip()
    for end in range(0, len(text), 7):
        (path / MANIFEST).write_bytes(text[:end])
        with pytest.raises(BundleError):
            open_bundle(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.update(graphs={}),
        lambda data: data["graphs"]["infer"].update(artifacts=[]),
        lambda data: data["graphs"]["infer"]["artifacts"][0].update(files=[]),
        lambda data: data["graphs"]["infer"]["artifacts"][0].update(parity=None),
        lambda data: data["graphs"]["infer"]["artifacts"][0].update(unknown=1),
        lambda data: data["graphs"]["infer"]["signature"]["dims"]["time"].update(buckets=[[1, 2]]),
        lambda data: data["graphs"]["infer"]["signature"]["dims"].pop("time"),
        lambda data: data["assets"]["tokens"].update(sha256="0123"),
        lambda data: data["assets"]["tokens"].update(num_bytes="8"),
        lambda data: data["assets"]["tokens"].pop("num_bytes"),
        lambda data: data.pop("provenance"),
    ],
)
def test_a_manifest_with_a_hole_is_refused(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(path, change)
    with pytest.raises(BundleError, match="is not a manifest"):
        open_bundle(path)


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key in data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield (*at, key)
        yield from places(data[key], (*at, key))


@pytest.fixture(scope="module")
def sound() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder), 0).manifest.to_json()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.just(1e308) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "files"]), inner),
    max_leaves=4,
)


@given(data=st.data())
def test_whatever_stands_in_a_manifest_it_opens_or_is_refused(sound: dict[str, Any], data: st.DataObject) -> None:
    changed = json.loads(json.dumps(copy.deepcopy(sound)))
    *outer, last = data.draw(st.sampled_from(sorted(places(changed), key=repr)))
    inner = changed
    for key in outer:
        inner = inner[key]
    inner[last] = data.draw(json_values)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_text(json.dumps(changed))
        try:
            bundle = open_bundle(folder)
        except BundleError:
            return
        assert bundle.manifest.core_hash
        for file in bundle.manifest.files():
            with pytest.raises(BundleError, match="is missing"):
                bundle.checked(file)


def test_no_bundle(tmp_path: Path) -> None:
    for absent in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match="expected a bundle at"):
            open_bundle(absent)


def test_what_a_bundle_does_not_hold_is_said_with_what_it_does(path: Path) -> None:
    bundle = open_bundle(path)
    with pytest.raises(BundleError, match=r"expected a graph 'encoder' .*\['infer'\]"):
        bundle.graph("encoder")
    with pytest.raises(BundleError, match="it holds onnx fp32, openvino fp16") as caught:
        bundle.artifact("infer", "trt", "fp16")
    assert caught.value.hint == f"edgekit build {path} --format trt --precision fp16"
    with pytest.raises(BundleError, match=r"no asset 'lexicon'; it has \['always', 'tokens'\]"):
        bundle.asset("lexicon")


@pytest.mark.parametrize("checked", [{}, {"parity": {"atol": 1.0}, "reason": "not executed"}])
def test_an_artifact_is_checked_or_says_why_not(checked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="either how it was checked or why it was not"):
        Artifact("onnx", "fp32", (StoredFile("a", "0" * 64, 1),), **checked)


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


def test_what_an_export_that_failed_left_is_no_obstacle(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path / "bundle") as writer:
            writer.add_bytes(b"x", "infer", ".onnx")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert names(tmp_path / "bundle") == {".lock"}
    write(tmp_path / "bundle", 1)
    assert names(tmp_path / "bundle") == named(tmp_path / "bundle")


def test_a_damaged_bundle_can_be_written_again(path: Path) -> None:
    damaged = path / open_bundle(path).manifest.assets["tokens"].name
    damaged.write_bytes(b"altered, so its name is no longer its hash")
    edit(path, lambda data: data.update(assets={"tokens": data["assets"]["tokens"]}))
    write(path, 1)
    assert tag_of(path) == 1
    assert names(path) == named(path)


def test_sweeping_takes_all_that_is_ours(path: Path) -> None:
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


def test_sweeping_takes_nothing_of_others(path: Path, tmp_path: Path) -> None:
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


def test_a_manifest_cannot_have_the_lock_or_a_folder_swept(path: Path) -> None:
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
def test_a_disk_that_fills_keeps_the_old_bundle(path: Path) -> None:
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


def test_a_disk_without_space_keeps_the_old_bundle(tiny_disk: Path) -> None:
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
def test_a_kill_at_any_step_leaves_the_old_bundle_or_the_new(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def rewrite_for_ever(path: Path, first: int, committed: Connection) -> None:
    for tag in range(first, first + 1_000_000):
        write(path, tag)
        committed.send(tag)


@posix
def test_a_writer_killed_at_random_moments_leaves_a_sound_bundle(path: Path) -> None:
    fork, chance = multiprocessing.get_context("fork"), random.Random(0)
    for kill in range(20):
        before = tag_of(path)
        receiver, sender = fork.Pipe(duplex=False)
        writer = fork.Process(target=rewrite_for_ever, args=(path, before + 1, sender), daemon=True)
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
def test_two_writers_take_turns(path: Path) -> None:
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
