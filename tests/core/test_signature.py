from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import SignatureError
from edgekit.core.signature import Bucket, Derived, Dim, Signature, TensorSpec

pytestmark = pytest.mark.device_side

BATCH = Dim("batch", ((1, 2, 4),))
TIME = Dim("time", ((400, 16_000, 32_000), (32_001, 64_000, 160_000)))
FRAMES = Derived("time", minus=400, over=320, plus=1)
SPEECH = Signature(
    inputs=(
        TensorSpec("x", "float32", (BATCH, TIME)),
        TensorSpec("x_lens", "int64", (BATCH,), lengths_of=TIME),
    ),
    outputs=(
        TensorSpec("logits", "float32", (BATCH, FRAMES, 32)),
        TensorSpec("logits_lens", "int64", (BATCH,), lengths_of=FRAMES),
    ),
)

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
sizes = st.integers(1, 1 << 40)


@st.composite
def dims(draw: st.DrawFn, name: str) -> Dim:
    buckets: list[Bucket] = []
    for _ in range(draw(st.integers(1, 3))):
        low = draw(st.integers(buckets[-1][0] if buckets else 1, 1000))
        high = draw(st.integers(max(low, buckets[-1][2] if buckets else 1), 2000))
        buckets.append((low, draw(st.integers(low, high)), high))
    return Dim(name, tuple(buckets), multiple_of=draw(st.integers(1, 16)))


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    axes = [draw(dims(name)) for name in draw(st.lists(names, min_size=1, max_size=3, unique=True))]
    of = st.sampled_from([axis.name for axis in axes])
    derived = st.builds(Derived, of=of, minus=st.integers(-99, 99), over=st.integers(1, 99), plus=st.integers(-9, 9))
    input_shapes = st.lists(st.one_of(sizes, st.sampled_from(axes)), max_size=4).map(tuple)
    output_shapes = st.lists(st.one_of(sizes, st.sampled_from(axes), derived), max_size=4).map(tuple)
    dtypes = st.sampled_from(["float32", "float16", "int64", "bool"])
    tensor_names = draw(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
    inputs = [TensorSpec(tensor_names[0], "float32", tuple(axes))]  # declares every axis
    inputs += [
        TensorSpec(name, draw(dtypes), draw(input_shapes), draw(st.sampled_from([None, *axes])))
        for name in tensor_names[1:]
    ]
    outputs = [
        TensorSpec(name, draw(dtypes), draw(output_shapes), draw(st.one_of(st.none(), st.sampled_from(axes), derived)))
        for name in draw(st.lists(st.text(min_size=1), max_size=4, unique=True))
    ]
    return Signature(tuple(inputs), tuple(outputs))


@given(signatures())
def test_json_holds_all_of_a_signature(signature: Signature) -> None:
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature


@given(signatures())
def test_every_profile_is_ascending_and_has_all_inputs(signature: Signature) -> None:
    profiles = signature.profiles()
    assert len(profiles) == max(len(dim.buckets) for dim in signature.dims.values())
    for profile in profiles:
        assert list(profile) == [spec.name for spec in signature.inputs]
        for spec in signature.inputs:
            low, opt, high = profile[spec.name]
            assert len(low) == len(spec.shape)
            assert all(a <= b <= c for a, b, c in zip(low, opt, high))


def test_profiles_of_speech() -> None:
    assert SPEECH.profiles() == [
        {"x": ((1, 400), (2, 16_000), (4, 32_000)), "x_lens": ((1,), (2,), (4,))},
        {"x": ((1, 32_001), (2, 64_000), (4, 160_000)), "x_lens": ((1,), (2,), (4,))},
    ]


def test_profiles_without_a_dynamic_axis() -> None:
    image = Signature((TensorSpec("x", "float32", (1, 3, 8, 8)),), ())
    assert image.profiles() == [{"x": ((1, 3, 8, 8),) * 3}]


def test_the_batch_is_what_all_inputs_start_with() -> None:
    assert SPEECH.batch == BATCH
    assert replace(SPEECH, inputs=(*SPEECH.inputs, TensorSpec("theta", "float32", (1, 9)))).batch is None
    assert Signature((TensorSpec("x", "float32", (1, 3)),), ()).batch is None
    assert Signature((TensorSpec("scale", "float32", ()),), ()).batch is None


@pytest.mark.parametrize(("size", "frames"), [(400, 1), (719, 1), (720, 2), (16_000, 49)])
def test_output_shape_counts_frames(size: int, frames: int) -> None:
    assert SPEECH.output_shape(SPEECH.outputs[0], {"batch": 3, "time": size}) == (3, frames, 32)
    assert SPEECH.output_shape(SPEECH.outputs[1], {"batch": 3, "time": size}) == (3,)
    assert FRAMES.of_size(np.array([size])).tolist() == [frames]


def speech(time: int = 500, lengths: tuple[int, ...] = (400, 500)) -> dict[str, np.ndarray]:
    return {"x": np.zeros((len(lengths), time), np.float32), "x_lens": np.array(lengths, np.int64)}


def test_inputs_that_fit_give_the_sizes() -> None:
    assert SPEECH.check_inputs(speech()) == {"batch": 2, "time": 500}
    assert SPEECH.check_inputs(speech(160_000, (160_000,) * 4)) == {"batch": 4, "time": 160_000}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": speech()["x"]}, r"expected inputs \['x', 'x_lens'\], received \['x'\]"),
        ({**speech(), "y": speech()["x"]}, r"received \['x', 'x_lens', 'y'\]"),
        ({**speech(), "x": np.zeros((2, 500))}, r"expected x: float32\[batch, time\], received float64\[2, 500\]"),
        ({**speech(), "x": np.zeros((2, 500, 1), np.float32)}, r"received float32\[2, 500, 1\]"),
        (speech(399, (399,)), r"x: expected time in 400\.\.160000, received 399"),
        (speech(160_001, (400,)), r"x: expected time in 400\.\.160000, received 160001"),
        (speech(500, (500,) * 5), r"x: expected batch in 1\.\.4, received 5"),
        (speech(500, ()), r"x: expected batch in 1\.\.4, received 0"),
        ({**speech(), "x_lens": np.array([400])}, r"x_lens: expected one size of batch, received 2 and 1"),
        (speech(500, (399, 500)), r"x_lens: expected lengths in 400\.\.500, received \[399, 500\]"),
        (speech(500, (400, 501)), r"x_lens: expected lengths in 400\.\.500, received \[400, 501\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        SPEECH.check_inputs(inputs)


def test_a_fixed_axis_is_held_to_its_size() -> None:
    image = Signature((TensorSpec("x", "float32", (BATCH, 3)),), ())
    with pytest.raises(SignatureError, match=r"expected x: float32\[batch, 3\], received float32\[1, 4\]"):
        image.check_inputs({"x": np.zeros((1, 4), np.float32)})


def test_a_size_between_two_buckets_or_off_the_grid_is_refused() -> None:
    dim = Dim("time", ((8, 8, 16), (32, 32, 64)), multiple_of=8)
    for size in (8, 16, 32, 64):
        dim.check(size, "x")
    with pytest.raises(SignatureError, match=r"expected time in 8\.\.16 or 32\.\.64, received 24"):
        dim.check(24, "x")
    with pytest.raises(SignatureError, match="expected time as a multiple of 8, received 12"):
        dim.check(12, "x")


@pytest.mark.parametrize("buckets", [(), ((0, 1, 2),), ((2, 1, 3),), ((1, 3, 2),), ((5, 5, 6), (1, 2, 3))])
def test_buckets_must_be_ascending(buckets: tuple[Bucket, ...]) -> None:
    with pytest.raises(ValueError, match="bucket"):
        Dim("time", buckets)


@pytest.mark.parametrize("buckets", [((1, 2, 10), (5, 6, 8)), ((5, 6, 7), (1, 6, 8))])
def test_overlapping_buckets_ascend_at_both_ends(buckets: tuple[Bucket, ...]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Dim("time", buckets)  # or `min` and `max` would not be those of the whole axis


@pytest.mark.parametrize("name", ["", "two words", "1st", "a-b", "(t - 1) // 2 + 0", "zeit·", "ß"])
def test_an_axis_is_an_ascii_identifier(name: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        Dim(name, ((1, 1, 1),))


@pytest.mark.parametrize("wrong", [0, -8])
def test_steps_are_positive(wrong: int) -> None:
    with pytest.raises(ValueError, match="multiple_of >= 1"):
        Dim("time", ((1, 1, 1),), multiple_of=wrong)
    with pytest.raises(ValueError, match="over >= 1"):
        Derived("time", minus=0, over=wrong, plus=0)


@pytest.mark.parametrize("buckets", [((1.0, 1, 1),), ((1, 1, 2.5),), (("1", 1, 1),)])
def test_sizes_are_whole_numbers(buckets: tuple[Bucket, ...]) -> None:
    with pytest.raises(ValueError, match="are whole numbers"):
        Dim("time", buckets)


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "message"),
    [
        ("", "float32", (1,), "a tensor needs a name"),
        (5, "float32", (1,), "a tensor needs a name"),
        ("\ud800", "float32", (1,), "surrogates not allowed"),
        ("x", "float33", (1,), "x: a dtype is one of bool, .*, got 'float33'"),
        ("x", "f4", (1,), "a dtype is one of"),
        ("x", None, (1,), "a dtype is one of"),
        ("x", "float32", (1, 0), r"x: a fixed size is at least 1, got \[1, 0\]"),
    ],
)
def test_a_tensor_that_cannot_be_is_refused(name: object, dtype: object, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorSpec(name, dtype, shape)  # type: ignore[arg-type]


OTHER_TIME = Dim("time", ((1, 1, 2),))
X = TensorSpec("x", "float32", (BATCH, TIME))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ((X, X), (), "tensor names must differ"),
        ((X,), (X, X), "tensor names must differ"),
        ((X, TensorSpec("y", "float32", (OTHER_TIME,))), (), "no input declares"),
        ((X,), (TensorSpec("y", "float32", (OTHER_TIME,)),), "no input declares"),
        ((TensorSpec("n", "int64", (BATCH,), lengths_of=TIME),), (), "no input declares"),
        ((X, TensorSpec("y", "float32", (FRAMES,))), (), "derived from an input's"),
        ((X,), (TensorSpec("y", "float32", (replace(FRAMES, of="frames"),)),), "derived from an input's"),
    ],
)
def test_a_signature_that_contradicts_itself_is_refused(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Signature(inputs, outputs)


@pytest.mark.parametrize("axis", ["frames", "(frames - 1) // 2 + 1", "(time - 1) // 0 + 1", "time // 2", ""])
def test_json_with_an_unknown_axis_is_refused(axis: str) -> None:
    data = SPEECH.to_json()
    data["outputs"][0]["shape"][1] = axis
    with pytest.raises(ValueError, match=r"unknown axis|over >= 1"):
        Signature.from_json(data)
