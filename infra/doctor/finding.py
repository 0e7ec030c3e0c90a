"""What one check found: its name, how grave it is, what was seen, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from infra.deploy import Outputs

Result = Literal["ok", "warning", "error", "skipped"]
Kind = Literal["local", "localstack", "aws"]
FAILED, PARTIAL = 1, 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's answer. `advice` is empty where nothing is to be done."""

    check: str
    result: Result
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Names:
    """What the checked deployment and its parts are called, for the advice; `mappings` are the UUIDs of
    the event source mappings of the store and the archive function."""

    kind: Kind
    stack: str
    table: str
    stream: str
    archive_bucket: str
    rejects_bucket: str
    store: str
    archiver: str
    indexer: str
    mappings: tuple[str, str]

    @classmethod
    def of(cls, outputs: Outputs, kind: Kind) -> Names:
        """The names that a deployment's outputs tell."""
        return cls(
            kind=kind,
            stack=outputs.stack_name,
            table=outputs.table,
            stream=outputs.stream,
            archive_bucket=outputs.archive_bucket,
            rejects_bucket=outputs.rejects_bucket,
            store=outputs.store_readings,
            archiver=outputs.archive_expired,
            indexer=outputs.index_segment,
            mappings=(outputs.store_readings_mapping, outputs.archive_expired_mapping),
        )

    def deploy(self) -> str:
        """The command that carries out a deployment once more; it leaves alone what CloudFormation believes
        to be in place."""
        if self.kind == "local":
            return "`thermocline down`, then `thermocline up` again (without --data what it holds is gone)"
        stack = "" if self.stack == "thermocline" else f" --stack {self.stack}"
        return f"`thermocline deploy --target {self.kind}{stack}` with the options of the last time"

    def restore(self) -> str:
        """How to put back a resource that was changed or deleted behind CloudFormation's back ("Using
        drift-aware change sets")."""
        if self.kind == "local":
            return self.deploy()
        if self.kind == "localstack":
            return "`thermocline destroy --force`, then `thermocline deploy` again (what it holds is gone)"
        return (
            f"a drift-aware change set of stack {self.stack} (CloudFormation console, or `aws cloudformation "
            "create-change-set --deployment-mode REVERT_DRIFT`): a plain deploy leaves it as it is"
        )

    def logs(self, function: str) -> str:
        """Where it stands what a function said."""
        if self.kind == "local":
            return "the local stack's log"
        return f"`aws logs tail /aws/lambda/{function} --since 1h`"

    def archive_now(self) -> str:
        """The command that orders the archiver to take up every overdue slot."""
        if self.kind == "local":
            return "`thermocline flush`"
        return (
            f"`aws lambda invoke --function-name {self.archiver} --cli-binary-format raw-in-base64-out "
            '--payload \'{"source":"thermocline.schedule"}\' /dev/stdout`'
        )

    def expiry_off(self) -> str:
        """The command that keeps DynamoDB from deleting anything more."""
        return (
            f"`aws dynamodb update-time-to-live --table-name {self.table} "
            "--time-to-live-specification Enabled=false,AttributeName=ttl`"
        )


def kind_of(endpoint_url: str | None, *, is_local: bool) -> Kind:
    """Which kind of target answers at an endpoint; None is AWS itself."""
    if is_local:
        return "local"
    host = urlsplit(endpoint_url or "").hostname or "amazonaws.com"
    return "aws" if host.endswith(("amazonaws.com", ".aws", "amazonaws.com.cn")) else "localstack"


def exit_code(findings: Iterable[Finding]) -> int:
    """1 where there is an error, 5 where there is only a warning, else 0; what was skipped does not count."""
    results = {finding.result for finding in findings}
    return FAILED if "error" in results else PARTIAL if "warning" in results else 0


def span_text(seconds: float) -> str:
    """A length of time for people, in its largest unit that leaves at least two: `90 s`, `36 h`, `6 days`."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{seconds:.0f} s"
