"""How wide buckets are and how long each tier keeps readings: Period, and Layout, its history."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.errors import BadInput

DAY_S = 86_400
US = 1_000_000


@dataclass(frozen=True, slots=True)
class Period:
    """Widths and retentions in force from `from_s` (epoch seconds) on."""

    from_s: int
    bucket_s: int
    archive_after_s: int
    hot_retention_s: int
    cold_retention_s: int

    @property
    def slot_step_s(self) -> int:
        """Slots are multiples of this."""
        return min(self.bucket_s, self.archive_after_s)

    @property
    def margin_s(self) -> int:
        """The least time between a chunk's slot and its expiry."""
        return self.hot_retention_s - self.archive_after_s - self.slot_step_s


@dataclass(frozen=True, slots=True)
class Layout:
    """Bucket width and retentions, with the dates from which each holds, oldest first.

    `shortest_hot_s` is the smallest hot retention ever in force: how early a chunk may
    have left the hot tier, counted from its bucket's end. It never grows.
    """

    periods: tuple[Period, ...]
    shortest_hot_s: int

    def at(self, now_s: float) -> Period:
        """The period in force at an instant; the first one before any."""
        current = self.periods[0]
        for period in self.periods:
            if period.from_s <= now_s:
                current = period
        return current

    @property
    def widest_bucket_s(self) -> int:
        """The widest bucket any stored reading may lie in."""
        return max(period.bucket_s for period in self.periods)

    @property
    def half_margin_s(self) -> int:
        """Half of the widest margin between slot and expiry that was ever in force."""
        return max(0, max(period.margin_s for period in self.periods) // 2)

    def cold_until_us(self, now_s: float) -> int:
        """Readings before this instant may have left the hot tier; later ones cannot have."""
        return int((now_s - self.shortest_hot_s + self.half_margin_s) * US)

    def changed(self, period: Period) -> Layout:
        """This layout with a further period; the same object where nothing would change."""
        last = self.periods[-1]
        if replace(period, from_s=last.from_s) == last:
            return self
        shortest = min(self.shortest_hot_s, period.hot_retention_s)
        return Layout((*self.periods, period), shortest)

    def expired_early(self, by_s: int) -> Layout:
        """This layout after chunks were expired `by_s` seconds before their time."""
        shortest = min(self.shortest_hot_s, min(p.hot_retention_s for p in self.periods) - by_s)
        return Layout(self.periods, shortest)


def first_layout(period: Period) -> Layout:
    """The layout of a new deployment."""
    return Layout((period,), period.hot_retention_s)


def check_period(period: Period, least_margin_s: int = 0) -> None:
    """Raise BadInput where the widths and retentions cannot work together."""
    bucket_s = period.bucket_s
    if bucket_s < 60 or bucket_s % 60 or DAY_S % bucket_s:
        raise BadInput(
            f"bucket: {bucket_s} s cannot be used; it must be whole minutes that divide a day "
            "evenly, such as 1m, 15m, 1h or 24h."
        )
    if period.archive_after_s < 1:
        raise BadInput("archive-after: must be at least 1s.")
    if period.margin_s < max(least_margin_s, 1):
        raise BadInput(
            f"hot-retention: {period.hot_retention_s} s leaves {period.margin_s} s between archiving and "
            f"expiry; at least {max(least_margin_s, 1)} s are needed. Raise hot-retention or lower archive-after."
        )
    if period.cold_retention_s <= period.hot_retention_s:
        raise BadInput("cold-retention: must be longer than hot-retention.")
