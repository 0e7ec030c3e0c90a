"""The page /docs: the OpenAPI document as HTML, without script, for people."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, cast

STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #8881; --soft: #667; --mark: #0a6c86; }
@media (prefers-color-scheme: dark) { :root { --soft: #99a; --mark: #5cc3de; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); text-transform: capitalize; }
code, pre { font: .92em/1.45 ui-monospace, monospace; }
pre { background: var(--faint); padding: .6rem .8rem; overflow-x: auto; border-radius: 4px; }
a { color: var(--mark); }
nav { columns: 2 18rem; margin: 1rem 0; }
nav div { break-inside: avoid; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 4px; margin: .5rem 0; padding: 0 .8rem; }
details[open] { padding-bottom: .8rem; }
summary { cursor: pointer; padding: .5rem 0; overflow-wrap: anywhere; }
summary b { color: var(--mark); display: inline-block; min-width: 4.2rem; }
summary span, .soft { color: var(--soft); }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; }
th, td { border-top: 1px solid var(--line); padding: .3rem .6rem .3rem 0; text-align: left; vertical-align: top; }
th { font-weight: 600; }
td:first-child { white-space: nowrap; }
:target { outline: 2px solid var(--mark); outline-offset: 2px; }
td:last-child { overflow-wrap: anywhere; }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content-Security-Policy of the page: its own style and nothing else."""
SCOPES = {
    "none": "needs no token",
    "any": "any valid token",
    "read": "scope read:&lt;prefix&gt;",
    "write": "scope write:&lt;prefix&gt;",
    "admin": "scope admin",
}
Document = Mapping[str, Any]


def render(document: Document) -> str:
    """The page; every text of the document is escaped."""
    info = document["info"]
    groups: dict[str, list[str]] = {}
    contents: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            tag = one["tags"][0]
            groups.setdefault(tag, []).append(_operation(document, method, path, one))
            title = f"{method.upper()} {path}"
            contents.setdefault(tag, []).append(
                f'<div><a href="#{one["operationId"]}">{escape(title)}</a></div>'
            )
    sections: list[str] = []
    for tag in document["tags"]:
        name = tag["name"]
        if name in groups:
            sections.append(
                f"<h2>{escape(name)}</h2><p>{_prose(tag['description'])}</p>" + "".join(groups[name])
            )
    menu = "".join(line for tag in document["tags"] for line in contents.get(tag["name"], ()))
    description = "".join(f"<p>{_prose(part)}</p>" for part in str(info["description"]).split("\n\n"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(info['title'])}: the HTTP API</title>\n"
        '<link rel="icon" href="/favicon.svg" type="image/svg+xml">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(info['title'])}: the HTTP API</h1>\n"
        f'<p class="soft">Version {escape(info["version"])} · <a href="/openapi.json">openapi.json</a> · '
        f'<a href="/">dashboard</a> · <a href="#problems">problem codes</a></p>\n{description}\n'
        f"{_TOKENS}<nav>{menu}</nav>\n{''.join(sections)}\n{_problems(document)}</body>\n</html>\n"
    )


_TOKENS = (
    "<p>Every request but those of the service's own pages carries <code>Authorization: Bearer &lt;token&gt;</code>. "
    "<code>thermocline token new --scope read:site1/</code> prints a new token; a scope covers the sensors whose ids "
    "begin with its prefix. A token that is revoked may work for another 30 s.</p>\n"
)


def _operation(document: Document, method: str, path: str, one: Document) -> str:
    parts = [f"<p>{_prose(one.get('description', ''))}</p>" if one.get("description") else ""]
    parts.append(f"<p class='soft'>{SCOPES[one['x-scope']]} · <code>{escape(one['operationId'])}</code></p>")
    parts.append(_parameters(one.get("parameters", ())))
    body = one.get("requestBody")
    if body:
        kinds = ", ".join(f"<code>{escape(kind)}</code>" for kind in body["content"])
        parts.append(f"<p><b>Body</b>: {kinds}. {_prose(body['description'])}</p>")
    parts.append(f"<pre>{escape(_example(method, path, one))}</pre>")
    parts.append(_answers(document, one["responses"]))
    title = f"<b>{method.upper()}</b> <code>{escape(path)}</code> <span>{_prose(one['summary'])}</span>"
    return (
        f'<details id="{escape(one["operationId"])}"><summary>{title}</summary>{"".join(parts)}</details>\n'
    )


def _parameters(parameters: Iterable[Document]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td>"
        f"<td>{escape(_kind(one['schema']))}<br><span class='soft'>{escape(one['in'])}"
        f"{', needed' if one['required'] else ''}</span></td><td>{_prose(one['description'])}</td></tr>"
        for one in parameters
    )
    return f"<table><tr><th>Name</th><th>May be</th><th></th></tr>{rows}</table>" if rows else ""


def _answers(document: Document, responses: Document) -> str:
    rows: list[str] = []
    for status, answer in responses.items():
        kinds: list[str] = []
        for kind, media in answer.get("content", {}).items():
            members = _members(document, media.get("schema", {}))
            kinds.append(
                f"<code>{escape(kind)}</code>" + (f" <span class='soft'>{members}</span>" if members else "")
            )
        shown = "<br>".join(kinds)
        rows.append(f"<tr><td>{status}</td><td>{_prose(answer['description'])}<br>{shown}</td></tr>")
    return f"<table><tr><th>Status</th><th>Answer</th></tr>{''.join(rows)}</table>"


def _members(document: Document, schema: Document) -> str:
    """Names of an object's members; none for a problem, which is described at its code."""
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    if name == "Problem":
        return ""
    if name:
        schema = document["components"]["schemas"][name]
    return ", ".join(escape(member) for member in schema.get("properties", {}))


def _kind(schema: Document) -> str:
    """What a value may be, in words."""
    if "enum" in schema:
        said = " or ".join(map(str, schema["enum"]))
    elif schema.get("type") == "array":
        said = f"several: {_kind(schema['items'])}"
    else:
        kind = schema.get("type", "any")
        said = " or ".join(cast("list[str]", kind)) if isinstance(kind, list) else str(kind)
    if "minimum" in schema and "maximum" in schema:
        said += f" from {schema['minimum']} to {schema['maximum']}"
    elif "maxLength" in schema and "pattern" not in schema:
        said += f" of at most {schema['maxLength']} characters"
    if "default" in schema:
        said += f", {json.dumps(schema['default'])} unless given"
    return said


def _example(method: str, path: str, one: Document) -> str:
    """The request as one would type it."""
    url = one.get("x-example") or path
    words = ["curl"]
    if one["x-scope"] != "none":
        words.append('-H "Authorization: Bearer $TOKEN"')
    if method != "get":
        words.append(f"-X {method.upper()}")
    body = one.get("requestBody")
    if body:
        kind, media = next(iter(body["content"].items()))
        example = media.get("example")
        sent = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
        words.append(f"-H 'Content-Type: {kind}'")
        words.append(
            "--data-binary @FILE" if example is None else "--data-binary '" + sent.replace("'", "'\\''") + "'"
        )
    return " ".join([*words, f'"$API{url}"'])


def _problems(document: Document) -> str:
    rows = "".join(
        f'<tr id="problem-{escape(code)}"><td><code>{escape(code)}</code></td><td>{one["status"]}</td>'
        f"<td>{_prose(one['title'])}. {_prose(one['next_step'])}</td></tr>"
        for code, one in document["x-problems"].items()
    )
    return (
        '<h2 id="problems">Problem codes</h2><p>An error is a problem details object (RFC 9457): its '
        "<code>type</code> ends with the code, <code>errors</code> names the fields, <code>detail</code> says "
        "what is wrong and what to do.</p>"
        f"<table><tr><th>Code</th><th>Status</th><th>Meaning and next step</th></tr>{rows}</table>\n"
    )


def _prose(text: str) -> str:
    """Text with what stands in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
