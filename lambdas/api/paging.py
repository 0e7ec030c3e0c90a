"""How an answer says that it goes on: `count`, `truncated`, `next`, `next_url`, and the Link header."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from lambdas.api import params
from lambdas.api.paths import PATH_AS_SENT

_CARRIED = ("cursor", "from", "to", "metric", "agg", "label")


def page_fields(
    event: BaseProxyEvent, count: int, next_text: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """Members of an answer of `count` entries that goes on at the cursor `next_text`, and its headers."""
    url = None if next_text is None else next_url(event, next_text)
    fields = {"count": count, "truncated": next_text is not None, "next": next_text, "next_url": url}
    return fields, {} if url is None else {"Link": f'<{url}>; rel="next"'}


def next_url(event: BaseProxyEvent, next_text: str) -> str:
    """The request again, relative to the server, with the cursor in place of the range and the lists it carries."""
    kept = [
        (name, value)
        for name, values in params.query(event).items()
        if name not in _CARRIED
        for value in values
    ]
    path = str(event.raw_event.get(PATH_AS_SENT) or event.raw_event["rawPath"])
    return f"{path}?{urlencode([*kept, ('cursor', next_text)])}"
