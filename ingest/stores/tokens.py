"""The tokens in DynamoDB, one item each, and the secret that cursors are signed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from ingest import keys
from ingest.errors import NotFound, Refused
from ingest.item import Attribute
from ingest.stores._boto_errors import translated
from ingest.stores.registry_entry import wire_key
from ingest.token import Token, parse_scope

KEPT_S = 30 * 86_400
"""How long a token is listed after it expired or was revoked; then its item's `ttl` is past."""
SIGNING_KEY_BYTES = 32
ID_TAKEN = "There is a token with this id already. Make another one."


class DynamoTokens:
    """What is kept of the tokens, in one partition of the one table. `random_bytes` makes the signing key."""

    def __init__(self, client: Any, table: str, random_bytes: Callable[[int], bytes]) -> None:
        self._client = client
        self._table = table
        self._random_bytes = random_bytes

    def put(self, token: Token) -> None:
        """Keep a new token; the same again changes nothing. Raises Refused where the id is taken."""
        try:
            with translated(f"Writing token {token.id} to table {self._table}"):
                self._client.put_item(
                    TableName=self._table,
                    Item=encode_token(token),
                    ConditionExpression="attribute_not_exists(pk)",
                )
        except Refused as error:
            if self.get(token.id) != token:
                raise Refused(ID_TAKEN) from error

    def get(self, token_id: str) -> Token | None:
        """One token, valid or not; None where there is none; consistent."""
        with translated(f"Reading a token in table {self._table}"):
            answer = self._client.get_item(
                TableName=self._table, Key=wire_key(keys.token_key(token_id)), ConsistentRead=True
            )
        return decode_token(answer["Item"]) if answer.get("Item") else None

    def all(self) -> list[Token]:
        """Every token, valid or not, oldest first; consistent."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :p",
            "ExpressionAttributeValues": {":p": {"S": keys.TOKENS}},
            "ConsistentRead": True,
        }
        found: list[Token] = []
        while True:
            with translated(f"Reading the tokens in table {self._table}"):
                page = self._client.query(**request)
            found.extend(map(decode_token, page["Items"]))
            if not page.get("LastEvaluatedKey"):
                return sorted(found, key=lambda token: (token.created_s, token.id))
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def revoke(self, token_id: str, now_s: int) -> Token:
        """Withdraw a token for good; one that is revoked stays so since the first time. Raises NotFound."""
        try:
            with translated(f"Revoking token {token_id} in table {self._table}"):
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=wire_key(keys.token_key(token_id)),
                    UpdateExpression="SET revoked_s = :now, #ttl = :ttl",
                    ConditionExpression="attribute_exists(pk) AND attribute_not_exists(revoked_s)",
                    ExpressionAttributeNames={"#ttl": "ttl"},
                    ExpressionAttributeValues={":now": _number(now_s), ":ttl": _number(now_s + KEPT_S)},
                    ReturnValues="ALL_NEW",
                )
            return decode_token(answer["Attributes"])
        except Refused:
            held = self.get(token_id)
        if held is None:
            raise NotFound(no_token(token_id))
        return held

    def signing_key(self) -> bytes:
        """The secret that cursors are signed with; whoever asks first makes it, all others read that one."""
        found = self._signing_key()
        if found is not None:
            return found
        made = self._random_bytes(SIGNING_KEY_BYTES)
        item = {**wire_key(keys.signing_secret_key()), "secret": {"S": made.hex()}}
        try:
            with translated(f"Writing the signing key to table {self._table}"):
                self._client.put_item(
                    TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)"
                )
        except Refused:
            found = self._signing_key()
            if found is None:
                raise
            return found
        return made

    def _signing_key(self) -> bytes | None:
        with translated(f"Reading the signing key in table {self._table}"):
            answer = self._client.get_item(
                TableName=self._table, Key=wire_key(keys.signing_secret_key()), ConsistentRead=True
            )
        return bytes.fromhex(answer["Item"]["secret"]["S"]) if answer.get("Item") else None


def encode_token(token: Token) -> dict[str, Attribute]:
    """A token's item; what is absent is left out. `ttl` follows from when it ceases to count."""
    item: dict[str, Attribute] = {
        **wire_key(keys.token_key(token.id)),
        "digest": {"S": token.digest},
        "scopes": cast(Attribute, {"L": [{"S": str(scope)} for scope in token.scopes]}),
        "created_s": _number(token.created_s),
    }
    if token.note:
        item["note"] = {"S": token.note}
    for name, at_s in (("expires_s", token.expires_s), ("revoked_s", token.revoked_s)):
        if at_s is not None:
            item[name] = _number(at_s)
            item["ttl"] = _number(at_s + KEPT_S)
    return item


def decode_token(item: Mapping[str, Attribute]) -> Token:
    """The inverse of `encode_token`."""

    def seconds(name: str) -> int | None:
        return int(cast(str, item[name]["N"])) if name in item else None

    scopes = cast(list[dict[str, str]], item["scopes"]["L"])
    return Token(
        id=cast(str, item["sk"]["S"]),
        digest=cast(str, item["digest"]["S"]),
        scopes=tuple(parse_scope(scope["S"]) for scope in scopes),
        note=cast(str, item.get("note", {"S": ""})["S"]),
        created_s=seconds("created_s") or 0,
        expires_s=seconds("expires_s"),
        revoked_s=seconds("revoked_s"),
    )


def no_token(token_id: str) -> str:
    """What NotFound says of a token."""
    return f"There is no token {token_id!r}. `thermocline token ls` lists their ids."


def _number(value: int) -> Attribute:
    return {"N": str(value)}
