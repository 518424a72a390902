"""The `$filter` of the Retail Prices API: `field eq 'value'`, joined by `and` and `or`, in parentheses.

Fields are known by name; values compare case, as in the API since 2023.
"""

import re
from collections.abc import Callable, Mapping

type Item = Mapping[str, object]
type Test = Callable[[Item], bool]

FIELDS = frozenset(
    {"armRegionName", "armSkuName", "currencyCode", "location", "meterId", "meterName", "priceType"}
    | {"productId", "productName", "serviceFamily", "serviceId", "serviceName", "skuId", "skuName"}
    | {"type"}
)
_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<word>\w+)|(?P<sign>[()]))")


def parse_filter(text: str) -> Test:
    """Whether an item passes. Raises ValueError."""
    if not text.strip():
        return lambda _item: True
    parser = _Parser(_tokens(text))
    test = parser.any_of()
    parser.expect_end()
    return test


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"cannot be read at {text[at : at + 20]!r}")
        tokens.append(match[0].strip())
        at = match.end()
    return tokens


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens

    def any_of(self) -> Test:
        """Terms joined by `or`, which binds less than `and`."""
        tests = [self._all_of()]
        while self._takes("or"):
            tests.append(self._all_of())
        return lambda item: any(test(item) for test in tests)

    def expect_end(self) -> None:
        """Refuse what is left."""
        if self._tokens:
            raise ValueError(f"has {self._tokens[0]!r} after its end")

    def _all_of(self) -> Test:
        tests = [self._term()]
        while self._takes("and"):
            tests.append(self._term())
        return lambda item: all(test(item) for test in tests)

    def _term(self) -> Test:
        if self._takes("("):
            test = self.any_of()
            if not self._takes(")"):
                raise ValueError("lacks a )")
            return test
        field = self._next()
        if field not in FIELDS:
            raise ValueError(f"has the unknown field {field!r}")
        if not self._takes("eq"):
            raise ValueError(f"lacks eq after {field}")
        text = self._next()
        if not text.startswith("'"):
            raise ValueError(f"compares {field} with {text!r}, which is no text")
        name = "type" if field == "priceType" else field
        value = text[1:-1].replace("''", "'")
        return lambda item: item.get(name) == value

    def _takes(self, token: str) -> bool:
        if self._tokens and self._tokens[0].lower() == token:
            self._tokens.pop(0)
            return True
        return False

    def _next(self) -> str:
        if not self._tokens:
            raise ValueError("ends too early")
        return self._tokens.pop(0)
