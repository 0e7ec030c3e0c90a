"""Commands about bearer tokens: token new, ls and revoke."""

from __future__ import annotations

import secrets
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import find
from ingest.errors import BadInput

if TYPE_CHECKING:
    from ingest.token import Scope, Token

app = typer.Typer(help="Bearer tokens: who may read and write through the HTTP API.", no_args_is_help=True)
_US = 1_000_000


def now_s() -> int:
    """The time, in epoch seconds."""
    return int(time.time())


NEW_EXAMPLES = """\b
Such as:
  thermocline token new --scope read:site1/ --note "screen in hall 1" --expires 30d
  thermocline token new --scope read:site1/ --scope write:site1/
  TOKEN=$(thermocline token new --scope admin)
  curl -H "Authorization: Bearer $TOKEN" "$API/v1/sensors"
"""


@app.command("new", epilog=NEW_EXAMPLES)
def new_token(
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What it allows: read:PREFIX, write:PREFIX or admin. Repeat it for several.",
        ),
    ],
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="Who or what it is for; shown by `token ls`.")
    ] = "",
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="D", help="How long it holds, such as 12h or 30d. Default: for ever."
        ),
    ] = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Make a token, and print it, alone, on stdout. It is shown this once; only a hash of it is kept.

    A scope covers the sensors whose ids begin with its prefix; end the prefix with `/` (or whatever ends
    a part of your ids), since read:site1 covers site10 as well. read: and write: without a prefix
    cover every sensor. admin allows everything: rejects, downloads and all sensors.
    """
    from ingest import token

    try:
        scopes = token.parse_scopes(scope)
        now = now_s()
        expires_s = None if expires is None else now + options.whole_s(expires, "--expires")
        text, kept = token.make(
            secrets.token_bytes(token.ID_BYTES),
            secrets.token_bytes(token.SECRET_BYTES),
            scopes,
            note,
            now,
            expires_s,
        )
    except BadInput as error:
        said = str(error)
        raise BadInput(said if said.startswith("--") else f"--{said}") from error
    find(stack).stores().tokens.put(kept)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    until = "for ever" if expires_s is None else f"until {_time(expires_s)}"
    show.note(f"Token {kept.id} holds {until}: {', '.join(map(str, scopes))}. It is not shown again.")
    for one in scopes:
        if _may_be_too_wide(one):
            show.note(f"{one} covers every id that begins with {one.prefix!r}, such as {one.prefix}0.")


def _may_be_too_wide(scope: Scope) -> bool:
    """Whether the prefix ends within a part of an id, so that it covers siblings, too."""
    return bool(scope.prefix) and scope.prefix[-1].isalnum()


@app.command("ls")
def list_tokens(
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """List the tokens, oldest first, and what each allows. Their secrets are kept nowhere.

    Those that expired or were revoked are listed for another 30 days.
    """
    now = now_s()
    show.records([_row(one, now) for one in find(stack).stores().tokens.all()], fmt, output)


@app.command("revoke")
def revoke_token(
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the token, from `token ls`; or the token itself.")
    ],
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Withdraw a token for good. Every door refuses it within 30 seconds."""
    from ingest import token

    found = token.parse(token_id)
    name = found[0] if found else token_id
    if not token.is_token_id(name):
        raise BadInput("ID: that is no token's id; `thermocline token ls` lists them.")
    now = now_s()
    revoked = find(stack).stores().tokens.revoke(name, now)
    show.records([_row(revoked, now)], fmt, output)
    if revoked.revoked_s != now and revoked.revoked_s is not None:
        show.note(f"Token {name} was revoked at {_time(revoked.revoked_s)} already.")
    else:
        show.note(f"Token {name} is revoked; every door refuses it within 30 s.")


def _row(one: Token, now: int) -> dict[str, Any]:
    from ingest.token import is_valid

    state = "valid" if is_valid(one, now) else "revoked" if one.revoked_s is not None else "expired"
    return {
        "id": one.id,
        "state": state,
        "scopes": [str(scope) for scope in one.scopes],
        "note": one.note,
        "created": _time(one.created_s),
        "expires": None if one.expires_s is None else _time(one.expires_s),
        "revoked": None if one.revoked_s is None else _time(one.revoked_s),
    }


def _time(at_s: int) -> str:
    from ingest.times import format_time

    return format_time(at_s * _US)
