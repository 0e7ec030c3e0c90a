"""How much one request may ask for and one answer may hold; stated in the OpenAPI document."""

from __future__ import annotations

LIMIT_DEFAULT = 10_000
LIMIT_MOST = 100_000
"""Readings on one page: where the request says nothing, and at most."""
WINDOWS_MOST = 20_000
"""Windows in one answer."""
RANGE_MOST_S = 10 * 365 * 86_400
"""The longest range of time of one query, seconds (ten years of 365 days)."""
QUERY_SENSORS_MOST = 100
"""Sensors of one POST /v1/query."""
LIST_DEFAULT = 100
LIST_MOST = 1_000
"""Sensors, segments or rejects on one page: where the request says nothing, and at most."""
LATEST_MOST = 100
"""Sensors on a page that carries their newest readings, too."""
BODY_MOST_BYTES = 5_000_000
"""A request's body as it is sent. A Lambda invocation takes 6 MB, base64 included ("Lambda quotas"), so a
body that is not text reaches it only up to some 4.5 MB."""
DOCUMENT_MOST_BYTES = 1_000_000
"""The body of a request that describes a sensor or an upload."""
QUESTION_MOST_BYTES = 100_000
"""The body of POST /v1/query."""
INFLATED_MOST_BYTES = 32 * 1024 * 1024
"""A request's body once its Content-Encoding is undone."""
ANSWER_MOST_BYTES = 5_000_000
"""An answer's body before compression: a Lambda answer may hold 6 MB ("Lambda quotas"). A page that would
be larger is cut, and says so."""
CURSOR_LIFE_S = 24 * 3600
"""For how long a cursor can be used."""
TOKEN_AGE_S = 30
"""For how long a token that was looked up is trusted: a revocation takes effect within this time."""
LINK_LIFE_S = 900
"""For how long a presigned link can be used."""
QUERY_STRING_MOST = 64_000
"""Characters of a request's query string. API Gateway takes fewer: 10,240 bytes of request line and headers
together ("Quotas for HTTP APIs"); POST /v1/query has its question in the body."""
