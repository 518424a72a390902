"""What the exceptions of Azure's SDKs say of a request that failed."""

from dataclasses import dataclass

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError


@dataclass(frozen=True, slots=True)
class Failure:
    """The service's error code and status, where it answered; or that no identity gave a token for it."""

    code: str
    status: int | None
    is_without_token: bool

    def text(self, kind: str) -> str:
        """Code and status in words; `kind` in place of a code that there is not."""
        return " ".join(str(each) for each in (self.code or kind, self.status) if each)


def failure_of(exc: BaseException) -> Failure:
    """Read an exception of an SDK or of its transport."""
    code = getattr(exc, "error_code", None) or ""  # an enum or a text
    text = str(getattr(code, "value", code))
    status = exc.status_code if isinstance(exc, HttpResponseError) else None
    # The service's own refusal is of this class, too, but has a code.
    return Failure(text, status, isinstance(exc, ClientAuthenticationError) and not text)
