"""What is stored and no longer what was written: flipped bytes, other objects, and what later releases add."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from random import Random
from typing import Any

import pyarrow as pa
import pytest

from ingest import segment
from ingest.archive import reindex
from ingest.errors import Corrupt
from ingest.keys import US
from ingest.reading import Run
from tests.other_writers import signed_file
from tests.unit.test_archive_outages import cells
from tests.world import ALWAYS, NOW_S, NOW_US, USUAL, World, readings

# --- bytes that rot ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_of_a_thousand_objects_with_one_flipped_byte_none_gives_another_answer(seed):
    """A query either fails aloud or is right, and the sha256 in catalog and metadata tells every one of them."""
    dice = Random(seed)
    world = World()
    count = dice.randint(1, 400)
    values = [round(dice.gauss(20, 3), dice.randint(0, 3)) for _ in range(count)]
    world.send(readings("press-7", NOW_US, US, a=values, on=[bool(i % 7) for i in range(count)]))
    (entry,) = world.archive_all().segments
    world.expire()
    truth = cells(world.ask("press-7").run)
    data, head = world.cold.objects[entry.name]
    for _ in range(50):
        place = dice.randrange(len(data))
        damaged = data[:place] + bytes([data[place] ^ dice.randint(1, 255)]) + data[place + 1 :]
        world.cold.objects[entry.name] = damaged, head
        assert hashlib.sha256(damaged).hexdigest() != entry.sha256 == head.metadata["sha256"]
        try:
            found = cells(world.ask("press-7").run)
        except Corrupt:
            continue
        assert found == truth
        assert place < 4, "only the magic at the object's beginning is never read"


@pytest.mark.parametrize("change", ["cut", "longer", "another", "empty"])
def test_an_object_that_is_not_the_one_catalogued_is_an_error_until_it_is_catalogued_again(change):
    world = World()
    world.send(readings("press-7", NOW_US, US, a=[1.5, 2.5]))
    (entry,) = world.archive_all().segments
    world.expire()
    data, _ = world.cold.objects[entry.name]
    run = readings("press-7", NOW_US, US, a=[9.5] * 40)
    other = segment.encode([replace(run, arrival_ms=NOW_S * 1000)])
    put = {"cut": data[:-9], "longer": data + b"\0", "another": other.data, "empty": b""}[change]
    world.cold.put(entry.name, put, segment.metadata(other) if change == "another" else {})
    if change == "longer":
        assert world.found("press-7").metrics == {"a": [1.5, 2.5]}, "what was catalogued is all there"
    else:
        with pytest.raises(Corrupt):
            world.ask("press-7")
    *_, done = reindex(world.cold, world.catalog, USUAL, world.catalog.find(ALWAYS))
    if change == "another":
        assert world.found("press-7").metrics == {"a": [9.5] * 40}
    else:
        assert done.skipped == [entry.name]
        assert world.catalog.find(ALWAYS) == [entry], "it is not forgotten: readings would vanish silently"


# --- what later releases may add --------------------------------------------------------


def test_a_column_that_a_later_release_adds_is_no_obstacle():
    run = Run("press-7", [NOW_US, NOW_US + 1], {"a": [1.5, 2]}, 7)
    plain = segment.encode([run])
    table = pa.parquet.read_table(io.BytesIO(plain.data))  # pyright: ignore[reportAttributeAccessIssue]
    wider = table.append_column("quality", pa.array([7, 8]))
    known = {
        name: text for name, text in segment.metadata(plain).items() if name not in ("sha256", "footer-bytes")
    }
    data = signed_file(wider, known)
    assert segment.decode(data) == [run]
    assert segment.summary(lambda start, end: data[start:end], len(data)).rows == 2


def test_an_attribute_that_a_later_release_adds_to_an_item_is_no_obstacle():
    world = World()
    world.send(readings("press-7", NOW_US, US, a=[1, 2]))
    truth = cells(world.ask("press-7").run)
    added: dict[str, Any] = {"later": {"M": {"x": {"L": [{"N": "1"}]}}}}
    for key, item in world.hot.items.items():
        world.hot.items[key] = item | added
    assert cells(world.ask("press-7").run) == truth
    world.archive_all()
    world.catalog.items = {key: item | added for key, item in world.catalog.items.items()}
    world.expire()
    assert cells(world.ask("press-7").run) == truth
