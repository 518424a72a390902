"""An error in a backend's own words, and what they say: a status, a missing deployment, an account.

The status that an error names is a number, or follows from its code, its type, or its message, in
that order. A code is a number, a numeral or a word such as `too_many_requests`. How an error is
found in an answer is in `error_shapes.py`.
"""

import json
import re
from collections.abc import Mapping

from msgspec import Struct

from meter.patterns import lazy_pattern

MAX_MESSAGE_CHARS = 4_096
MAX_WORD_CHARS = 256

_UNKNOWN_STATUS = 500
_STATUS = lazy_pattern(r"\s*([45][0-9]{2})(?![0-9])", re.ASCII)
_NO_LETTERS = lazy_pattern(r"[^a-z]+")
# The first that is part of a word decides: `invalid_api_key` before `invalid`.
_WORDS = {
    429: ("toomanyrequests", "ratelimit", "quota", "throttl", "usagelimit", "limitreached"),
    401: (
        *("unauthorized", "authentication", "authorizationfailed", "apikey", "permissiondenied"),
        *("invalidtoken", "expiredtoken", "invalidcredential", "subscriptionkey"),
    ),
    403: ("forbidden", "accessdenied"),
    503: ("unavailable", "overload", "nocapacity"),
    504: ("gatewaytimeout",),
    408: ("requesttimeout",),
    500: ("servererror", "internal", "apierror", "modelerror", "timeout", "badgateway"),
    404: ("notfound",),
    400: (
        *("invalid", "badrequest", "contentfilter", "policy", "contextlength", "unsupported"),
        *("image", "toolarge", "toolong", "toosmall", "missing", "maxlength", "unprocessable"),
    ),
}
_EXACT_WORDS = {"tokens": 429, "requests": 429}  # OpenAI's types of a rate limit
_MESSAGES = (
    (429, lazy_pattern(r"rate.?limit|too many requests|throttl|quota|\b429\b", re.IGNORECASE)),
    (503, lazy_pattern(r"overloaded|unavailable|no capacity|\b503\b", re.IGNORECASE)),
)
# How an error begins that is about the gateway's key. Anchored, as below.
_CREDENTIALS = lazy_pattern(
    r"\W*(?:error[: ]+)?(?:access denied|unauthori[sz]ed|permission denied|not authenticated|"
    r"authentication |authorization (?:has been denied|failed|required)|"
    r"(?:incorrect|invalid|missing|expired) (?:api|subscription|access) ?(?:key|token)|"
    r"the principal lacks|principal does not have)",
    re.IGNORECASE,
)
_ACCOUNT = lazy_pattern(
    r"[a-z0-9-]\.(?:openai|cognitiveservices|services\.ai)\.azure\.|[a-z0-9-]\.azure-api\.|"
    r"/subscriptions/[0-9a-f]",
    re.IGNORECASE,
)
_DEPLOYMENT_CODES = frozenset({"deploymentnotfound", "deploymentdoesnotexist"})
_MODEL_CODES = frozenset({"modelnotfound", "unknownmodel", "modeldoesnotexist"})
# Anchored: a message may repeat the caller's own words further on.
_NO_DEPLOYMENT = lazy_pattern(
    r"(?:error[: ]+)?(?:4[0-9]{2}[: -]+)?(?:deployment_?notfound\b|"
    r"could not find an existing deployment|the api deployment for this resource does not exist)",
    re.IGNORECASE,
)
_NOT_FOUND = lazy_pattern(
    r"(?:the |an? )?(?:requested |specified )?(?:api )?(?:deployment|model)\b.{0,160}"
    r"(?:not found|not exist|could not be found|was not deployed)",
    re.IGNORECASE | re.DOTALL,
)
_NAMED_WITHIN = 200
_OPTION = ("streamoption", "includeusage")
# Validators that do not say which member they refuse.
_SOME_MEMBER = lazy_pattern(
    r"additional propert|extra (?:inputs?|fields?|propert|argument|parameter)|"
    r"(?:unknown|unrecogni[sz]ed|unexpected|unsupported|undefined) (?:request )?"
    r"(?:parameters?|arguments?|fields?|propert(?:y|ies)|members?)\W*$",
    re.IGNORECASE,
)


class StatedError(Struct, frozen=True, kw_only=True):
    """An error in a backend's own words, each bounded; `status` is the one that it names, if any."""

    message: str | None = None
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    inner: Mapping[str, object] | None = None
    status: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing but that something failed."""
        return self.message is None and self.code is None and self.status is None

    @property
    def likely_status(self) -> int:
        """The status to judge it by; an error that names none is the backend's own."""
        return self.status or _UNKNOWN_STATUS

    def names_no_deployment(self, own_name: str) -> bool:
        """Whether the account says that it lacks the deployment, which has this name there.

        Other models and tools that a request names are the caller's mistake.
        """
        inner_code = text_of((self.inner or {}).get("code"))
        codes = {plain_word(self.code), plain_word(inner_code)}
        message = self.message or ""
        if _DEPLOYMENT_CODES & codes or _NO_DEPLOYMENT.match(message):
            return True
        is_unknown = _MODEL_CODES & codes or _NOT_FOUND.match(message)
        return bool(is_unknown) and _names(message[:_NAMED_WITHIN], own_name)

    def refuses_an_option(self, status: int) -> bool:
        """Whether it refuses the option that asks a stream for its usage.

        A validator may refuse some member of the body without saying which.
        """
        if any(map(names_the_option, self._texts)):
            return True
        is_validators = status in {400, 422} and self.param is None
        return is_validators and _SOME_MEMBER.search(self.message or "") is not None

    @property
    def names_an_account(self) -> bool:
        """Whether any of its texts has the address of an account, or its id in Azure."""
        return any(_ACCOUNT.search(text) for text in self._texts)

    def mentions(self, secret: str) -> bool:
        """Whether any of its texts contains the secret."""
        return any(secret.lower() in text.lower() for text in self._texts)

    @property
    def _texts(self) -> list[str]:
        inner = json.dumps(self.inner, ensure_ascii=False) if self.inner else ""
        return list(filter(None, (self.message, self.code, self.kind, self.param, inner)))


def names_the_option(text: str) -> bool:
    """Whether a text names `stream_options` or `include_usage`, in any spelling or notation."""
    letters = _NO_LETTERS.sub("", text.lower())
    return any(name in letters for name in _OPTION)


def status_of_number(value: object) -> int | None:
    """The status of an error that a number or a numeral is."""
    found = _STATUS.match(text_of(value) or "")
    return int(found[1]) if found else None


def status_of_word(word: object) -> int | None:
    """The status that a code or a type stands for."""
    plain = plain_word(word if isinstance(word, str) else None)
    if plain in _EXACT_WORDS:
        return _EXACT_WORDS[plain]
    found = (status for status, parts in _WORDS.items() if any(part in plain for part in parts))
    return next(found, None)


def status_of_message(message: str) -> int | None:
    """The status that a text speaks of, where another backend or a wait may help."""
    if _CREDENTIALS.match(message):
        return 401
    return next((status for status, pattern in _MESSAGES if pattern.search(message)), None)


def plain_word(word: str | None) -> str:
    """A word in one spelling: `TooManyRequests`, `too_many_requests` and `too-many-requests` are one."""
    return _NO_LETTERS.sub("", (word or "")[:MAX_WORD_CHARS].lower())


def text_of(value: object) -> str | None:
    """A text or a number as text; None for an empty text and any other value."""
    if isinstance(value, str):
        return value or None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else None


def _names(text: str, name: str) -> bool:
    """Whether the text has the name as a word of its own."""
    found = re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-]|\.\w)", text, re.IGNORECASE)
    return bool(name) and found is not None
