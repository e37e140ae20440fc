"""Classes in the store: versions, what forgetting leaves alone, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from edgekit.core.bundle import Bundle, open_bundle
from edgekit.core.errors import BundleError, EdgekitError, SignatureError, StoreError
from edgekit.core.record import Record
from edgekit.core.store import Store
from edgekit.runtime.classes.enrolment import EnrolledClass
from edgekit.runtime.classes.file import FILE
from edgekit.runtime.classes.library import Classes

pytestmark = pytest.mark.device_side
# the bundle's graph is written with it
pytest.importorskip("onnx", reason="needs onnx: pip install onnx")
pytest.importorskip("onnxruntime", reason="needs a backend: pip install onnxruntime")

CENTRES = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.9, 0.1), "blue": (0.1, 0.1, 0.9), "white": (0.8, 0.8, 0.9)}


def pictures(name: str, num: int = 5, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng((sum(name.encode()), seed))
    return (CENTRES[name] + 0.15 * random.random((num, 3))).astype(np.float32)


def group(*names: str, num: int = 5) -> dict[str, np.ndarray]:
    return {name: pictures(name, num) for name in names}


QUERIES = np.concatenate([pictures(name, 20, seed=1) for name in CENTRES])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def known(colour_bundle: Path, root: Path) -> Classes:
    return Classes(open_bundle(colour_bundle), root)


def test_enrolled_classes_are_answered(known: Classes, colour_bundle: Path, root: Path) -> None:
    records = known.enrol(group("red", "green", "blue"))
    assert [record.card.name for record in records] == ["red", "green", "blue"]
    answers = known.library().answer(QUERIES[:60])
    assert [answer.name for answer in answers] == [name for name in ("red", "green", "blue") for _ in range(20)]
    assert all(len(answer.ranked) == 3 and answer.ranked[0][1] >= answer.ranked[1][1] for answer in answers)
    # another process reads the same
    other = Classes(open_bundle(colour_bundle), root).library()
    assert (other.scores(QUERIES) == known.library().scores(QUERIES)).all()


def test_no_picture_of_a_class_is_unknown(known: Classes) -> None:
    known.enrol(group("red", "green", "blue"))
    assert [answer.name for answer in known.library().answer(QUERIES[60:])] == [None] * 20


def test_no_classes(known: Classes) -> None:
    (answer, *_) = known.library().answer(QUERIES)
    assert (answer.name, answer.ranked) == (None, ())


def test_what_is_kept_is_no_picture(known: Classes, root: Path) -> None:
    """Two vectors and two scores, of whatever number of pictures; the card says what they belong to."""
    known.enrol(group("red", "green", num=20))
    files = [path for path in root.rglob("*") if path.is_file() and path.suffix == ".safetensors"]
    arrays = load(files[0].read_bytes())
    assert {name: array.shape for name, array in arrays.items()} == {
        "prototype": (3,),
        "weights": (3,),
        "own_score": (1,),
        "threshold": (1,),
    }
    card = known.store.open("classes", "red").card
    assert card.core == known.store.core
    assert card.version == 1
    assert card.created
    told = card.details
    assert (told["num_pictures"], told["method"], told["num_channels"]) == (20, "csca", 3)
    assert told["threshold"] == pytest.approx(float(arrays["threshold"][0]))
    assert told["leave_one_out"]["num_pictures"] == 40


def test_forgetting_leaves_the_answers_of_the_others_unchanged(known: Classes) -> None:
    """To the last bit, and their files too."""
    known.enrol(group("red", "green"))
    known.enrol(group("white", num=1))
    before = known.library()
    scores = before.scores(QUERIES)
    contents = {name: known.store.open("classes", name).read(FILE) for name in ("red", "white")}
    known.store.forget("classes", "green")
    after = known.library()
    kept = [before.names.index(name) for name in after.names]
    assert after.names == ("red", "white")
    assert (after.scores(QUERIES) == scores[:, kept]).all()
    assert contents == {name: known.store.open("classes", name).read(FILE) for name in ("red", "white")}


def test_a_class_that_comes_later_leaves_the_others_alone(known: Classes) -> None:
    known.enrol(group("red", "green"))
    before = known.library()
    scores = before.scores(QUERIES)
    known.enrol(group("blue"))
    after = known.library()
    assert (after.scores(QUERIES)[:, [after.names.index(name) for name in before.names]] == scores).all()
    assert known.store.open("classes", "red").card.version == 1
    assert (known.find("blue").weights != 1).any()


def test_versions_and_rollback(known: Classes) -> None:
    known.enrol(group("red", "green"))
    first = known.find("red")
    known.enrol({"red": pictures("white")})
    assert known.store.versions("classes", "red") == [1, 2]
    assert (known.find("red").prototype != first.prototype).any()
    assert known.library().answer(QUERIES[60:61], top=1)[0].ranked[0][0] == "red"
    known.store.rollback("classes", "red")
    assert (known.find("red").prototype == first.prototype).all()
    assert known.library().answer(QUERIES[60:61])[0].name is None


def test_a_library_is_read_again_only_where_something_changed(known: Classes) -> None:
    known.enrol(group("red", "green"))
    library = known.library()
    assert known.library() is library
    kept = {each.name: each for each in library.classes}
    known.enrol(group("blue"))
    later = {each.name: each for each in known.library().classes}
    assert (later["red"] is kept["red"], set(later)) == (True, {"red", "green", "blue"})


def test_export_and_import(known: Classes, colour_bundle: Path, tmp_path: Path) -> None:
    known.enrol(group("red", "green"))
    known.store.export("classes", "red", tmp_path / "red.class")
    other = Classes(open_bundle(colour_bundle), tmp_path / "other")
    other.import_from(tmp_path / "red.class")
    other.import_from(tmp_path / "red.class", "scarlet")
    assert other.names() == ["red", "scarlet"]
    assert (other.find("scarlet").weights == known.find("red").weights).all()


def test_a_class_of_another_core_is_refused(
    known: Classes, write_colours: Callable[..., Bundle], root: Path, tmp_path: Path
) -> None:
    known.enrol(group("red", "green"))
    file = tmp_path / "red.class"
    known.store.export("classes", "red", file)
    graphs = write_colours(built=False)  # the same core: it is the graph that counts
    assert Classes(graphs, root).names() == ["green", "red"]
    stranger = Classes(graphs, tmp_path / "other")
    stranger.store = Store("0" * 64, tmp_path / "other")
    assert stranger.names() == []
    with pytest.raises(StoreError, match="expected an export for the core 0000"):
        stranger.import_from(file)
    # nor by a folder that is copied over
    copied = tmp_path / "other" / ("0" * 64) / "classes"
    copied.parent.mkdir(parents=True, exist_ok=True)
    (root / known.store.core / "classes").rename(copied)
    with pytest.raises(StoreError, match="its card is that of another"):
        stranger.library()


def altered(record: Record, **arrays: np.ndarray) -> dict[str, bytes]:
    return {FILE: save({**load(record.read(FILE)), **arrays})}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"weights": np.ones(4, np.float32)}, r"expected float32\[3\]"),
        ({"weights": np.ones(3, np.float64)}, r"expected float32\[3\]"),
        ({"weights": np.zeros(3, np.float32)}, "weights above 0"),
        ({"prototype": np.full(3, np.nan, np.float32)}, "finite"),
        ({"weights": np.full(3, 1e30, np.float32)}, "weights above 0"),
        ({"threshold": np.array([np.inf], np.float32)}, "finite"),
    ],
)
def test_values_that_no_class_has(known: Classes, arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    (record,) = known.enrol(group("red"))
    known.store.write("classes", "odd", altered(record, **arrays), record.card.details)
    with pytest.raises(StoreError, match=message):
        known.find("odd")
    known.store.export("classes", "odd", tmp_path / "odd.class")
    known.store.forget("classes", "odd")
    with pytest.raises(StoreError, match=message):
        known.import_from(tmp_path / "odd.class")
    assert known.names() == ["red"]


def test_a_damaged_file_is_told(known: Classes) -> None:
    (record,) = known.enrol(group("red"))
    (record.path / FILE).write_bytes(b"other")
    with pytest.raises(StoreError, match="was altered"):
        known.library()
    known.store.write("classes", "empty", {FILE: b""}, {"num_pictures": 1})
    with pytest.raises(StoreError, match="received something else"):
        known.find("empty")


def test_what_was_altered_can_be_made_anew(known: Classes) -> None:
    """As the hint says, although no other class can be enrolled beside it."""
    red, _ = known.enrol(group("red", "green"))
    (red.path / FILE).write_bytes(b"other")
    with pytest.raises(StoreError, match="was altered"):
        known.enrol(group("blue"))
    (again,) = known.enrol(group("red"))
    assert again.card.version == 2
    assert known.library().names == ("green", "red")


def test_one_that_is_forgotten_while_it_is_read_is_no_error(known: Classes, monkeypatch: pytest.MonkeyPatch) -> None:
    known.enrol(group("red", "green", "blue"))
    find, other = known.find, Store(known.store.core, known.store.path.parent)

    def find_late(name: str) -> EnrolledClass:
        if name == "green" and name in other.names("classes"):
            other.forget("classes", name)  # as another process would, after the names were listed
        return find(name)

    monkeypatch.setattr(known, "find", find_late)
    assert known.library().names == ("blue", "red")


def test_names_that_are_alike_are_refused_before_anything_is_committed(known: Classes) -> None:
    with pytest.raises(StoreError, match="unlike 'red' in more than case, received 'Red'"):
        known.enrol({"green": pictures("green"), "red": pictures("red"), "Red": pictures("red")})
    assert known.names() == []
    known.enrol(group("red"))
    with pytest.raises(StoreError, match="in more than case"):
        known.enrol({"green": pictures("green"), "RED": pictures("red")})
    assert known.names() == ["red"]


def test_embeddings_and_names_that_are_refused(known: Classes) -> None:
    for name in ("", "a/b", "unknown", "Unknown"):
        with pytest.raises(StoreError, match="name"):
            known.enrol({"red": pictures("red"), name: pictures("red")})
    with pytest.raises(SignatureError, match=r"float32\[k, 3\]"):
        known.enrol({"red": np.ones((2, 4), np.float32)})
    with pytest.raises(SignatureError):
        known.library().scores(np.ones((2, 4), np.float32))
    assert known.names() == []


def test_a_bundle_without_embeddings(toy_bundle: Path, root: Path) -> None:
    with pytest.raises(BundleError, match="gives an embedding of each picture"):
        Classes(open_bundle(toy_bundle), root).library()


def test_every_error_says_what_to_do(known: Classes) -> None:
    (record,) = known.enrol(group("red"))
    known.store.write("classes", "odd", altered(record, weights=np.zeros(3, np.float32)), record.card.details)
    with pytest.raises(EdgekitError) as raised:
        known.find("odd")
    assert "edgekit enroll" in str(raised.value.hint)
