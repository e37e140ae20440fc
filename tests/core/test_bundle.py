"""Reading bundles: what the manifest says, and that anything altered, missing or strange is refused."""

from __future__ import annotations

import copy
import json
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.bundle import MANIFEST, SCHEMA, Artifact, Bundle, Manifest, StoredFile, build_command, open_bundle
from edgekit.core.errors import BundleError

pytestmark = pytest.mark.device_side

Write = Callable[[Path, int], Bundle]


@pytest.fixture
def path(tmp_path: Path, write: Write) -> Path:
    write(tmp_path / "bundle", 0)
    return tmp_path / "bundle"


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((path / MANIFEST).read_text())
    change(data)
    (path / MANIFEST).write_text(json.dumps(data))


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


BAD_NAMES = ["../secret", "folder/file", "/etc/passwd", "..", ".", "", "folder\\file", "C:file", "nul\0byte", "a" * 256]


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
        lambda data: data["graphs"]["infer"]["artifacts"][0].update(format="openvino"),
        lambda data: data["graphs"]["infer"]["artifacts"][1].update(precision=16),
        lambda data: data["graphs"]["infer"]["artifacts"][1].update(details=[]),
        lambda data: data["graphs"]["infer"]["artifacts"][1].update(details={"hinted": {"bf16": {"parity": {}}}}),
        lambda data: data["graphs"]["infer"]["artifacts"][1].update(engine=0),
        lambda data: data["graphs"]["infer"]["artifacts"][1].update(reason=0),
        lambda data: data["graphs"]["infer"]["artifacts"][1].update(failed=1),
        lambda data: data["graphs"]["infer"]["artifacts"][0].update(parity=[]),
        lambda data: data["assets"]["tokens"].update(sha256="0123"),
        lambda data: data["assets"]["tokens"].update(num_bytes=-1),
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
def sound(write: Write) -> dict[str, Any]:
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


def test_what_is_hinted_is_the_artifact_with_a_check_of_its_own() -> None:
    check = {"parity": None, "reason": "wrong answers", "failed": True}
    file = StoredFile("a.xml", "0" * 64, 1)
    artifact = Artifact(
        "openvino", "fp32", (file,), parity={"atol": 1.0}, details={"ops": 1, "hinted": {"bf16": check}}
    )
    wrong = Artifact("openvino", "bf16", (file,), reason="wrong answers", failed=True)
    assert artifact.hinted() == {"bf16": wrong}
    assert wrong.hinted() == {}


def test_a_command_is_for_a_shell() -> None:
    command = build_command(Path("my bundles/a"), "trt", "fp16")
    words = ["edgekit", "build", "my bundles/a", "--format", "trt", "--precision", "fp16"]
    assert shlex.split(command) == words
