from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import stat
import string
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgekit.core.errors import EdgekitError, StoreError
from edgekit.core.record import CARD, SCHEMA, Record, check_name, unpack
from edgekit.core.store import Store, cores, default_root

pytestmark = [pytest.mark.device_side, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

CORE, OTHER_CORE = "0123456789abcdef" * 4, "f" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(CORE, tmp_path / "store")


def write(store: Store, tag: int, name: str = "anna") -> Record:
    files = {"theta.npy": f"theta {tag} ".encode() * 50, "statistics.npy": f"statistics {tag} ".encode() * 5}
    return store.write("speakers", name, files, {"tag": tag})


def tag_of(record: Record) -> int:
    """The tag of a version, after every file was held to its hash and to the tag."""
    tag = int(record.card.details["tag"])
    for content in record.contents().values():
        assert f" {tag} ".encode() in content
    assert set(record.contents()) == {"theta.npy", "statistics.npy"}
    return tag


def tags(store: Store) -> list[int]:
    return [tag_of(store.open("speakers", "anna", version)) for version in store.versions("speakers", "anna")]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def expected(name: str, versions: list[int], kind: str = "speakers") -> set[str]:
    """All that lies below a kind's folder where nothing is left over."""
    files = ("", f"/{CARD}", "/theta.npy", "/statistics.npy")
    return {name, f"{name}/current"} | {f"{name}/{version}{file}" for version in versions for file in files}


# What is written is what is read.


def test_round_trip(store: Store) -> None:
    files = {"theta.npy": bytes(range(256)), "empty": b""}
    record = store.write("speakers", "Anna-2", files, {"wer": 0.1, "data": ["a.wav", None]})
    assert store.open("speakers", "Anna-2") == record
    assert record.contents() == files
    assert record.read("theta.npy") == files["theta.npy"]
    card = record.card
    assert (card.core, card.kind, card.name, card.version) == (CORE, "speakers", "Anna-2", 1)
    assert card.details == {"wer": 0.1, "data": ["a.wav", None]}
    assert card.created.endswith("+00:00")
    assert {file.name: file.sha256 for file in card.files} == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    assert record.path == store.path / "speakers" / "Anna-2" / "1"


def test_a_version_without_files(store: Store) -> None:
    assert store.write("classes", "cat", {}).contents() == {}


def test_versions_are_counted_and_the_newest_is_in_use(store: Store) -> None:
    for tag in (10, 20, 30):
        write(store, tag)
    assert store.versions("speakers", "anna") == [1, 2, 3]
    assert tag_of(store.open("speakers", "anna")) == 30
    assert tags(store) == [10, 20, 30]
    assert everything(store.path / "speakers") == expected("anna", [1, 2, 3])


def test_kinds_names_and_cores_are_apart(tmp_path: Path) -> None:
    first, second = Store(CORE, tmp_path), Store(OTHER_CORE, str(tmp_path))
    for name in ("ben", "anna"):
        write(first, 1, name)
    first.write("classes", "cat", {})
    write(second, 2, "anna")
    assert first.names("speakers") == ["anna", "ben"]
    assert first.names("classes") == ["cat"]
    assert second.names("classes") == []
    assert tag_of(second.open("speakers", "anna")) == 2
    (tmp_path / "notes").mkdir()
    assert cores(tmp_path) == [CORE, OTHER_CORE]
    assert cores(tmp_path / "absent") == []


@pytest.mark.skipif(sys.platform != "linux", reason="XDG_DATA_HOME")
def test_the_default_is_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_root() == tmp_path / "edgekit" / "store"
    write(Store(CORE), 1)
    assert cores() == [CORE]
    assert (tmp_path / "edgekit" / "store" / CORE / "speakers" / "anna" / "1" / CARD).is_file()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_nobody_else_may_read_it(store: Store) -> None:
    record = write(store, 1)
    for folder in (record.path, record.path.parent, store.resume_folder("speakers", "ben")):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("core", ["", "abc", CORE.upper(), "../" + CORE[3:], CORE + "\n"])
def test_a_core_is_a_hash(core: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected the SHA-256 of a core"):
        Store(core, tmp_path)


# Names.


@pytest.mark.parametrize(
    "name", ["a", "7", "Anna", "anna-2", "anna_b.v1", "a" * 64, "console", "com", "com10", "a.con"]
)
def test_names_that_are_good(store: Store, name: str) -> None:
    write(store, 1, name)
    assert store.names("speakers") == [name]


BAD_NAMES = [
    *("", ".", "..", "../anna", "a/b", "a\\b", "/etc", "C:a", "a\0b", "a\nb", "anna\n", " anna", "anna ", "two words"),
    *(".hidden", "-rf", "_a", "anna.", "a*", "a?", "~", "$HOME", "%2e%2e", "a" * 65, "\u202eanna"),
    *("con", "CON", "nul.txt", "Aux", "prn", "com1", "LPT9.tar.gz"),
    *("jose\u0301", "josé", "аnna", "ａnna", "anna\u200b", "ﬁ", "李"),  # the third begins with a Cyrillic letter
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_refused_everywhere(store: Store, name: str, tmp_path: Path) -> None:
    archive = tmp_path / "export"
    write(store, 1)
    store.export("speakers", "anna", archive)
    before = everything(tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: write(store, 1, name),
        lambda: store.open("speakers", name),
        lambda: store.versions("speakers", name),
        lambda: store.rollback("speakers", name),
        lambda: store.forget("speakers", name),
        lambda: store.resume_folder("speakers", name),
        lambda: store.export("speakers", name, tmp_path / "never"),
        lambda: store.write("speakers", "anna", {name: b"a file of this name"}),
    ]
    if name:
        calls.append(lambda: store.import_from("speakers", archive, name))
    for call in calls:
        with pytest.raises(StoreError, match="expected a name of 1 to 64 of"):
            call()
    assert everything(tmp_path) == before


@given(st.text() | st.text(string.ascii_letters + "0189._-/\\: \n", max_size=70) | st.sampled_from(BAD_NAMES))
@example("con.")
def test_whatever_is_a_name_is_a_plain_one(name: str) -> None:
    try:
        check_name(name)
    except StoreError:
        return
    assert set(name) <= set(string.ascii_letters + string.digits + "._-")
    assert 1 <= len(name) <= 64
    assert name[0].isalnum()
    assert name[-1] != "."
    assert name.split(".")[0].lower() not in {
        "con",
        "prn",
        "aux",
        "nul",
        *(f"{d}{i}" for d in ("com", "lpt") for i in range(10)),
    }


def test_names_that_differ_in_case_only_are_one_name(store: Store) -> None:
    write(store, 1, "Anna")
    for change in (lambda: write(store, 2, "anna"), lambda: store.resume_folder("speakers", "ANNA")):
        with pytest.raises(StoreError, match="expected a name unlike 'Anna' in more than case"):
            change()
    assert store.names("speakers") == ["Anna"]


@pytest.mark.parametrize("files", [{CARD: b""}, {"CARD.json": b""}, {"a.npy": b"", "A.npy": b""}])
def test_file_names_that_cannot_lie_together(store: Store, files: dict[str, bytes]) -> None:
    with pytest.raises(StoreError, match="expected file names that differ"):
        store.write("speakers", "anna", files)


def test_an_unknown_name_or_version_is_said_with_the_known(store: Store) -> None:
    with pytest.raises(StoreError, match=r"expected one of this core's 0 speakers \(\), received 'anna'"):
        store.open("speakers", "anna")
    write(store, 1)
    with pytest.raises(StoreError, match=r"1 speakers \(anna\), received 'ana'") as caught:
        store.open("speakers", "ana")
    assert caught.value.hint == "did you mean anna?"
    for version in (0, 2, -1):
        with pytest.raises(StoreError, match=rf"expected a version of 'anna' in \[1\], received {version}"):
            store.open("speakers", "anna", version)
    with pytest.raises(StoreError, match=r"expected one of statistics.npy, theta.npy of 'anna', received 'x'"):
        store.open("speakers", "anna").read("x")


# What is altered is refused.


def test_one_flipped_byte_anywhere_is_refused(store: Store) -> None:
    record = write(store, 1)
    file = record.path / "statistics.npy"
    original = file.read_bytes()
    for position in range(len(original)):
        altered = bytearray(original)
        altered[position] ^= 1
        file.write_bytes(altered)
        with pytest.raises(StoreError, match="was altered"):
            record.read("statistics.npy")
    file.unlink()
    with pytest.raises(StoreError, match="cannot read"):
        record.contents()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        b'{"schema": "1"}',
        b'{"schema": 1}',
        b'{"schema": 1, "x": 2}',
    ],
)
def test_a_card_that_is_none(store: Store, text: bytes) -> None:
    (write(store, 1).path / CARD).write_bytes(text)
    with pytest.raises(StoreError, match="expected a card"):
        store.open("speakers", "anna")


CARD_CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"schema": SCHEMA + 1}, f"expected schema {SCHEMA}, received {SCHEMA + 1}"),
    ({"core": OTHER_CORE}, "card is that of another"),
    ({"kind": "classes"}, "card is that of another"),
    ({"name": "ben"}, "card is that of another"),
    ({"version": 2}, "card is that of another"),
    ({"name": "../anna"}, "expected a name"),
    ({"core": 5}, "expected a card"),
    ({"created": None}, "expected a card"),
    ({"details": []}, "expected a card"),
    ({"files": [{"name": "../../x", "sha256": "0" * 64, "num_bytes": 1}]}, "expected a card"),
    ({"files": [{"name": "x y", "sha256": "0" * 64, "num_bytes": 1}]}, "expected a name"),
    ({"files": [{"name": "x", "sha256": "0", "num_bytes": 1}]}, "expected a card"),
]


@pytest.mark.parametrize(("change", "message"), CARD_CHANGES)
def test_a_card_that_is_anothers(store: Store, change: dict[str, Any], message: str) -> None:
    card = write(store, 1).path / CARD
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(StoreError, match=message):
        store.open("speakers", "anna")


@pytest.mark.parametrize("text", ["", "1", "[]", '{"version": 2, "parents": {"1": null}}', '{"version": 1}', "null"])
def test_a_pointer_that_is_none_changes_nothing(store: Store, text: str) -> None:
    write(store, 1)
    pointer = store.path / "speakers" / "anna" / "current"
    pointer.write_text(text)
    calls: list[Callable[[], object]] = [
        lambda: store.open("speakers", "anna"),
        lambda: write(store, 2),
        lambda: store.rollback("speakers", "anna"),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="does not say which version is in use"):
            call()
    assert everything(store.path / "speakers") == expected("anna", [1])
    store.forget("speakers", "anna")


def test_a_lost_pointer_costs_no_version(store: Store) -> None:
    for tag in (1, 2):
        write(store, tag)
    (store.path / "speakers" / "anna" / "current").unlink()
    with pytest.raises(StoreError, match="it has versions that current does not know"):
        write(store, 3)
    assert {"anna/1/theta.npy", "anna/2/theta.npy"} <= everything(store.path / "speakers")


# Rollback.


def test_rollback_follows_what_each_version_was_made_after(store: Store) -> None:
    for tag in (10, 20, 30):
        write(store, tag)
    assert tag_of(store.rollback("speakers", "anna")) == 20
    assert tag_of(store.open("speakers", "anna")) == 20
    write(store, 40)
    assert tag_of(store.open("speakers", "anna")) == 40
    assert tag_of(store.rollback("speakers", "anna")) == 20  # not 30, which was rolled back already
    assert tag_of(store.rollback("speakers", "anna", 3)) == 30
    assert tag_of(store.rollback("speakers", "anna", 1)) == 10
    with pytest.raises(StoreError, match="expected an earlier version of 'anna', 1 is the first"):
        store.rollback("speakers", "anna")
    with pytest.raises(StoreError, match="received 9"):
        store.rollback("speakers", "anna", 9)
    assert tags(store) == [10, 20, 30, 40]


def test_rollback_to_an_altered_version_is_refused(store: Store) -> None:
    (write(store, 1).path / "theta.npy").write_bytes(b"altered")
    write(store, 2)
    with pytest.raises(StoreError, match="was altered"):
        store.rollback("speakers", "anna")
    assert tag_of(store.open("speakers", "anna")) == 2


def test_rollback_needs_no_sound_card_of_the_present_version(store: Store) -> None:
    write(store, 1)
    (write(store, 2).path / CARD).write_bytes(b"broken")
    assert tag_of(store.rollback("speakers", "anna")) == 1


# Forget.


def test_forget_leaves_no_trace(store: Store, tmp_path: Path) -> None:
    kind = store.path / "speakers"
    write(store, 1, "ben")
    before = everything(store.path)
    for tag in (1, 2):
        write(store, tag, "zoe")
    (store.resume_folder("speakers", "zoe") / "optimiser.npy").write_bytes(b"state of zoe")
    shutil.copytree(kind / "zoe", kind / ".staging.abcd1234.part" / "forgotten")  # of a writer that was killed
    (kind / "zoe" / ".current.0123abcd.part").write_bytes(b"zoe")
    store.forget("speakers", "zoe")
    assert everything(store.path) == before
    for path in tmp_path.rglob("*"):
        assert "zoe" not in path.name
        assert not path.is_file() or b"zoe" not in path.read_bytes()
    assert store.names("speakers") == ["ben"]
    with pytest.raises(StoreError, match="received 'zoe'"):
        store.forget("speakers", "zoe")


def test_forget_takes_what_never_was_committed(store: Store) -> None:
    (store.resume_folder("speakers", "zoe") / "state").write_bytes(b"x")
    store.forget("speakers", "zoe")
    assert everything(store.path / "speakers") == set()


def test_forget_takes_no_other_kind_core_or_name(store: Store) -> None:
    other = Store(OTHER_CORE, store.path.parent)
    for kept in (store, other):
        kept.write("classes", "anna", {})
        write(kept, 1, "anna-2")
        write(kept, 1)
    store.forget("speakers", "anna")
    assert store.names("speakers") == ["anna-2"]
    assert store.names("classes") == ["anna"]
    assert other.names("speakers") == ["anna", "anna-2"]


def test_a_name_that_was_forgotten_begins_anew(store: Store) -> None:
    for tag in (1, 2):
        write(store, tag)
    store.forget("speakers", "anna")
    assert write(store, 3).card.version == 1
    assert tags(store) == [3]


def test_what_cannot_be_erased_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    write(store, 1)
    monkeypatch.setattr("edgekit.core.store.erase", refuse)
    with pytest.raises(StoreError, match=r"cannot erase .*speakers.*: Permission denied"):
        store.forget("speakers", "anna")


# Resume state.


def test_resume_state_lives_until_it_is_finished(store: Store) -> None:
    folder = store.resume_folder("speakers", "anna")
    (folder / "state").write_bytes(b"half")
    assert store.names("speakers") == []
    assert (store.resume_folder("speakers", "anna") / "state").read_bytes() == b"half"
    write(store, 1)
    assert everything(store.path / "speakers") == expected("anna", [1])
    (store.resume_folder("speakers", "anna") / "state").write_bytes(b"half")
    store.rollback("speakers", "anna", 1)
    assert (folder / "state").read_bytes() == b"half"


# Export and import.


def exported(store: Store, path: Path) -> dict[str, bytes]:
    store.export("speakers", "anna", path)
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def packed(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return made.getvalue()


def test_an_export_is_the_same_bytes_for_the_same_version(store: Store, tmp_path: Path) -> None:
    for tag in (1, 2):
        write(store, tag)
    store.export("speakers", "anna", tmp_path / "first", 1)
    time.sleep(0.01)
    for file in (store.path / "speakers" / "anna" / "1").iterdir():
        os.utime(file, (1e9, 1e9))
    store.export("speakers", "anna", tmp_path / "deeper" / "second", 1)
    store.export("speakers", "anna", tmp_path / "other")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "deeper" / "second").read_bytes()
    assert (tmp_path / "first").read_bytes() != (tmp_path / "other").read_bytes()
    with zipfile.ZipFile(tmp_path / "first") as archive:
        assert archive.namelist() == [CARD, "statistics.npy", "theta.npy"]


def test_an_export_is_these_bytes_on_every_python(store: Store, tmp_path: Path) -> None:
    store.write("speakers", "anna", {"a": b"one", "b": b""}, {"x": 1}, created="2026-01-01T00:00:00+00:00")
    store.export("speakers", "anna", tmp_path / "export")
    digest = hashlib.sha256((tmp_path / "export").read_bytes()).hexdigest()
    assert digest == "d028f783778a28cc69a977dab5feb18517918010a9bda5bfb614630ec06ed9fd"


def test_import_makes_a_new_version_with_the_old_date(store: Store, tmp_path: Path) -> None:
    there = Store(CORE, tmp_path / "there")
    original = store.write("speakers", "anna", {"a": b"one"}, {"x": 1}, created="2001-01-01T00:00:00+00:00")
    store.export("speakers", "anna", tmp_path / "export")
    write(there, 5)
    record = there.import_from("speakers", str(tmp_path / "export"))
    assert (record.card.version, record.card.created) == (2, original.card.created)
    assert (record.contents(), record.card.details) == ({"a": b"one"}, {"x": 1})
    assert there.import_from("speakers", tmp_path / "export", "berta").card.name == "berta"
    assert tag_of(there.rollback("speakers", "anna")) == 5


def test_an_export_of_what_was_altered_is_refused(store: Store, tmp_path: Path) -> None:
    (write(store, 1).path / "theta.npy").write_bytes(b"altered")
    with pytest.raises(StoreError, match="was altered"):
        store.export("speakers", "anna", tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_import_of_another_core_or_kind_is_refused(store: Store, tmp_path: Path) -> None:
    write(store, 1)
    store.export("speakers", "anna", tmp_path / "export")
    there = Store(OTHER_CORE, tmp_path / "there")
    with pytest.raises(
        StoreError, match=r"expected an export for the core ffffffffffffffff\.\.\., .* 0123456789abcdef"
    ):
        there.import_from("speakers", tmp_path / "export")
    with pytest.raises(StoreError, match=r"expected an export of classes, .* is one of speakers"):
        store.import_from("classes", tmp_path / "export")
    assert cores(tmp_path / "there") == []
    assert store.versions("speakers", "anna") == [1]


def test_import_of_what_is_no_export(store: Store, tmp_path: Path) -> None:
    for content in (b"", b"text", b"PK\x05\x06" + bytes(18), b"PK" * 1000):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(StoreError, match=r"expected (an export|a card)"):
            store.import_from("speakers", tmp_path / "file")
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(StoreError, match="cannot read"):
            store.import_from("speakers", path)
    assert not store.path.exists()


ESCAPES = [
    "../evil",
    "/tmp/evil",
    "a/../../evil",
    "..\\evil",
    "C:\\evil",
    "sub/file",
    "sub/",
    ".hidden",
    "nul",
    "e\u0301",
]


@pytest.mark.parametrize("name", ESCAPES)
def test_an_archive_that_would_write_elsewhere_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    write(store, 1)
    entries = exported(store, tmp_path / "export")
    card = json.loads(entries[CARD])
    card["files"].append({"name": name, "sha256": hashlib.sha256(b"evil").hexdigest(), "num_bytes": 4})
    before = everything(tmp_path)
    for evil in ({**entries, name: b"evil"}, {**entries, CARD: json.dumps(card).encode(), name: b"evil"}):
        (tmp_path / "export").write_bytes(packed(evil))
        with pytest.raises(StoreError):
            store.import_from("speakers", tmp_path / "export")
    assert everything(tmp_path) == before
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(("change", "message"), [change for change in CARD_CHANGES if "version" not in change[0]])
def test_an_archive_with_a_bad_card_is_refused(
    store: Store, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(store, 1)
    entries = exported(store, tmp_path / "export")
    card = {**json.loads(entries[CARD]), **change}
    (tmp_path / "export").write_bytes(packed({**entries, CARD: json.dumps(card).encode()}))
    if change == {"name": "ben"}:
        assert store.import_from("speakers", tmp_path / "export").card.name == "ben"
    else:
        with pytest.raises(StoreError, match=message.replace("card is that of another", "expected an export ")):
            store.import_from("speakers", tmp_path / "export")


def test_an_archive_whose_files_are_not_its_cards_is_refused(store: Store, tmp_path: Path) -> None:
    write(store, 1)
    entries = exported(store, tmp_path / "export")
    altered = [
        {**entries, "theta.npy": b"altered"},
        {**entries, "more": b"not in the card"},
        {name: content for name, content in entries.items() if name != "theta.npy"},
    ]
    for archive in altered:
        (tmp_path / "export").write_bytes(packed(archive))
        with pytest.raises(StoreError, match="its files are not those of its card"):
            store.import_from("speakers", tmp_path / "export")
    (tmp_path / "export").write_bytes(packed({name: c for name, c in entries.items() if name != CARD}))
    with pytest.raises(StoreError, match="expected a card"):
        store.import_from("speakers", tmp_path / "export")
    assert store.versions("speakers", "anna") == [1]


def test_an_archive_with_two_files_of_one_name_is_refused(store: Store, tmp_path: Path) -> None:
    write(store, 1)
    entries = exported(store, tmp_path / "export")
    twice = packed({**entries, "statistics.NPY": entries["statistics.npy"]})
    (tmp_path / "export").write_bytes(twice)
    with pytest.raises(StoreError, match="expected file names that differ"):
        store.import_from("speakers", tmp_path / "export")
    (tmp_path / "export").write_bytes(twice.replace(b"statistics.NPY", b"statistics.npy"))
    with pytest.raises(StoreError, match="expected file names that differ"):
        store.import_from("speakers", tmp_path / "export")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_is_refused_before_it_unfolds(store: Store, tmp_path: Path, method: int) -> None:
    write(store, 1)
    entries = exported(store, tmp_path / "export")
    (tmp_path / "export").write_bytes(packed({**entries, "theta.npy": bytes(50 << 20)}, method))
    assert (tmp_path / "export").stat().st_size < 1 << 20
    with pytest.raises(StoreError, match="it is compressed"):
        store.import_from("speakers", tmp_path / "export")


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    archive = bytearray(packed({CARD: b"{}"}))
    for signature, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        archive[archive.index(signature) + flags] |= 1
    (tmp_path / "export").write_bytes(archive)
    with pytest.raises(StoreError, match=r"is none: .*encrypted"):
        unpack(tmp_path / "export")


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    archive = bytearray(packed({CARD: b"{}", "theta.npy": b"x" * 100}))
    size = archive.rindex(b"PK\x01\x02") + 24
    archive[size : size + 4] = (1 << 30).to_bytes(4, "little")
    (tmp_path / "export").write_bytes(archive)
    with pytest.raises(StoreError, match="its entries are larger than itself"):
        unpack(tmp_path / "export")


def test_a_list_of_too_many_entries_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "export").write_bytes(packed({f"file{number}": b"" for number in range(10_001)}))
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("read"))
    with pytest.raises(StoreError, match="is larger"):
        unpack(tmp_path / "export")


def test_sizes_are_limited(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, 1)
    store.export("speakers", "anna", tmp_path / "export")
    monkeypatch.setattr("edgekit.core.record.MAX_BYTES", 100)
    with pytest.raises(StoreError, match="expected an export of at most 0 MiB"):
        store.import_from("speakers", tmp_path / "export")
    monkeypatch.setattr("edgekit.core.store.MAX_BYTES", (1 << 20) + 2)
    store.write("speakers", "anna", {"a": b"x", "b": b"y"})
    with pytest.raises(StoreError, match="expected less than 1 MiB for 'anna'"):
        store.write("speakers", "anna", {"a": b"xx", "b": b"y"})
    assert store.versions("speakers", "anna") == [1, 2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write(Store(CORE, folder / "store"), 1)
    Store(CORE, folder / "store").export("speakers", "anna", folder / "export")
    return folder / "export"


def test_every_cut_of_an_export_is_refused(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    for end in range(0, len(content), 5):
        (tmp_path / "cut").write_bytes(content[:end])
        with pytest.raises(StoreError):
            unpack(tmp_path / "cut")


def test_every_flipped_byte_of_an_export_is_refused_or_without_meaning(archive: Path, tmp_path: Path) -> None:
    content, sound, num_refused = archive.read_bytes(), unpack(archive), 0
    for position in range(len(content)):
        for bit in (1, 128):
            altered = bytearray(content)
            altered[position] ^= bit
            (tmp_path / "altered").write_bytes(altered)
            try:
                assert unpack(tmp_path / "altered") == sound
            except StoreError:
                num_refused += 1
    assert num_refused > 1.5 * len(content)


# A full disk, a kill, two writers.


def in_a_fork(work: Callable[[], object]) -> int:
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


@posix
def test_a_disk_that_fills_keeps_the_old_version(store: Store) -> None:
    import resource

    def write_below(limit: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        write(store, 2)

    write(store, 1)
    write(store, 1)
    for limit in (1, 20, 100, 300, 500):  # card.json has about 560 bytes, theta.npy 400, statistics.npy 65
        assert in_a_fork(partial(write_below, limit)) == 1
        assert tags(store) == [1, 1]
        assert everything(store.path / "speakers") == expected("anna", [1, 2])
    assert in_a_fork(partial(write_below, 2000)) == 0
    assert tags(store) == [1, 1, 2]


def kill_at(step: int) -> None:
    """Let this process die before its `step`-th call of the file system."""
    steps = iter(range(step, -1, -1))

    def hook(event: str, _: object) -> None:
        if event != "os.kill" and event.startswith(("open", "os.", "shutil.", "tempfile.")) and not next(steps):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


CHANGES: dict[str, tuple[Callable[[Store], object], list[int], list[int]]] = {
    "write": (lambda store: write(store, 3), [1, 2], [1, 2, 3]),
    "rollback": (lambda store: store.rollback("speakers", "anna"), [1, 2], [1, 2]),
    "forget": (lambda store: store.forget("speakers", "anna"), [1, 2], []),
}


@posix
@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_at_any_step_leaves_the_old_state_or_the_new(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and a kill, unlike a power cut, loses nothing written
    for tag in (1, 2):
        write(store, tag)
    call, before, after = CHANGES[change]
    found = []
    for step in range(1000):
        here = Store(CORE, tmp_path / f"step-{step}")
        shutil.copytree(store.path, here.path)

        def change_until(step: int = step, here: Store = here) -> None:
            kill_at(step)
            call(here)

        status = in_a_fork(change_until)
        left = tags(here) if here.names("speakers") else []
        assert left in (before, after)
        used = tag_of(here.open("speakers", "anna")) if left else 0
        assert used in ((2, 1) if change == "rollback" else (max(left, default=0),))
        found.append((left, used))
        write(here, 9, "ben")  # another name's change sweeps what lies beside, the same name's what lies inside
        write(here, 9)
        assert tags(here) == [*left, 9]
        kept = expected("anna", list(range(1, len(left) + 2)))
        assert everything(here.path / "speakers") == kept | expected("ben", [1])
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    outcomes = [entry for number, entry in enumerate(found) if entry not in found[:number]]
    assert len(outcomes) == 2
    assert found == sorted(found, key=outcomes.index)


def rewrite_for_ever(store: Store, first: int, committed: Connection) -> None:
    for tag in range(first, first + 1_000_000):
        write(store, tag)
        committed.send(tag)


@posix
def test_a_writer_killed_at_random_moments_leaves_a_sound_store(store: Store) -> None:
    fork, chance = multiprocessing.get_context("fork"), random.Random(0)
    last = 0
    for kill in range(20):
        receiver, sender = fork.Pipe(duplex=False)
        writer = fork.Process(target=rewrite_for_ever, args=(store, last + 1, sender), daemon=True)
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
        last = tag_of(store.open("speakers", "anna"))
        assert last in (committed, committed + 1)
    assert tags(store) == list(range(1, last + 1))
    write(store, last + 1)
    assert everything(store.path / "speakers") == expected("anna", list(range(1, last + 2)))


@posix
def test_two_writers_take_turns(store: Store) -> None:
    def write_many(first: int) -> None:
        for tag in range(first, first + 20):
            write(store, tag)

    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write_many, args=(first,)) for first in (1000, 2000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(tags(store)) == [*range(1000, 1020), *range(2000, 2020)]
