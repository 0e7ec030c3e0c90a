"""Judges what a deployment holds and how far behind it is: pure functions from numbers to a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.doctor.finding import Finding, Names, span_text
from infra.doctor.vitals import MOST_COUNTED, Vital
from ingest.reject import REASONS

AGE_WARNING_S, AGE_ERROR_S = 6 * 3600, 12 * 3600
"""Of a record in a stream; it is given up after 20 h and gone after 24 h."""
_REINDEX = "Run `thermocline archive reindex`"


def _unknown(check: str, *vitals: Vital) -> Finding | None:
    """The finding where one of the numbers is not known."""
    for vital in vitals:
        if vital.value is None:
            return Finding(check, "skipped", vital.reason or "it is not known")
    return None


def overdue(late_s: Vital, margin_s: Vital, names: Names) -> Finding:
    """How much of the time between slot and expiry is used up by the oldest unarchived manifest (I4)."""
    unknown = _unknown("overdue", late_s, margin_s)
    if unknown is not None:
        return unknown
    late, margin = float(late_s.value or 0), float(margin_s.value or 0)
    told = f"the oldest manifest is {span_text(late)} late; its chunks expire {span_text(margin)} after their slot"
    if late < margin / 4 or late == 0:
        return Finding("overdue", "ok", told if late else "every slot that is due is archived")
    first = f"1. See why the archiver does not get on: {names.logs(names.archiver)}."
    steps = f"{first} 2. Mend it, then order the archiving at once: {names.archive_now()}."
    if names.kind == "localstack":
        steps += " Keep `thermocline clock` running."
    if late < margin / 2:
        return Finding("overdue", "warning", told, steps)
    left = margin - late
    if left > 0:
        told += f"; {span_text(left)} are left"
    else:
        told += "; they may be going now"
    if names.kind == "aws":  # the clocks of the other targets never let an unarchived chunk go
        steps += (
            f" 3. Where that takes longer than {span_text(max(0, left) / 2)}, keep chunks from expiring: "
            f"{names.expiry_off()} (it takes up to an hour); the schedule goes on archiving. "
            f"4. When this check is ok again, switch expiry back on with {names.deploy()}."
        )
    return Finding("overdue", "error", told, steps)


def age(check: str, vital: Vital, function: str, names: Names) -> Finding:
    """How long the records of a stream wait for their function."""
    unknown = _unknown(check, vital)
    if unknown is not None:
        return unknown
    waited = float(vital.value or 0)
    told = f"records wait for {span_text(waited)}"
    if waited < AGE_WARNING_S:
        return Finding(check, "ok", told)
    return Finding(
        check,
        "error" if waited >= AGE_ERROR_S else "warning",
        f"{told}; after 20 h they are given up",
        f"See why {function} does not get on: {names.logs(function)}. More shards (ShardCount) or memory "
        "(MemoryStoreMb) help where it is merely slow.",
    )


def rejects(count: int, reasons: Mapping[str, int], *, more: bool) -> Finding:
    """What was refused in the last 24 h, by reason; `more`: counting stopped there."""
    if not count:
        return Finding("rejects", "ok", "none in the last 24 h")
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    told = ", ".join(f"{reason} {number:,}" for reason, number in ranked[:3])
    return Finding(
        "rejects",
        "warning",
        f"{'over ' if more else ''}{count:,} in the last 24 h: {told}",
        f"{REASONS.get(ranked[0][0], '')} `thermocline rejects ls --from -1d` names the sensors; after a fix, "
        "`thermocline rejects retry` stores what can be stored.".strip(),
    )


def failed_batches(vital: Vital, names: Names) -> Finding:
    """Batches that were given up and lie in the rejects bucket (I1)."""
    unknown = _unknown("failed-batches", vital)
    if unknown is not None:
        return unknown
    count = int(vital.value or 0)
    if not count:
        return Finding("failed-batches", "ok", "none")
    return Finding(
        "failed-batches",
        "error",
        f"{'at least ' if count >= MOST_COUNTED else ''}{count:,} batches were given up; what they hold is in no query",
        f"Mend what made them fail ({names.store}), then run `thermocline rejects retry`. The bucket keeps them for "
        "RejectRetentionDays (30).",
    )


def chunks_lost(vital: Vital, names: Names) -> Finding:
    """Chunks that expired before they were archived (I4)."""
    unknown = _unknown("lost", vital)
    if unknown is not None:
        return unknown
    count = int(vital.value or 0)
    if not count:
        return Finding("lost", "ok", "no chunk expired unarchived in the last 24 h")
    return Finding(
        "lost",
        "error",
        f"{count:,} chunks expired before they were archived",
        f"`lost` in the log of {names.archiver} names them. Restore the table to a point before their expiry "
        "(point-in-time recovery), or send those readings again.",
    )


def errors(vital: Vital, names: Names) -> Finding:
    """Invocations that failed in the last 24 h."""
    unknown = _unknown("errors", vital)
    if unknown is not None:
        return unknown
    count = int(vital.value or 0)
    if not count:
        return Finding("errors", "ok", "no invocation failed in the last 24 h")
    return Finding(
        "errors",
        "warning",
        f"{count:,} invocations failed in the last 24 h",
        f"They were repeated. See why: {names.logs(names.store)}; {names.archiver} and {names.indexer} have theirs.",
    )


def throttles(table: Vital, stream: Vital, functions: Vital) -> Finding:
    """What was refused for want of capacity in the last 24 h; such calls were repeated."""
    kinds = {"writes to the table": table, "puts to the stream": stream, "invocations": functions}
    known = {kind: vital.value for kind, vital in kinds.items() if vital.value is not None}
    if not known:
        return Finding("throttles", "skipped", functions.reason)
    told = ", ".join(f"{int(value):,} {kind}" for kind, value in known.items() if value)
    if not told:
        return Finding("throttles", "ok", "none in the last 24 h")
    advice = {
        "writes to the table": "Spread the load: a hot sensor's partition takes 1,000 write units a second.",
        "puts to the stream": "Raise ShardCount, or set StreamMode to ON_DEMAND.",
        "invocations": "Raise the account's Lambda concurrency.",
    }
    return Finding(
        "throttles",
        "warning",
        f"{told} were refused in the last 24 h, and repeated",
        " ".join(advice[kind] for kind, value in known.items() if value),
    )


# --- the archive ------------------------------------------------------------------------


@dataclass(slots=True)
class Named:
    """How many, and the names of the first three."""

    count: int = 0
    first: list[str] = field(default_factory=list[str])

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < 3:
            self.first.append(name)

    def __str__(self) -> str:
        return f"{self.count:,} ({', '.join(self.first)}{', ...' if self.count > len(self.first) else ''})"


@dataclass(slots=True)
class Compared:
    """Listing and catalog side by side. Names of the first few of each kind are kept, and how many there are:
    objects without an entry, entries without an object, entries that tell of another object, and objects whose
    name is no segment's."""

    objects: int = 0
    entries: int = 0
    unlisted: Named = field(default_factory=Named)
    gone: Named = field(default_factory=Named)
    changed: Named = field(default_factory=Named)
    foreign: Named = field(default_factory=Named)


def catalog(compared: Compared) -> Finding:
    """Whether the catalog equals the bucket's listing."""
    faults: list[str] = []
    advice: list[str] = []
    if compared.unlisted.count:
        faults.append(f"objects that no query sees: {compared.unlisted}")
    if compared.changed.count:
        faults.append(f"entries that tell of another object: {compared.changed}")
    if faults:
        advice.append(f"{_REINDEX}: it catalogs what is in the bucket, and names what is no segment.")
    if compared.gone.count:
        faults.append(f"entries whose object is gone: {compared.gone}")
        advice.append(
            f"Restore the objects (a backup, a copy), then {_REINDEX[0].lower()}{_REINDEX[1:]}; without them,"
        )
        advice.append("it removes the entries, and queries no longer fail over them.")
    if faults and compared.foreign.count:
        faults.append(f"objects that are named like no segment: {compared.foreign}")
    if faults:
        return Finding("catalog", "error", "; ".join(faults), " ".join(advice))
    told = f"{compared.entries:,} entries for {compared.objects:,} objects"
    if compared.foreign.count:
        return Finding(
            "catalog",
            "warning",
            f"{told}, and objects that are named like no segment: {compared.foreign}",
            "Move them out of readings/: no query reads them.",
        )
    return Finding("catalog", "ok", told)


@dataclass(slots=True)
class Sampled:
    """What reading a sample of segments showed: how many, how many carry no sha256 to compare with, and
    which are damaged and why."""

    segments: int = 0
    unsigned: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def segments(sampled: Sampled, objects: int) -> Finding:
    """Whether the segments that were read are whole."""
    told = f"{sampled.segments:,} of {objects:,} read"
    if sampled.damaged:
        first: Sequence[str] = [f"{name}: {why}" for name, why in sampled.damaged[:3]]
        return Finding(
            "segments",
            "error",
            f"{told}, {len(sampled.damaged):,} damaged: {'; '.join(first)}",
            "Restore these objects (a backup, a copy), then run `thermocline archive reindex`. `--all` reads every "
            "segment.",
        )
    if sampled.unsigned:
        told += (
            f", {sampled.unsigned:,} of them by the checksums inside them, since nothing holds their sha256"
        )
    return Finding("segments", "ok", f"{told}, all whole" if sampled.segments else "there are none yet")
