"""Sensor ids that want to be something else: paths, keys, markup, tricks of Unicode, and ids one step from valid."""

from __future__ import annotations

import string
from collections.abc import Iterator
from urllib.parse import quote

_ALLOWED = frozenset(string.ascii_letters + string.digits + "._:/-")


def may_name(text: str) -> bool:
    """Whether a text may name a sensor, said in other words than the library says it."""
    return (
        0 < len(text) <= 128
        and set(text) <= _ALLOWED
        and text[0] not in "._:/-"
        and ".." not in text
        and all(text.split("/"))
    )


_PATHS = """
.|..|../|../..|../../etc/passwd|..\\..\\windows\\win.ini|/|//|///|/etc/passwd|~|~/.ssh/id_rsa|a/|a//|a//b|a/./b|
a/../b|a/..|../a|a..b|a...b|a/.../b|./a|.a|.hidden|a/.|C:\\boot.ini|\\\\host\\share|file:///etc/passwd|
http://169.254.169.254/latest/meta-data|s3://bucket/key|a/b/|/a/b|a/%2e%2e/b|a/%2f/b|a;/b|a?b|a?x=1#y|a b|a\\b|
$HOME|${HOME}|%SystemRoot%|/dev/null|/proc/self/environ|con|nul|aux.txt|CON|PRN|LPT1|COM1:|a/nul|a:b:c|a::$DATA
"""
_KEYS = """
s#press-7|m#1795298400|t#1795298400|a#2026|r#0|c|o|layout|t|s#|#|##|a#b|#a|a#|press-7#2026-11-20T22:00Z|
2026-11-20T22:00Z#abcdefghijklmnop#0|s#s#s#|readings/v1/date=2026-11-20/x.parquet|rejects/date=2026-11-20/x.json.gz|
date=2026-11-20|date=2026-11-20/../x|_SUCCESS|_temporary/0|aws/lambda/x|a~|~|a*|*|a?|[a]|a,b|a=b|pk|sk|ttl|
iot/v1/a/data|a/status|+|a/+|a/+/b|#/a|$SYS/broker|$share/x/y|a/#|lane-1|shardId-000000000000
"""
_CODE = """
' OR '1'='1|'; DROP TABLE readings;--|" OR ""="|1;SELECT pg_sleep(10)|admin'--|') UNION SELECT NULL--|a`b|
<script>alert(1)</script>|<img src=x onerror=alert(1)>|"><svg/onload=alert(1)>|javascript:alert(1)|&lt;b&gt;|&#x41;|
<!--|-->|]]>|<?xml version="1.0"?>|<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>|<a href='x'>|
%s|%d|%n|%n%n%n%n|%x%x%x|%(x)s|{0}|{}|{x}|{0.__class__}|{x!r}|%1$s|{{7*7}}|${7*7}|#{7*7}|<%= 7*7 %>|{%if 1%}|
${jndi:ldap://localhost/a}|$(id)|`id`|;id|\\|id|&& id|\\| cat /etc/passwd|$(sleep 9)|{"$gt":""}|{"S":"x"}|
[object Object]|__proto__|constructor|__class__|__import__('os')|null|undefined|None|NaN|true|-1|0x41|1e309|-0|0|00|
1_000|=1+1|=cmd\\|'/c calc'!A0|@SUM(A1)|+1|-1+1|\\t=1|()|[]|{}|""|''|\\|\\\\|\\n|\\0|\\u0000|\\x00|\\ud800|
(a+)+$|^a$|.*|a{1,999}|(?i)a|[^a]|a\\|b|\\A\\Z|aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!|*)(uid=*|(&(a=b))|x' and name()='a|
A=B;Path=/|Set-Cookie: a=b|a: b|GET / HTTP/1.1|%0d%0aX: y|arn:aws:s3:::bucket|arn:aws:iam::000000000000:role/x
"""
_WORDS = """
é|ü|ß|ñ|ø|œ|Ж|日本|한국|عربى|עברית|ไทย|हिन्दी|e\u0301|a\u0300|\u0430dmin|pr\u0435ss-7|\u0440ress-7|press\u20107|
press\u20117|press\u20127|press\u20137|press\u20147|press\u22127|press\ufe637|press\uff0d7|press\u00ad7|press-\u0667|
press-\u06f7|press-\u0967|press-\uff17|press-\u2077|press-\u2087|press-\u2466|press-\u2166|press-\U0001d7d5|\uff50ress-7|
\U0001d429ress-7|\u24d0|\ufb01|\u0131|\u017f|\u212a|\u2126|\u00b5|\u00b2|\u00bd|a\u2024\u2024b|a\u2025b|a\u2026b|
a\u2044b|a\u2215b|a\uff0fb|a\u29f8b|a\ufe52b|a\uff0eb|a\uff1ab|a\ua789b|a\u2236b|\U0001f321|\U0001f1e9\U0001f1ea|
\U0001f468\u200d\U0001f469|a\ufe0f|a\u20e3|z\u0335\u0321\u0322|\u0f3c|\U000e0041|\ufdfa|\U0010ffff|\ufffd|\ufffe|\uffff
"""
_HIDDEN = (
    [chr(code) for code in (*range(0x21), 0x7F, *range(0x80, 0xA1))]
    + [chr(code) for code in range(0x2000, 0x2010)]
    + [chr(code) for code in (0x2028, 0x2029, 0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x202F, 0x205F, 0x2060)]
    + [chr(code) for code in (0x2066, 0x2067, 0x2068, 0x2069, 0x061C, 0x180E, 0x3000, 0xFEFF, 0x115F, 0x3164)]
)
"""Controls, spaces of all widths, marks that turn the direction of writing, and what has no width."""
_SURROGATES = ["\ud800", "\udbff", "\udc00", "\udfff", "a\ud800", "\udc80b", "\udf21\ud83c", "a\udcffb"]
_PERCENT = ["../", "/", "..", "#", "\0", "\n", "a/../b", "é", " ", "%", "\\", "<", "\u202e"]
_LENGTHS = (127, 128, 129, 130, 255, 256, 257, 1_024, 2_048, 2_049, 4_096, 65_536)
_BESIDE = [sign for sign in string.punctuation if sign not in "._:/-"]
_EDGES = "._:/-"


def _listed(words: str) -> list[str]:
    """The words between bars; a bar after a backslash is one of a word."""
    whole = words.replace("\n", "").replace("\\|", "\0")
    return [word.replace("\0", "|") for word in whole.split("|") if word]


def _all_ids() -> Iterator[str]:
    yield ""
    for words in (_PATHS, _KEYS, _CODE, _WORDS):
        yield from _listed(words)
    for sign in _HIDDEN:
        yield from (f"press{sign}7", f"press-7{sign}", sign)
    yield from _SURROGATES
    for part in _PERCENT:
        once = quote(part, safe="").replace(".", "%2E")
        yield from (once, f"a{once}b", once.replace("%", "%25"), once.lower())
    yield from _listed("%c0%ae%c0%ae/|%u002e%u002e|%|%%|%0|%zz|a%00|a%0a|\xc0\xae|&#46;&#46;")
    for sign in _BESIDE:
        yield from (f"a{sign}b", f"{sign}a", f"a{sign}")
    for sign in _EDGES:
        yield from (f"{sign}a", f"a{sign}", f"a{sign}b", f"a{sign}{sign}b", f"a/{sign}b", f"a{sign}/b", sign)
    for length in _LENGTHS:
        yield from ("a" * length, "é" * (length // 2), "a/" * (length // 2), "a." * (length // 2) + "a")
    yield from (
        "../" * 40 + "etc/passwd",
        "a\n" * 30,
        "\u202e" * 60,
        "{" * 128,
        "[" * 500,
        '"' * 100,
        "\\" * 99,
    )


HOSTILE_IDS: tuple[str, ...] = tuple(dict.fromkeys(_all_ids()))
"""Each once. Most cannot name a sensor; those that can (`con`, `layout`, `a:b:c`) must be kept apart from
what they look like."""
