"""`GET /.well-known/opencode`: tells OpenCode how to sign in here, where an operator publishes that.

`opencode auth login URL` runs the command in the document and keeps the token that it prints;
OpenCode reads the configuration at each start. Anybody can read the document.
"""

import json
import re
from collections.abc import Iterable

from msgspec import Struct

from meter.errors import MethodNotAllowed, NotServed
from meter.gateway.http import Answer
from meter.patterns import lazy_pattern

PATH = "/.well-known/opencode"
_METHODS = ("GET", "HEAD", "OPTIONS")
_VARIABLE = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class OpenCode(Struct, frozen=True):
    """What OpenCode is told: the document's JSON; None where nothing is published."""

    document: bytes | None = None

    def answer(self, method: str) -> Answer:
        """The answer. Raises NotServed where nothing is published, MethodNotAllowed."""
        if self.document is None:
            raise NotServed(
                "Resource not found. This gateway publishes no configuration for OpenCode: "
                "docs/calling.md shows how to write your own."
            )
        if method == "OPTIONS":
            return Answer(status=204, headers=(("allow", ", ".join(_METHODS)),), body=b"")
        if method not in _METHODS:
            raise MethodNotAllowed(_METHODS)
        return Answer(
            status=200, headers=(("content-type", "application/json"),), body=self.document
        )


def is_opencode(raw_path: str, prefixes: Iterable[str]) -> bool:
    """Whether a path is that of the document, at the root or under one of the prefixes."""
    return raw_path.endswith(PATH) and raw_path.removesuffix(PATH) in ("", *prefixes)


def opencode_problem(document: object) -> str | None:
    """Why OpenCode could not use a document; None when it can."""
    members = document if isinstance(document, dict) else {}
    auth, config = members.get("auth"), members.get("config")
    if not isinstance(auth, dict) or not isinstance(config, dict):
        return 'must be {"auth": {"command": [...], "env": NAME}, "config": {...}}'
    command, variable = auth.get("command"), auth.get("env")
    if not isinstance(command, list) or not command or not all(map(_is_word, command)):
        return 'needs auth.command, a list of words; for example ["az", "account", ...]'
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        return "needs auth.env, the name of the environment variable that gets the token"
    return None


def opencode_of(document: object) -> OpenCode:
    """The document as it is sent."""
    return OpenCode(json.dumps(document).encode())


def _is_word(value: object) -> bool:
    return isinstance(value, str) and value != ""
