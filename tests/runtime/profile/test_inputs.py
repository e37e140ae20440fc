"""What a model is fed: what is guessed, what is asked for, and what is refused with the flags that mend it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.errors import UsageError
from edgekit.core.signature import Derived, Dim, Signature, TensorSpec
from edgekit.runtime.profile.given import InputSpec
from edgekit.runtime.profile.inputs import feed_bundle, feed_foreign
from edgekit.runtime.profile.point import Point

pytestmark = pytest.mark.device_side

SPEECH = [
    InputSpec("feats", "float32", ("batch", "frames", 80)),
    InputSpec("kind", "int64", ("batch",)),
    InputSpec("attention_mask", "int64", ("batch", "frames")),
]
BATCH, TIME, WHO = Dim("B", ((1, 1, 4),)), Dim("T", ((9, 50, 64), (65, 90, 99))), Dim("speakers", ((1, 1, 4),))
GRAPH = Signature(
    (
        TensorSpec("x", "float32", (BATCH, TIME, 8)),
        TensorSpec("lengths", "int64", (BATCH,), lengths_of=TIME),
        TensorSpec("theta", "float32", (WHO, 5), weights=True),
        TensorSpec("memory", "float32", (BATCH, 3)),
    ),
    (TensorSpec("y", "float32", (BATCH, Derived("T", 3, 2, 1))), TensorSpec("after", "float32", (BATCH, 3))),
    state=(("memory", "after"),),
)


def point(**changes: Any) -> Point:
    return Point("model", **changes)


def test_a_bundle_is_fed_what_its_signature_holds_for_best() -> None:
    fed = feed_bundle(GRAPH, point(), None)
    assert {name: array.shape for name, array in fed.arrays.items()} == {
        "x": (1, 50, 8),
        "lengths": (1,),
        "theta": (1, 5),
        "memory": (1, 3),
    }
    GRAPH.check_inputs(fed.arrays)
    assert fed.arrays["lengths"].tolist() == [50]
    assert not fed.arrays["theta"].any()
    assert not fed.arrays["memory"].any()
    assert 0.8 < fed.arrays["x"].std() < 1.2
    assert [each["values"] for each in fed.described] == ["normal, seed 0", "the size of T", "zeros", "zeros"]


def test_batch_length_and_dims_change_a_bundles_sizes() -> None:
    fed = feed_bundle(GRAPH, point(batch=3, dims=("speakers=3",), seed=1), 80)
    assert (fed.items, fed.arrays["x"].shape, fed.arrays["theta"].shape) == (3, (3, 80, 8), (3, 5))
    assert fed.arrays["lengths"].tolist() == [80, 80, 80]
    same = feed_bundle(GRAPH, point(batch=3, dims=("speakers=3",), seed=1), 80)
    other = feed_bundle(GRAPH, point(batch=3, dims=("speakers=3",), seed=2), 80)
    assert (same.arrays["x"] == fed.arrays["x"]).all()
    assert (other.arrays["x"] != fed.arrays["x"]).any()


def test_another_models_axes_are_asked_for_but_the_batch() -> None:
    with pytest.raises(
        UsageError, match=r"expected a size for every dynamic axis of feats: .*frames.*received none"
    ) as e:
        feed_foreign(SPEECH, point())
    assert e.value.hint == "--dim frames=SIZE"
    fed = feed_foreign(SPEECH, point(dims=("frames=30",)))
    assert (fed.items, fed.arrays["feats"].shape) == (1, (1, 30, 80))
    assert fed.arrays["attention_mask"].tolist() == [[1] * 30]
    assert set(np.unique(feed_foreign(SPEECH, point(dims=("frames=30",), batch=64)).arrays["kind"])) == {0, 1}


@pytest.mark.parametrize(
    "changes",
    [{"shapes": ("feats=2x30x80",)}, {"batch": 2, "length": "30"}, {"dims": ("batch=2", "frames=30")}],
    ids=str,
)
def test_sizes_may_be_told_in_several_ways(changes: dict[str, Any]) -> None:
    fed = feed_foreign(SPEECH, point(**changes))
    assert fed.items == 2
    assert [each["shape"] for each in fed.described] == [[2, 30, 80], [2], [2, 30]]


def test_axes_without_names_need_whole_shapes() -> None:
    specs = [InputSpec("x", "float32", (None, None, 80)), InputSpec("n", "float32", (None,))]
    with pytest.raises(UsageError, match="expected a size for every dynamic axis") as caught:
        feed_foreign(specs, point())
    assert caught.value.hint == "--input x=SIZExSIZEx80 --input n=SIZE"
    fed = feed_foreign(specs, point(batch=4, shapes=("x=4x9x80",)))
    assert [fed.items, *(each["shape"] for each in fed.described)] == [4, [4, 9, 80], [4]]
    fixed = [InputSpec("image", "uint8", (8, 3, 4, 4))]
    fed = feed_foreign(fixed, point(batch=8))
    assert (fed.items, int(fed.arrays["image"].max()) > 200) == (8, True)
    with pytest.raises(UsageError, match=r"expected --batch 8, the only one of image: .*; received 2"):
        feed_foreign(fixed, point(batch=2))


def test_a_letter_is_the_batch_only_where_it_stands_first() -> None:
    with pytest.raises(UsageError, match="expected a size for every dynamic axis") as caught:
        feed_foreign([InputSpec("x", "float32", (1, 80, "N"))], point())
    assert caught.value.hint == "--dim N=SIZE"
    fed = feed_foreign([InputSpec("x", "float32", ("T", "batch_size"))], point(batch=3, dims=("T=7",)))
    assert (fed.items, fed.arrays["x"].shape) == (3, (7, 3))


def test_a_size_that_is_told_twice_must_be_the_same() -> None:
    assert feed_foreign(SPEECH, point(batch=2, length="30", dims=("batch=2", "frames=30"))).items == 2
    with pytest.raises(UsageError, match=re.escape("expected one size of batch, received 2 by --batch, 3 by --dim")):
        feed_foreign(SPEECH, point(batch=2, dims=("batch=3", "frames=30")))
    with pytest.raises(UsageError, match=re.escape("expected one size of frames, received 9 by --length, 30 by --dim")):
        feed_foreign(SPEECH, point(length="9", shapes=("feats=1x30x80",)))


def test_sizes_that_no_memory_holds_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(MemoryError):
        feed_foreign(SPEECH, point(length="99999999999999999999"))
    np.savez(tmp_path / "none.npz", feats=np.zeros((1, 0, 80), np.float32))
    with pytest.raises(UsageError, match=r"expected sizes of 1 or more for feats: .*received 1x0x80"):
        feed_foreign(SPEECH, point(data=str(tmp_path / "none.npz")))


def test_what_counts_something_is_not_guessed() -> None:
    specs = [
        InputSpec("x", "float32", ("N", 9)),
        InputSpec("x_len", "int32", ("N",)),
        InputSpec("silence", "int64", ()),
    ]
    with pytest.raises(UsageError, match=r"expected a value for x_len: int32\[N\], which seems to count") as caught:
        feed_foreign(specs, point())
    assert caught.value.hint == "--value x_len=300, or --data FILE.npz"
    fed = feed_foreign(specs, point(values=("x_len=9", "silence=16000")))
    assert (fed.arrays["x_len"].tolist(), fed.arrays["silence"].tolist()) == ([9], 16000)
    assert [each["values"] for each in fed.described[1:]] == ["9 everywhere", "16000 everywhere"]


def test_real_inputs_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "real.npz"
    feats = np.arange(2 * 5 * 80, dtype=np.float32).reshape(2, 5, 80)
    np.savez(file, feats=feats, kind=np.array([1, 0]))
    fed = feed_foreign(SPEECH, point(data=str(file)))
    assert (fed.arrays["feats"] == feats).all()
    assert fed.described[0]["values"] == "from real.npz"
    # it told the sizes of the axes of others
    assert fed.arrays["attention_mask"].shape == (2, 5)
    np.savez(file, feats=feats.astype(np.float64))
    with pytest.raises(UsageError, match=r"expected feats: float32\[batch, frames, 80\] in .*received float64"):
        feed_foreign(SPEECH, point(data=str(file)))
    np.savez(file, feets=feats)
    with pytest.raises(UsageError, match="expected a name of an input among feats") as caught:
        feed_foreign(SPEECH, point(data=str(file)))
    assert caught.value.hint == "did you mean feats?"
    for content in (b"", b"no zip", None):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(UsageError, match=r"expected an \.npz with arrays by the names of inputs"):
            feed_foreign(SPEECH, point(data=str(file)))


WRONG = {
    "dims": ("frames", "expected --dim NAME=..., received 'frames'"),
    "dims ": ("frame=3", "expected a dynamic axis among batch, frames; received 'frame'"),
    "dims  ": ("frames=0", "expected sizes of 1 or more for --dim frames"),
    "shapes": ("feats=1xax80", "expected sizes of 1 or more for --input feats"),
    "shapes ": (
        "feats=1x3x81",
        "expected feats: float32[batch, frames, 80] with {'batch': 1, 'frames': 3}, received 1x3x81",
    ),
    "shapes  ": ("feats=1x3", "received 1x3"),
    "values": ("kind=1.5", "expected a value of int64 for --value kind, received '1.5'"),
    "values ": ("kind=99999999999999999999", "expected a value of int64"),
    "length": ("3s", "expected --length as a number of steps"),
    "length ": ("0", "expected --length as a number of steps"),
    "length  ": ("\u00b2", "expected --length as a number of steps"),
}


@pytest.mark.parametrize("field", WRONG)
def test_what_does_not_fit_is_refused(field: str) -> None:
    given, message = WRONG[field]
    changes: dict[str, Any] = {"length": given} if field.strip() == "length" else {field.strip(): (given,)}
    with pytest.raises(UsageError, match=re.escape(message)):
        feed_foreign(SPEECH, point(**{"dims": ("frames=30",), **changes} if field == "values" else changes))
