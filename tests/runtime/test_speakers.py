"""Whose weights a request gets: kept, noticed when they change, refused where they do not fit."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.bundle import Adaptation, Bundle, open_bundle
from edgekit.core.errors import BundleError, SignatureError, StoreError
from edgekit.core.record import Record
from edgekit.core.store import Store
from edgekit.core.theta import ThetaLayout
from edgekit.runtime import speakers
from edgekit.runtime.speakers import Speakers, SpeakerVersion

pytestmark = pytest.mark.device_side
pytest.importorskip("onnxruntime", reason="the toy bundle is checked with it: pip install onnxruntime")

Install = Callable[..., Record]
Hears = Callable[[str], np.ndarray]
SIZE = 6


@pytest.fixture
def known(personal_toy: Path, tmp_path: Path) -> Speakers:
    return Speakers(open_bundle(personal_toy), tmp_path / "store")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names whose weights were read from the store."""
    counted: list[str] = []
    read = speakers.read_theta

    def count(record: Record, layout_hash: str, size: int) -> np.ndarray:
        counted.append(record.card.name)
        return read(record, layout_hash, size)

    monkeypatch.setattr(speakers, "read_theta", count)
    return counted


def value(number: float) -> np.ndarray:
    return np.full(SIZE, number, np.float32)


def test_weights_are_ready_for_a_graph_and_read_once(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install, reads: list[str]
) -> None:
    for name in ("anna", "ben"):
        install(personal_toy, tmp_path / "store", name, value(len(name)))
    assert known.names() == ["anna", "ben"]
    for _ in range(3):
        found = known.find("anna")
        assert (found.theta.dtype, found.theta.shape) == (np.float32, (1, SIZE))
        # OpenVINO copies what is read-only with each request
        assert found.theta.flags.c_contiguous
        assert found.theta.flags.writeable
        assert (found.theta == 4).all()
        assert found.version == SpeakerVersion("anna", 1)
        assert known.theta("ben")[0, 0] == 3
    assert reads == ["anna", "ben"]


def test_a_version_made_meanwhile_answers_the_next_request(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install, reads: list[str]
) -> None:
    """Also where a file's time is too coarse to tell, and where the version is an old one, or the first again."""
    for number in range(1, 9):
        install(personal_toy, tmp_path / "store", "anna", value(number))
        for _ in range(2):
            found = known.find("anna")
            assert (found.version, found.theta[0, 0]) == (SpeakerVersion("anna", number), number)
    known.store.rollback("speakers", "anna", 3)
    assert known.theta("anna")[0, 0] == 3
    assert len(reads) == 9
    known.store.forget("speakers", "anna")
    with pytest.raises(StoreError, match="received 'anna'"):
        known.find("anna")
    install(personal_toy, tmp_path / "store", "anna", value(20))
    assert (known.find("anna").version, known.theta("anna")[0, 0]) == (SpeakerVersion("anna", 1), 20)


def test_who_was_asked_for_longest_ago_goes_first(
    personal_toy: Path, tmp_path: Path, install: Install, reads: list[str]
) -> None:
    known = Speakers(open_bundle(personal_toy), tmp_path / "store", known_mib=3 * SIZE * 4 / 2**20)
    for number, name in enumerate("abcd"):
        install(personal_toy, tmp_path / "store", name, value(number))
    for name in "abcad":  # d comes in the place of b
        known.find(name)
    assert reads == ["a", "b", "c", "d"]
    for name in "acdb":
        known.find(name)
    assert reads[4:] == ["b"]
    only_one = Speakers(open_bundle(personal_toy), tmp_path / "store", known_mib=0)
    assert [only_one.theta(name)[0, 0] for name in "aabb"] == [0, 0, 1, 1]
    assert reads[5:] == ["a", "b"]


def test_values_may_be_given_and_are_copied(known: Speakers) -> None:
    given = value(1)
    for shaped in (given, given[None], np.repeat(given, 2)[::2]):
        found = known.find(shaped)
        assert found.version is None
        assert (found.theta.shape, found.theta.flags.c_contiguous) == ((1, SIZE), True)
        assert not np.shares_memory(found.theta, shaped)
    for wrong in (value(1)[:5], np.ones((2, SIZE), np.float32), value(1).astype(float), value(np.nan), value(np.inf)):
        with pytest.raises(SignatureError, match=r"expected finite values of theta float32\[6\]"):
            known.find(wrong)


def test_requests_of_one_batch_share_a_version(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install
) -> None:
    install(personal_toy, tmp_path / "store", "anna", value(1))
    given = value(2)
    found = known.find_all(["anna", None, given, "anna", given, given.copy()])
    assert found[0] is found[3] is not None
    assert found[1] is None
    assert found[2] is found[4] is not found[5]


def test_a_name_that_is_not_known(known: Speakers, personal_toy: Path, tmp_path: Path, install: Install) -> None:
    with pytest.raises(StoreError, match="0 speakers") as caught:
        known.find("anna")
    assert caught.value.hint == f"edgekit adapt {personal_toy} --speaker anna DATA"
    install(personal_toy, tmp_path / "store", "anna", value(1))
    with pytest.raises(StoreError, match="received 'ana'") as caught:
        known.find("ana")
    assert caught.value.hint == "did you mean anna?"
    for name in ("../anna", "", "anna/1", "con"):
        with pytest.raises(StoreError, match="expected a name of"):
            known.find(name)


def test_a_speaker_of_another_core(known: Speakers, tmp_path: Path) -> None:
    Store("f" * 64, tmp_path / "store").write("speakers", "anna", {})
    with pytest.raises(
        StoreError, match=r"expected a speaker of the core .*, 'anna' is one of ffffffffffffffff"
    ) as caught:
        known.find("anna")
    assert "adapt" in str(caught.value.hint)


def test_a_bundle_without_theta(toy_bundle: Path, tmp_path: Path) -> None:
    known = Speakers(open_bundle(toy_bundle), tmp_path)
    assert known.names() == []
    for speaker in ("anna", value(1)):
        with pytest.raises(BundleError, match="take none") as caught:
            known.find(speaker)
        assert caught.value.hint == "edgekit export disconformer --adapt"


def test_weights_of_another_layout(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install, speak: Callable[..., np.ndarray]
) -> None:
    record = install(personal_toy, tmp_path / "store", "anna", value(1))
    bundle = open_bundle(personal_toy)
    other = ThetaLayout.of([("moved", (SIZE,))])
    changed = Bundle(bundle.path, _with(bundle, Adaptation(other)))
    with pytest.raises(StoreError, match="expected weights of the layout"):
        Speakers(changed, tmp_path / "store").find("anna")
    (record.path / "theta.safetensors").write_bytes(b"altered")
    with pytest.raises(StoreError, match="was altered"):
        known.find("anna")


def test_an_export_is_looked_at_before_it_is_installed(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install
) -> None:
    install(personal_toy, tmp_path / "store", "anna", value(5))
    file = tmp_path / "anna.speaker"
    known.store.export("speakers", "anna", file)
    assert known.import_from(file).card.version == 2
    assert known.import_from(file, "ben").card.name == "ben"
    assert known.theta("ben")[0, 0] == 5
    before = sorted(known.store.path.rglob("*"))
    bundle = open_bundle(personal_toy)
    wrong_layout = Speakers(
        Bundle(bundle.path, _with(bundle, Adaptation(ThetaLayout.of([("moved", (SIZE,))])))), tmp_path / "store"
    )
    with pytest.raises(StoreError, match="expected weights of the layout"):
        wrong_layout.import_from(file)
    for name, theta in (("nan", value(np.nan)), ("short", value(1)[:5]), ("none", None)):
        bad = _bad_export(known, tmp_path, name, theta)
        with pytest.raises(StoreError, match="expected"):
            known.import_from(bad)
    assert sorted(known.store.path.rglob("*")) == before


def test_an_export_for_another_core_says_so(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install
) -> None:
    other = Store("f" * 64, tmp_path / "elsewhere")
    record = install(personal_toy, tmp_path / "store", "anna", value(5))
    other.write("speakers", "anna", record.contents(), record.card.details)
    other.export("speakers", "anna", tmp_path / "anna.speaker")
    with pytest.raises(StoreError, match="expected an export for the core") as caught:
        known.import_from(tmp_path / "anna.speaker")
    assert caught.value.hint == "open the bundle it was made with"


def test_threads_find_whom_they_ask_for_while_versions_change(
    known: Speakers, personal_toy: Path, tmp_path: Path, install: Install
) -> None:
    for name in ("a", "b"):
        install(personal_toy, tmp_path / "store", name, value(1))
    wrong: list[str] = []
    stop = threading.Event()

    def ask(name: str) -> None:
        newest = 0
        while not stop.is_set():
            found = known.find(name)
            version = found.version
            if version is None or version.name != name or version.version < newest:
                wrong.append(f"{name} got {version}")
            elif not (found.theta == version.version).all():
                wrong.append(f"{version} has {found.theta[0, 0]}")
            newest = 0 if version is None else version.version

    threads = [threading.Thread(target=ask, args=(name,)) for name in "ab" for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        for name in "ab":
            install(personal_toy, tmp_path / "store", name, value(number))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert known.find("a").version == SpeakerVersion("a", 11)


def _with(bundle: Bundle, adaptation: Adaptation) -> object:
    from dataclasses import replace

    return replace(bundle.manifest, adaptation=adaptation)


def _bad_export(known: Speakers, tmp_path: Path, name: str, theta: np.ndarray | None) -> Path:
    """An export that is whole, for this core and of this layout, but for its values."""
    from safetensors.numpy import save

    elsewhere = Store(known.store.core, tmp_path / "bad")
    files = {} if theta is None else {"theta.safetensors": save({"theta": theta})}
    elsewhere.write("speakers", name, files, {"layout_hash": known.layout.hash})
    elsewhere.export("speakers", name, tmp_path / f"{name}.speaker")
    shutil.rmtree(tmp_path / "bad")
    return tmp_path / f"{name}.speaker"
