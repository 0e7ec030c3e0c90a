"""Which deployment a command talks to, and clients and stores for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.options import DEFAULT_STACK
from ingest.errors import NotFound
from ingest.keys import Layout
from ingest.settings import Settings, endpoint_from_env

if TYPE_CHECKING:
    from infra.local.control import State
    from ingest.query import Sources
    from ingest.retry import Invoke
    from ingest.stores.connect import Stores


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment: names from its stack's outputs. `local` is the running local stack, if it is one;
    `api_url` is where its HTTP API answers, None where there is none."""

    endpoint_url: str | None
    region: str | None
    stream: str
    table: str
    archive_bucket: str
    rejects_bucket: str
    store_function: str
    api_url: str | None
    local: State | None

    def client(self, service: str, **options: Any) -> Any:
        """A low-level client of the target."""
        from ingest.stores import connect

        return connect.client(service, endpoint_url=self.endpoint_url, region=self.region, **options)

    def stores(self) -> Stores:
        """Every store of the target."""
        from ingest.stores import connect

        settings = Settings(self.table, self.archive_bucket, self.rejects_bucket)
        return connect.stores(settings, endpoint_url=self.endpoint_url, region=self.region)

    def batch_door(self) -> Invoke:
        """Has the deployed store_readings work on an event, and waits."""
        from ingest.stores.functions import CLIENT_OPTIONS, LambdaFunction

        return LambdaFunction(self.client("lambda", **CLIENT_OPTIONS), self.store_function).invoke

    def sources(self, stores: Stores) -> Sources:
        """What a query reads from."""
        from ingest.query import Sources

        return Sources(stores.hot, stores.catalog, stores.cold, layout_of(stores), time.perf_counter)


def layout_of(stores: Stores) -> Layout:
    """The layout of the deployment. Raises NotFound where it has none yet."""
    layout = stores.hot.load_layout()
    if layout is None:
        raise NotFound("The table has no layout yet: the deployment was not finished. Deploy again.")
    return layout


def find(stack: str) -> Target:
    """The deployment to talk to: the stack that was named, else a running local stack, else the default name.

    AWS_ENDPOINT_URL, where set, says where; a local stack elsewhere is then not looked at.
    Raises NotFound where there is none, saying how to get one.
    """
    from infra.local import control

    endpoint_url = endpoint_from_env()
    state = control.find_running()
    if state is not None and stack == DEFAULT_STACK and endpoint_url in (None, state.endpoint_url):
        return of_outputs(state.outputs, state.endpoint_url, state.region, state)
    return _deployed(stack, endpoint_url)


def of_outputs(
    outputs: Mapping[str, str], endpoint_url: str | None, region: str | None, state: State | None = None
) -> Target:
    """The target a stack's outputs describe."""
    return Target(
        endpoint_url=endpoint_url,
        region=region,
        stream=outputs["StreamName"],
        table=outputs["TableName"],
        archive_bucket=outputs["ArchiveBucket"],
        rejects_bucket=outputs["RejectsBucket"],
        store_function=outputs["StoreReadingsFunction"],
        api_url=state.api_url if state is not None else (outputs.get("ApiUrl") or "").rstrip("/") or None,
        local=state,
    )


def _deployed(stack: str, endpoint_url: str | None) -> Target:
    from infra.local.emulator import REGION
    from ingest.stores import connect

    region = REGION if endpoint_url is not None else None
    hint = "Start a local stack with `thermocline up -d`, or name a deployed one with --stack."
    try:
        client = connect.client("cloudformation", endpoint_url=endpoint_url, region=region)
        found = client.describe_stacks(StackName=stack)["Stacks"][0]
    except Exception as error:
        raise NotFound(f"No local stack runs and stack {stack!r} was not found ({error}). {hint}") from error
    outputs = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if "StreamName" not in outputs:
        raise NotFound(f"Stack {stack!r} is no Thermocline stack: it has no output StreamName. {hint}")
    return of_outputs(outputs, endpoint_url, region, None)


def local_state() -> State:
    """The running local stack. Raises NotFound."""
    from infra.local import control

    state = control.find_running()
    if state is None:
        raise NotFound("No local stack is running. Start one with `thermocline up -d`.")
    return state


def now_us() -> int:
    """The time, in microseconds since the epoch."""
    return time.time_ns() // 1000
