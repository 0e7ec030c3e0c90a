"""A line of a bill: a quantity, its price, what that makes, and the arithmetic in words."""

from __future__ import annotations

from dataclasses import dataclass

from infra.cost.fleet import MONTH_S
from infra.cost.prices import UNITS, Prices

HOURS = MONTH_S / 3600
GB = 1e9
STORE_GB = 1769 / 1024
"""Memory of store_readings in the template."""
ITEM_BYTES = 100
"""Storage is billed with 100 bytes more per item ("Amazon DynamoDB pricing", indexed data storage)."""
PART_STREAM = "Kinesis"
PART_WRITES = "DynamoDB writes"
PART_READS = "DynamoDB reads"
PART_TABLE = "DynamoDB storage"
PART_LAMBDA = "Lambda"
PART_S3 = "S3"
PART_COMPACTION = "Compaction"
PART_WATCH = "CloudWatch"
PART_IOT = "IoT Core"


@dataclass(frozen=True, slots=True)
class Line:
    """One line: so much of something at a price, a month.

    `quantity` and `usd` hold for the twelfth month, the `steady` ones once the cold retention
    is over (they differ only where things pile up). `how` is the arithmetic of the quantity in words.
    """

    part: str
    what: str
    quantity: float
    unit: str
    price: str
    usd: float
    steady_quantity: float
    steady_usd: float
    how: str


class Lines:
    """Makes lines at one table of prices."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def line(
        self, part: str, what: str, price: str, quantity: float, how: str, steady: float | None = None
    ) -> Line:
        """One line; `steady` only where it differs from the twelfth month."""
        later = quantity if steady is None else steady
        at = self._prices[price]
        return Line(part, what, quantity, UNITS[price], str(at), at.of(quantity), later, at.of(later), how)
