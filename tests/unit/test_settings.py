"""What the environment says to the functions and to the API, and how a wrong variable is named."""

from __future__ import annotations

import pytest

from ingest import settings
from ingest.errors import BadInput

NAMES = {"THERMOCLINE_TABLE": "t", "THERMOCLINE_ARCHIVE_BUCKET": "a", "THERMOCLINE_REJECTS_BUCKET": "r"}


def test_unknown_sensors_are_registered_unless_the_deployment_refuses_them() -> None:
    assert settings.from_env(NAMES).unknown_sensors == "register"
    assert settings.from_env(NAMES | {"THERMOCLINE_UNKNOWN_SENSORS": ""}).unknown_sensors == "register"
    assert settings.from_env(NAMES | {"THERMOCLINE_UNKNOWN_SENSORS": "refuse"}).unknown_sensors == "refuse"
    with pytest.raises(BadInput, match=r"THERMOCLINE_UNKNOWN_SENSORS: 'Refuse'.*register or refuse"):
        settings.from_env(NAMES | {"THERMOCLINE_UNKNOWN_SENSORS": "Refuse"})


def test_the_api_has_defaults_for_all_but_its_stream() -> None:
    found = settings.api_from_env({"THERMOCLINE_STREAM": "s"})
    assert found == settings.ApiSettings("s", "token", 20, None, None, None)
    with pytest.raises(BadInput, match="THERMOCLINE_STREAM is not set"):
        settings.api_from_env({})


def test_the_api_takes_what_is_set() -> None:
    given = {
        "THERMOCLINE_STREAM": "s",
        "THERMOCLINE_AUTH": "jwt",
        "THERMOCLINE_LANES": "40",
        "THERMOCLINE_WRITE_UNIT_USD": "0.625",
        "THERMOCLINE_CONTROL_URL": "http://127.0.0.1:1",
        "THERMOCLINE_CONTROL_TOKEN": "secret",
    }
    found = settings.api_from_env(given)
    assert found == settings.ApiSettings("s", "jwt", 40, 0.625, "http://127.0.0.1:1", "secret")
    assert given.keys() <= settings.SETTINGS.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THERMOCLINE_AUTH", "none"),
        ("THERMOCLINE_LANES", "0"),
        ("THERMOCLINE_LANES", "-1"),
        ("THERMOCLINE_LANES", "²"),
        ("THERMOCLINE_LANES", "1000000"),
        ("THERMOCLINE_WRITE_UNIT_USD", "cheap"),
        ("THERMOCLINE_WRITE_UNIT_USD", "nan"),
        ("THERMOCLINE_WRITE_UNIT_USD", "-1"),
    ],
)
def test_what_the_api_cannot_use_is_named(name: str, value: str) -> None:
    with pytest.raises(BadInput, match=f"^{name}: "):
        settings.api_from_env({"THERMOCLINE_STREAM": "s", name: value})
