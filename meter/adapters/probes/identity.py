"""Signs in as the app does, and reads from the token who that is. The token itself goes nowhere."""

import base64
import json
from collections.abc import Mapping

from azure.core.exceptions import AzureError

from meter.adapters.clients import new_identity


async def sign_in(client_id: str | None, scope: str) -> Mapping[str, object] | None:
    """The claims of a token for that scope; None where no identity gives one."""
    async with new_identity(client_id) as identity:
        try:
            token = await identity.get_token(scope)
        except AzureError:
            return None
    return _claims(token.token)


def _claims(token: str) -> Mapping[str, object]:
    """The token's claims, not verified: they are shown, and decide nothing."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, IndexError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
