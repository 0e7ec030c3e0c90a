"""What the registry takes of a sensor: limits that name the part, and changes that touch only what they name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadInput
from ingest.sensor import Sensor, check_sensor, merged, replaced, same_parts
from ingest.stores.registry_entry import decode_sensor, encode_sensor

PRESS = Sensor(
    "press-7", 5, "Press 7", {"temperature": "°C"}, {"site": "east"}, {"lat": 52.1, "lon": 5, "room": "2b"}, 3
)


class TestLimits:
    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"name": "x" * 129}, "name: 129 characters"),
            ({"name": "two\nlines"}, "name: .*line break"),
            ({"name": "\ud800"}, "name: .*surrogate"),
            ({"name": 7}, "name: must be text"),
            ({"labels": []}, "labels: must be an object"),
            ({"labels": {"a b": "x"}}, "labels: 'a b' is no name"),
            ({"labels": {"": "x"}}, "labels: '' is no name"),
            ({"labels": {"site": 5}}, "labels.site: must be text"),
            ({"labels": {"site": "x" * 257}}, "labels.site: 257 characters"),
            ({"labels": {f"l{i}": "x" for i in range(33)}}, "labels: 33 of them"),
            ({"units": {"°C": "temperature"}}, r"units: '\\xb0C' is no name"),
            ({"units": {"temperature": "x" * 33}}, "units.temperature: 33 characters"),
            ({"units": {f"m{i}": "x" for i in range(257)}}, "units: 257 of them"),
            ({"place": {"lat": 90.01, "lon": 0}}, "place.lat: must be a number from -90 to 90"),
            ({"place": {"lat": "52", "lon": 0}}, "place.lat: must be a number"),
            ({"place": {"lat": float("nan"), "lon": 0}}, "place.lat: must be a number"),
            ({"place": {"lat": True, "lon": 0}}, "place.lat: must be a number"),
            ({"place": {"lat": 5}}, "place: lat and lon belong together"),
            ({"place": {"room": ["2b"]}}, "place.room: must be text or a number"),
            ({"place": {"floor": 10**400}}, "place.floor: must be text or a number"),
            ({"place": {"floor": float("inf")}}, "place.floor: must be text or a number"),
            ({"place": {f"p{i}": "x" * 500 for i in range(9)}}, "place: takes .* bytes"),
            ({"version": 9}, "'version': is no part"),
            ({"first_seen": 9}, "'first_seen': is no part"),
        ],
    )
    @pytest.mark.parametrize("change", [merged, replaced])
    def test_what_cannot_be_kept_is_refused_by_the_name_of_its_part(
        self, change: Any, changes: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(BadInput, match=f"^{says}"):
            change(Sensor("a", 1), changes)

    @pytest.mark.parametrize("name", ["", "a b", "a//b", "a/", "..", "é", "x" * 129])
    def test_an_id_must_be_one(self, name: str) -> None:
        with pytest.raises(BadInput, match="sensor_id:"):
            check_sensor(Sensor(name, 1))

    def test_what_is_at_its_limit_is_kept(self) -> None:
        full = Sensor(
            "a" * 128,
            1,
            "ü" * 128,
            {f"m{i}": "°" * 32 for i in range(256)},
            {f"l{i}": "🌊" * 256 for i in range(32)},
            {"lat": -90, "lon": 180, "alt": -3.5, "note": "x" * 4_000},
        )
        assert check_sensor(full) == full
        assert decode_sensor(encode_sensor(full)) == full


class TestChanges:
    def test_a_patch_changes_only_what_it_names(self) -> None:
        changed = merged(PRESS, {"labels": {"line": "4"}, "place": {"room": None}})
        assert changed.labels == {"site": "east", "line": "4"}
        assert changed.place == {"lat": 52.1, "lon": 5}
        assert (changed.name, changed.units, changed.version) == ("Press 7", {"temperature": "°C"}, 3)
        assert PRESS.labels == {"site": "east"}

    def test_null_removes(self) -> None:
        nothing = merged(PRESS, {"name": None, "labels": None, "units": {"temperature": None}, "place": None})
        assert same_parts(nothing, Sensor("other", 9))
        assert merged(PRESS, {"labels": {"absent": None}}) == PRESS

    def test_a_document_leaves_nothing_behind(self) -> None:
        assert replaced(PRESS, {"name": "New"}) == Sensor("press-7", 5, "New", version=3)
        assert same_parts(replaced(PRESS, {"name": None}), Sensor("press-7", 5))

    member = st.one_of(st.none(), st.text(st.characters(codec="utf-8", categories=["L", "N"]), max_size=5))
    part = st.one_of(st.none(), st.dictionaries(st.sampled_from("abc"), member, max_size=3))
    patches = st.fixed_dictionaries(
        {}, optional={"name": member, "labels": part, "units": part, "place": part}
    )

    @given(patches, patches)
    def test_a_patch_made_twice_is_made_once(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        before = merged(PRESS, one)
        after = merged(before, other)
        assert merged(after, other) == after
        assert None not in {**after.labels, **after.units, **after.place}.values()
        assert decode_sensor(encode_sensor(after)) == after
