"""Evaluates the expressions that the compiler left for Azure to work out, for one cloud.

Properties of other resources become words for them: `<NAME.property>`.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

STORAGE_SUFFIXES = {
    "AzureCloud": "core.windows.net",
    "AzureUSGovernment": "core.usgovcloudapi.net",
    "AzureChinaCloud": "core.chinacloudapi.cn",
}
LOGIN_ENDPOINTS = {
    "AzureCloud": "https://login.microsoftonline.com/",
    "AzureUSGovernment": "https://login.microsoftonline.us/",
    "AzureChinaCloud": "https://login.chinacloudapi.cn/",
}
_TOKEN = re.compile(r"\s*('(?:[^']|'')*'|\w+|[(),.\[\]])")


class Unknown(str):
    """A resource, or a property at any depth of it, that only Azure knows: `<NAME.property>`."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> "Unknown":
        return Unknown(f"<{self.strip('<>').split('.')[0]}.{key}>")


def evaluated(value: Any, cloud: str = "AzureCloud") -> Any:
    """A value with all its expressions worked out."""
    match value:
        case str() if value.startswith("[") and not value.startswith("[["):
            return _Parser(value[1:-1], cloud).whole()
        case str():
            return value.removeprefix("[") if value.startswith("[[") else value
        case list():
            return [evaluated(each, cloud) for each in value]
        case dict():
            return {evaluated(k, cloud): evaluated(v, cloud) for k, v in value.items()}
        case _:
            return value


class _Parser:
    """Reads one expression of Azure's template language, and works it out as it goes."""

    def __init__(self, text: str, cloud: str) -> None:
        self._tokens = _TOKEN.findall(text)
        assert "".join(self._tokens) == re.sub(r"\s+(?=(?:[^']*'[^']*')*[^']*$)", "", text), text
        self._at = 0
        self._cloud = cloud

    def whole(self) -> Any:
        value = self._value()
        assert self._at == len(self._tokens), self._tokens[self._at :]
        return str(value) if isinstance(value, Unknown) else value

    def _value(self) -> Any:
        token = self._next()
        if token.startswith("'"):
            value: Any = token[1:-1].replace("''", "'")
        elif token.isdigit():
            value = int(token)
        elif token in ("true", "false", "null"):
            value = {"true": True, "false": False, "null": None}[token]
        else:
            value = self._call(token, self._arguments())
        while self._peek() in (".", "["):
            if self._next() == ".":
                value = value[self._next()]
            else:
                value = value[self._value()]
                self._next()
        return value

    def _arguments(self) -> list[Any]:
        assert self._next() == "("
        found: list[Any] = []
        while self._peek() != ")":
            found.append(self._value())
            if self._peek() == ",":
                self._next()
        self._next()
        return found

    def _call(self, function: str, given: list[Any]) -> Any:
        match function:
            case "format":
                return re.sub(r"\{(\d+)\}", lambda m: str(given[1 + int(m[1])]), given[0])
            case "createObject":
                return dict(zip(given[::2], given[1::2], strict=True))
            case "createArray":
                return given
            case "environment":
                return self._environment()
            case "reference":
                return Unknown(given[0].rsplit("/", 1)[-1])
            case "guid":
                return str(uuid.uuid5(uuid.NAMESPACE_URL, "-".join(given)))
            case "extensionResourceId":
                return f"{given[0]}/providers/{given[1]}/{given[2]}"
            case "resourceId":
                return _resource_id(*given)
            case _:
                return _plain(function, given)

    def _environment(self) -> Mapping[str, Any]:
        return {
            "name": self._cloud,
            "suffixes": {"storage": STORAGE_SUFFIXES[self._cloud]},
            "authentication": {"loginEndpoint": LOGIN_ENDPOINTS[self._cloud]},
        }

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return str(self._tokens[self._at - 1])


def _resource_id(subscription: str, group: str, kind: str, *names: str) -> str:
    provider, *kinds = kind.split("/")
    path = "/".join(f"{k}/{n}" for k, n in zip(kinds, names, strict=True))
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{provider}/{path}"


def _plain(function: str, given: list[Any]) -> Any:
    functions: Mapping[str, Callable[..., Any]] = {
        "if": lambda condition, then, other: then if condition else other,
        "equals": lambda one, other: one == other,
        "not": lambda value: not value,
        "empty": lambda value: not value,
        "coalesce": lambda *values: next((each for each in values if each is not None), None),
        "join": lambda values, by: by.join(values),
        "split": lambda text, by: text.split(by),
        # The engine's own: the parts of a path that are not empty.
        "filter": lambda values, _: [each for each in values if each],
        "lambda": lambda *_: None,
        "lambdaVariables": lambda name: name,
    }
    return functions[function](*given)
