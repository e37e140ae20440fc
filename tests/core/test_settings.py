from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import SettingsError, UsageError
from edgekit.core.settings import (
    apply_settings,
    load_settings,
    settings_from_dict,
    settings_to_dict,
    settings_to_json,
)

pytestmark = pytest.mark.device_side


@dataclass(frozen=True)
class Optimiser:
    name: Literal["adamw", "sgd"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"expected lr > 0, received {self.lr}")


@dataclass(frozen=True)
class Settings:
    num_steps: int = 100
    shuffle: bool = True
    out: str = "runs"
    data: Path = Path("data")
    limit: int | None = None
    note: Optional[str] = None  # noqa: UP045
    seconds: Union[int, float] = 10
    layers: tuple[int, ...] = (1, 2)
    buckets: tuple[tuple[int, int], ...] = ()
    words: tuple[str, ...] = ()
    bits: Literal[4, 8] = 8
    rate: Annotated[float, "per second"] = 1.0
    optimiser: Optimiser = field(default_factory=lambda: Optimiser(lr=0.5))
    finetune: Optimiser | None = None
    low: int = 1
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"expected low <= high, received {self.low} and {self.high}")


@dataclass(frozen=True)
class Required:
    name: str
    optimiser: Optimiser
    extra: int = 0


DEFAULT = Settings()


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("num_steps=7", "num_steps", 7),
        ("num_steps = -7", "num_steps", -7),
        ("shuffle=false", "shuffle", False),
        ("shuffle=True", "shuffle", True),
        ("out=a=b", "out", "a=b"),
        ("out=", "out", ""),
        ("out=none", "out", "none"),
        ("out=7", "out", "7"),
        ("data=a/b", "data", Path("a/b")),
        ("limit=3", "limit", 3),
        ("limit=none", "limit", None),
        ("note=none", "note", None),
        ("note=3", "note", "3"),
        ("seconds=3", "seconds", 3),
        ("seconds=2.5", "seconds", 2.5),
        ("layers=3", "layers", (3,)),
        ("layers=3, 4,5", "layers", (3, 4, 5)),
        ("layers=[3, 4]", "layers", (3, 4)),
        ("layers=", "layers", ()),
        ("buckets=[[1,2],[3,4]]", "buckets", ((1, 2), (3, 4))),
        ("words=yes,no", "words", ("yes", "no")),
        ("bits=4", "bits", 4),
        ("rate=1", "rate", 1.0),
        ("rate=1e-3", "rate", 1e-3),
        ("rate=inf", "rate", math.inf),
        ("optimiser.name=sgd", "optimiser", Optimiser("sgd", 0.5)),
        ("optimiser.betas=0.5,0.6", "optimiser", Optimiser(lr=0.5, betas=(0.5, 0.6))),
        ("finetune.lr=2", "finetune", Optimiser(lr=2.0)),
        ("finetune=none", "finetune", None),
    ],
)
def test_a_value_is_parsed_as_its_field_says(assignment: str, name: str, value: object) -> None:
    applied = apply_settings(DEFAULT, [assignment])
    assert getattr(applied, name) == value
    assert type(getattr(applied, name)) is type(value)
    assert applied == Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("num_steps=ten", "num_steps: expected int, received 'ten'"),
        ("num_steps=1.5", "num_steps: expected int, received '1.5'"),
        ("num_steps=none", "num_steps: expected int, received 'none'"),
        ("num_steps=", "num_steps: expected int, received ''"),
        ("num_steps=true", "num_steps: expected int, received 'true'"),
        ("shuffle=1", "shuffle: expected bool, received '1'"),
        ("rate=fast", "rate: expected float, received 'fast'"),
        ("rate=nan", "rate: expected float, received 'nan'"),
        ("limit=x", "limit: expected int or none, received 'x'"),
        ("seconds=x", "seconds: expected int or float, received 'x'"),
        ("layers=1,x", "layers[1]: expected int, received 'x'"),
        ("layers=1,,2", "layers[1]: expected int, received ''"),
        ("layers=[1,", "layers: expected values of int, received '[1,'"),
        ("layers=[1, true]", "layers[1]: expected int, received True"),
        ("buckets=[[1,2,3]]", "buckets[0]: expected 2 of int, received [1, 2, 3]"),
        ("buckets=1,2", "buckets[0]: expected 2 of int, received '1'"),
        ("bits=5", "bits: expected 4 or 8, received '5'"),
        ("optimiser.name=adam", "optimiser.name: expected 'adamw' or 'sgd', received 'adam'"),
        ("optimiser.betas=1", "optimiser.betas: expected 2 of float, received '1'"),
        ("optimiser=adamw", "optimiser: expected Optimiser, received 'adamw'"),
        ("num_steps.x=1", "num_steps: expected int, received a table of x"),
        ("optimiser.lr=-1", "optimiser: expected lr > 0, received -1.0"),
        ("low=10", "expected low <= high, received 10 and 9"),
        ("num_steps", "expected field=value, received 'num_steps'"),
        ("=3", "expected field=value, received '=3'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        apply_settings(DEFAULT, [assignment])
    assert caught.value.message == message


def test_an_unknown_field_lists_the_fields_and_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"expected one of num_steps, shuffle, .*; received 'num_stesp'") as caught:
        apply_settings(DEFAULT, ["num_stesp=1"])
    assert caught.value.hint == "did you mean num_steps?"
    with pytest.raises(SettingsError) as caught:
        apply_settings(DEFAULT, ["optimiser.learning=1"])
    assert caught.value.message == "optimiser: expected one of name, lr, betas; received 'learning'"
    assert caught.value.hint is None
    with pytest.raises(SettingsError) as caught:
        apply_settings(DEFAULT, ["optimiser.name=adam"])
    assert caught.value.hint == "did you mean adamw?"


def test_it_is_wrong_usage() -> None:
    with pytest.raises(UsageError) as caught:
        apply_settings(DEFAULT, ["x=1"])
    assert caught.value.exit_code == 2


def test_all_assignments_are_applied_before_ranges_are_checked() -> None:
    applied = apply_settings(DEFAULT, ["low=20", "high=30", "optimiser.lr=2", "optimiser.name=sgd"])
    assert applied == Settings(low=20, high=30, optimiser=Optimiser("sgd", 2.0))


def test_the_last_assignment_of_a_field_wins_and_the_given_settings_stay() -> None:
    assert apply_settings(DEFAULT, ["num_steps=1", "num_steps=2"]).num_steps == 2
    assert Settings() == DEFAULT
    assert apply_settings(DEFAULT, []) == DEFAULT


@pytest.mark.parametrize("pair", [["finetune=none", "finetune.lr=2"], ["finetune.lr=2", "finetune=none"]])
def test_a_field_is_set_as_a_whole_or_by_its_fields(pair: list[str]) -> None:
    with pytest.raises(SettingsError, match="as a whole or by its fields, received both"):
        apply_settings(DEFAULT, pair)


def test_what_is_set_already_stays_beside_what_is_set_now() -> None:
    config = Settings(finetune=Optimiser("sgd", 3.0))
    assert apply_settings(config, ["finetune.betas=0,1"]).finetune == Optimiser("sgd", 3.0, (0.0, 1.0))
    assert apply_settings(Required("r", Optimiser(lr=9.0)), ["optimiser.name=sgd"]).optimiser == Optimiser("sgd", 9.0)


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_load_settings(tmp_path: Path) -> None:
    file = written(
        tmp_path / "run.toml",
        """
        num_steps = 5
        out = "été"
        data = "corpus"
        layers = [7, 8]
        buckets = [[1, 2]]
        rate = 3
        bits = 4
        [optimiser]
        name = "sgd"
        [finetune]
        lr = 1.5
        """,
    )
    assert load_settings(Settings, file) == Settings(
        num_steps=5,
        out="été",
        data=Path("corpus"),
        layers=(7, 8),
        buckets=((1, 2),),
        rate=3.0,
        bits=4,
        optimiser=Optimiser("sgd", lr=0.5),  # lr: of this field's default, not of the class
        finetune=Optimiser(lr=1.5),
    )
    assert type(load_settings(Settings, file).rate) is float
    assert load_settings(Settings, str(written(tmp_path / "empty.toml", ""))) == DEFAULT


def test_load_settings_needs_what_has_no_default(tmp_path: Path) -> None:
    file = written(tmp_path / "run.toml", 'name = "x"')
    with pytest.raises(SettingsError) as caught:
        load_settings(Required, file)
    assert caught.value.message == f"{file}: expected a value for optimiser; received none"
    written(file, 'name = "x"\n[optimiser]\nlr = 2')
    assert load_settings(Required, file) == Required("x", Optimiser(lr=2.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_steps = 1.0", "num_steps: expected int, received 1.0"),
        ("num_steps = true", "num_steps: expected int, received True"),
        ('num_steps = "1"', "num_steps: expected int, received '1'"),
        ("rate = true", "rate: expected float, received True"),
        ("rate = nan", "rate: expected float, received nan"),
        (f"rate = 1{'0' * 400}", f"rate: expected float, received 1{'0' * 400}"),
        ("shuffle = 1", "shuffle: expected bool, received 1"),
        ("out = 1979-05-27", "out: expected str, received datetime.date(1979, 5, 27)"),
        ("out = 1", "out: expected str, received 1"),
        ('limit = "none"', "limit: expected int or none, received 'none'"),
        ("bits = true", "bits: expected 4 or 8, received True"),
        ("bits = 4.0", "bits: expected 4 or 8, received 4.0"),
        ("layers = 3", "layers: expected values of int, received 3"),
        ('layers = "12"', "layers: expected values of int, received '12'"),
        ("layers = [1, 2.0]", "layers[1]: expected int, received 2.0"),
        ("optimiser = 1", "optimiser: expected Optimiser, received 1"),
        ("[out]\na = 1\nb = 2", "out: expected str, received a table of a, b"),
        ("[optimiser]\nlr = -1", "optimiser: expected lr > 0, received -1.0"),
        ("[optimiser]\nbetas = [1, 2, 3]", "optimiser.betas: expected 2 of float, received [1, 2, 3]"),
        ("low = 10", "expected low <= high, received 10 and 9"),
    ],
)
def test_a_file_with_another_type_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path / "run.toml", text)
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings, file)
    assert caught.value.message == f"{file}: {message}"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"num_steps = 1\n\nout = \n", 3),
        (b"num_steps = 1\nnum_steps = 2\n", 2),
        (b"num_steps = 1\nout = '''", 2),
        (b"# one\n# two\nout = '\xff'\n", 3),
        (b"layers = " + b"[" * 50_000, 1),
    ],
)
def test_a_broken_file_says_where(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=rf"run\.toml, line {line}: expected TOML"):
        load_settings(Settings, tmp_path / "run.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.toml"):
        with pytest.raises(SettingsError, match=f"expected a TOML file at {path}"):
            load_settings(Settings, path)


def test_a_type_that_settings_cannot_have_is_a_defect() -> None:
    @dataclass(frozen=True)
    class Wrong:
        table: dict[str, int] = field(default_factory=dict)

    with pytest.raises(TypeError, match="table: a setting cannot be a dict"):
        apply_settings(Wrong(), ["table=1"])


settings = st.builds(
    Settings,
    num_steps=st.integers(),
    shuffle=st.booleans(),
    out=st.text(),
    data=st.sampled_from([Path("a/b"), Path()]),
    limit=st.none() | st.integers(),
    note=st.none() | st.text(),
    seconds=st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    layers=st.lists(st.integers()).map(tuple),
    buckets=st.lists(st.tuples(st.integers(), st.integers())).map(tuple),
    words=st.lists(st.text()).map(tuple),
    bits=st.sampled_from([4, 8]),
    rate=st.floats(allow_nan=False),
    finetune=st.none() | st.builds(Optimiser, lr=st.floats(1e-9, 1e9)),
)


@given(settings)
def test_settings_survive_json(config: Settings) -> None:
    data = json.loads(settings_to_json(config))
    assert data == settings_to_dict(config)
    assert settings_from_dict(Settings, data) == config


@given(
    st.text() | st.text("[]{},:.0123456789eE+-_ naulfsr\"'=") | st.integers().map(str),
    st.sampled_from(sorted(DEFAULT.__dataclass_fields__)),
)
def test_any_text_is_a_value_or_a_settings_error(text: str, name: str) -> None:
    try:
        applied = apply_settings(DEFAULT, [f"{name}={text}"])
    except SettingsError:
        return
    assert settings_from_dict(Settings, settings_to_dict(applied)) == applied


def test_settings_to_dict_holds_what_json_can() -> None:
    data: dict[str, Any] = settings_to_dict(Settings(data=Path("a"), layers=(1,)))
    assert (data["data"], data["layers"], data["optimiser"]["betas"]) == ("a", [1], [0.9, 0.999])

    @dataclass(frozen=True)
    class Wrong:
        value: object = 1j

    with pytest.raises(TypeError):
        settings_to_dict(Wrong())
