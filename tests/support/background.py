"""Background responses as Azure OpenAI shows them: their JSON, their events, their whole answers."""

import json

from tests.fakes.gateway import FakeAnswer, json_answer
from tests.support.gateway import NOW, V1_RESPONSES_PATH

CREATED_AT = NOW - 7_200
USAGE = {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}
CREATE = b'{"model":"gpt","input":"hello","background":true,"stream":true}'
BY_ID = f"{V1_RESPONSES_PATH}/resp_1"


def response(status: str = "completed", **changes: object) -> dict[str, object]:
    """A background response as Azure OpenAI shows it."""
    usage = None if status in {"queued", "in_progress"} else USAGE
    known: dict[str, object] = {
        "id": "resp_1",
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "background": True,
        "model": "gpt-own",
        "usage": usage,
    }
    return known | changes


def frame(kind: str, **changes: object) -> bytes:
    """One event of its stream."""
    shown = response("in_progress" if kind in {"created", "in_progress"} else kind, **changes)
    data = json.dumps({"type": f"response.{kind}", "response": shown})
    return f"event: response.{kind}\ndata: {data}\n\n".encode()


DELTA = b'data: {"type":"response.output_text.delta","delta":"hi"}\n\n'


def whole(status: str = "completed", **changes: object) -> FakeAnswer:
    """The answer to a read."""
    return json_answer(200, json.dumps(response(status, **changes)).encode())
