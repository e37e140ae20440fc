"""Weights come back from the store as they were, and only for the layout that they were learned for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from edgekit.core.errors import StoreError
from edgekit.core.store import Store
from edgekit.runtime.adapt.speaker import FILE, install, read_theta

pytestmark = pytest.mark.device_side

LAYOUT, SIZE = "cd" * 32, 100


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("ab" * 32, tmp_path)


def theta() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SIZE).astype(np.float32)


def test_they_come_back(store: Store) -> None:
    record = install(store, "anna", theta(), LAYOUT, {"speech_s": 60.0})
    assert record.card.details == {"speech_s": 60.0, "layout_hash": LAYOUT}
    found = read_theta(store.open("speakers", "anna"), LAYOUT, SIZE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, theta())
    np.testing.assert_array_equal(load(record.read(FILE))["theta"], theta())
    assert install(store, "anna", 2 * theta(), LAYOUT, {}).card.version == 2
    np.testing.assert_array_equal(read_theta(store.open("speakers", "anna"), LAYOUT, SIZE), 2 * theta())


@pytest.mark.parametrize("bad", [np.full(SIZE, np.nan, np.float32), theta().astype(np.float64), theta()[None]])
def test_what_is_not_installed(store: Store, bad: np.ndarray) -> None:
    with pytest.raises(StoreError, match=r"expected finite weights float32\[P\]"):
        install(store, "anna", bad, LAYOUT, {})
    assert store.names("speakers") == []


def test_of_another_layout_or_size(store: Store) -> None:
    record = install(store, "anna", theta(), LAYOUT, {})
    with pytest.raises(
        StoreError, match=r"expected weights of the layout efefefefefefefef\.\.\., those of 'anna'"
    ) as error:
        read_theta(record, "ef" * 32, SIZE)
    assert error.value.hint == "adapt again: edgekit adapt BUNDLE --speaker anna DATA"
    with pytest.raises(StoreError, match=r"expected float32\[101\] for 'anna', received float32\[100\]"):
        read_theta(record, LAYOUT, 101)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "received something else"),
        (b"nonsense" * 9, "received something else"),
        (save({"other": theta()}), "received something else"),
        (save({"theta": theta().astype(np.float16)}), "received float16"),
        (save({"theta": np.full(SIZE, np.inf, np.float32)}), "NaN or infinity"),
    ],
)
def test_a_file_that_holds_something_else(store: Store, content: bytes, message: str) -> None:
    record = store.write("speakers", "anna", {FILE: content}, {"layout_hash": LAYOUT})
    with pytest.raises(StoreError, match=message):
        read_theta(record, LAYOUT, SIZE)


def test_an_altered_file(store: Store) -> None:
    record = install(store, "anna", theta(), LAYOUT, {})
    content = bytearray((record.path / FILE).read_bytes())
    content[-1] ^= 1
    (record.path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match="altered"):
        read_theta(record, LAYOUT, SIZE)


def test_a_record_without_weights(store: Store) -> None:
    record = store.write("speakers", "anna", {"other": b"1"}, {"layout_hash": LAYOUT})
    with pytest.raises(StoreError, match="theta"):
        read_theta(record, LAYOUT, SIZE)
