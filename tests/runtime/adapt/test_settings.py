"""Settings as a command line gives them."""

from __future__ import annotations

import pytest

from edgekit.core.errors import SettingsError
from edgekit.core.settings import apply_settings, settings_from_dict, settings_to_dict
from edgekit.runtime.adapt.settings import AdaptSettings

pytestmark = pytest.mark.device_side


@pytest.mark.parametrize(("text", "start"), [("start=best", "best"), ("start=zeros", "zeros"), ("start=3", 3)])
def test_starts(text: str, start: object) -> None:
    settings = apply_settings(AdaptSettings(), [text, "learning_rate=3e-4"])
    assert (settings.start, settings.learning_rate) == (start, 3e-4)
    assert settings_from_dict(AdaptSettings, settings_to_dict(settings)) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat=1", "received 'learning_rat'"),
        ("learning_rate=0", "expected learning_rate above 0"),
        ("learning_rate=nan", "expected float"),
        ("steps=0", "expected steps of 1 or more"),
        ("time_masks=-1", "expected time_masks of 0 or more"),
        ("start=-1", "expected start of 0 or more"),
        ("start=worst", "expected int or 'best' or 'zeros'"),
        ("held_back=1", "expected held_back between 0 and 1"),
        ("confidence=1.1", "expected confidence in 0..1"),
        ("weight_decay=2000", "expected weight_decay in"),
        ("schedule=linear", "expected 'constant' or 'cosine'"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as error:
        apply_settings(AdaptSettings(), [text])
    assert message in error.value.message
