"""How families are found, and what an unknown name is told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgekit.core.errors import UsageError
from edgekit.train.family import find_family


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"expected a family among .*; received 'hubert-studnet'") as caught:
        find_family("hubert-studnet")
    assert caught.value.hint == "did you mean hubert-student?"
    with pytest.raises(UsageError, match="variant of hubert-student"):
        find_family("hubert-student").variant("deep")
    with pytest.raises(UsageError, match="head of hubert-student"):
        find_family("hubert-student").head("rnnt")


def test_finding_families_does_not_import_torch() -> None:
    code = "import sys; from edgekit.train.family import families; families(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
