"""Groups of nodes, as a table and a page show them."""

from __future__ import annotations

import pytest

from edgekit.runtime.profile.measured import Group, merged

pytestmark = pytest.mark.device_side


def test_modules_that_differ_in_numbers_alone_are_one() -> None:
    groups = [
        Group("head", 3.0, 0.3, 2),
        Group("blocks.0.group.1", 1.0, 0.1, 1),
        Group("blocks.10.group.1", 4.0, 0.4, 3),
        Group("blocks.1x", 2.0, 0.2, 1),
    ]
    assert merged(groups) == [
        Group("blocks.*.group.*", 5.0, 0.5, 4),
        Group("head", 3.0, 0.3, 2),
        Group("blocks.1x", 2.0, 0.2, 1),
    ]
