"""The command that opens the dashboard, and the links to it that `up` prints."""

from __future__ import annotations

import secrets
import sys
import time
from typing import Annotated

import typer

from cli import options, show
from cli.target import Target, find
from ingest.errors import NotFound

LINK_S = 12 * 3600
"""How long the token in a link of `thermocline dashboard` holds."""
_UP_NOTE = "thermocline up"
_DASHBOARD_NOTE = "thermocline dashboard"


def dashboard(
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the address on stdout and open nothing.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="Where the API answers. Default: what the deployment says; name it for `thermocline serve`.",
        ),
    ] = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Open the dashboard in the browser. Makes a token that holds for 12 hours, and hands it to the page.

    The token may do everything on the local stack, and read everything on AWS. It stands behind the `#` of
    the address, which a browser sends to nobody.
    """
    target = find(stack)
    place = (url or target.api_url or "").rstrip("/")
    if not place:
        raise NotFound(
            "The deployment has no HTTP API in front. Serve one with `thermocline serve` and name it with --url, "
            "or deploy with --parameter ApiFront=http-api."
        )
    link = _link(target, place, "admin" if target.local is not None else "read:", _DASHBOARD_NOTE, LINK_S)
    if print_only:
        sys.stdout.write(f"{link}\n")
        return
    import webbrowser

    if webbrowser.open(link):
        show.note(f"Opened {place} in the browser. The link holds for 12 h.")
    else:
        show.note("No browser could be opened here. The address, which holds for 12 h:")
        sys.stdout.write(f"{link}\n")


def first_link(target: Target) -> str | None:
    """The address of a local stack's dashboard with a token that holds as long as the stack runs; None
    where it has no API. What earlier runs over the same data printed no longer holds."""
    if target.api_url is None:
        return None
    tokens = target.stores().tokens
    for token in tokens.all():
        if token.note == _UP_NOTE and token.revoked_s is None:
            tokens.revoke(token.id, int(time.time()))
    return _link(target, target.api_url, "admin", _UP_NOTE, None)


def _link(target: Target, place: str, scope: str, note: str, holds_s: int | None) -> str:
    from ingest import token

    now_s = int(time.time())
    text, kept = token.make(
        secrets.token_bytes(token.ID_BYTES),
        secrets.token_bytes(token.SECRET_BYTES),
        [token.parse_scope(scope)],
        note,
        now_s,
        now_s + holds_s if holds_s is not None else None,
    )
    target.stores().tokens.put(kept)
    return f"{place}/#token={text}"
