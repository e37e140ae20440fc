"""How families are found, what an unknown name is told, and that a broken package stops no other family."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.cli import main
from edgekit.core.errors import EdgekitError, UsageError
from edgekit.train.family import families, find_family

OURS = ["hubert", "hubert-student"]

BROKEN = {
    "absent": ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
    "crashing": ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
    "wrong": ("FAMILY = 5\n", "TypeError: expected wrong:FAMILY to be an edgekit.train.family.Family, it is 5"),
    "nameless": ("", "AttributeError: module 'nameless' has no attribute 'FAMILY'"),
    "hollow": (
        "from edgekit.train.family import Family\nFAMILY = Family('hollow', '', '', {}, {}, 'hollow.model')\n",
        "ValueError: expected hollow:FAMILY to have variants and heads",
    ),
    "unsized": (
        "from edgekit.train.family import Family\nFAMILY = Family('unsized', '', '', {'a': 1}, {'b': 'c'}, 'd')\n",
        "AttributeError: 'int' object has no attribute 'num_parameters'",
    ),
    "second": (
        "from edgekit.train.families.hubert import FAMILY\n",
        "ValueError: there is another family named 'hubert'",
    ),
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installed packages, each of which announces a family that cannot be used."""
    for name, (text, _) in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(text)
        info = tmp_path / f"my_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-{name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[edgekit.families]\n{name} = {name}:FAMILY\n")
    monkeypatch.syspath_prepend(tmp_path)
    families.cache_clear()
    yield
    families.cache_clear()
    for name in BROKEN:
        sys.modules.pop(name, None)


def test_unknown_names_are_told_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"expected a family among .*; received 'hubert-studnet'") as caught:
        find_family("hubert-studnet")
    assert caught.value.hint == "did you mean hubert-student?"
    with pytest.raises(UsageError, match="variant of hubert-student"):
        find_family("hubert-student").variant("deep")
    with pytest.raises(UsageError, match="head of hubert-student"):
        find_family("hubert-student").head("rnnt")


def test_what_may_be_deployed_of_weights_is_a_size_of_every_variant() -> None:
    for family in families().values():
        for config in family.variants.values():
            assert set(family.deployable) <= config.__dataclass_fields__.keys()
    assert families()["disconformer"].deployable == ("active", "personal")


def test_finding_families_does_not_import_torch() -> None:
    code = "import sys; from edgekit.train.family import families; families(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_broken_package_stops_no_other_family(broken: None) -> None:
    assert set(families()) >= set(OURS)
    assert not set(families()) & set(BROKEN)
    assert families()["hubert"].code == "edgekit.train.families.hubert.model"
    assert families().broken.keys() == BROKEN.keys()
    for name, (_, reason) in BROKEN.items():
        assert families().broken[name].startswith(f"package my-{name}: {reason}")


def test_a_family_of_a_broken_package_is_told_why(broken: None) -> None:
    with pytest.raises(
        EdgekitError, match="entry point 'crashing', received package my-crashing: RuntimeError: no lic"
    ):
        find_family("crashing")


def test_list_warns_of_broken_packages(
    broken: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["list"], ["list", "--json"]):
        monkeypatch.setattr(sys, "argv", ["edgekit", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0
        printed = capsys.readouterr()
        warnings = printed.err.splitlines()
        assert len(warnings) == len(BROKEN)
        assert "warning: the family crashing cannot be used: package my-crashing: RuntimeError: no licence" in warnings
    assert {row["family"] for row in json.loads(printed.out)} >= set(OURS)
