"""Reasoning items through the real OpenAI SDK: only the account that made one can read it."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.running import RunningStack, run_stack

REFUSAL = {"error": {"code": "invalid_encrypted_content", "message": "The encrypted content ..."}}


def item(maker: str, number: int) -> dict[str, Any]:
    content = f"{maker}-{number}-" + "x" * 40
    return {"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": content}


class _Account(BaseHTTPRequestHandler):
    """Reads its own reasoning items alone, and makes one in each answer."""

    protocol_version = "HTTP/1.1"
    maker: str
    asked: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(self.maker)
        contents = [each.get("encrypted_content", self.maker) for each in body["input"]]
        is_readable = all(content.startswith(self.maker) for content in contents)
        answer = json.dumps(self._response() if is_readable else REFUSAL).encode()
        self.send_response(200 if is_readable else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _response(self) -> dict[str, Any]:
        usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
        made = [item(self.maker, len(self.asked))]
        return {
            "id": "resp_1",
            "object": "response",
            "model": "gpt",
            "output": made,
            "usage": usage,
        }

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """The accounts that were asked, in order."""
    return []


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory, asked: list[str]) -> Iterator[RunningStack]:
    """A stack with two such accounts, of which `first` is preferred."""
    folder: Path = tmp_path_factory.mktemp("reasoning")
    backends = []
    with ExitStack() as running:
        for priority, maker in enumerate(("first", "second"), start=1):
            handler = type("Account", (_Account,), {"maker": maker, "asked": asked})
            server = running.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            running.callback(server.shutdown)
            url = f"http://127.0.0.1:{server.server_port}"
            auth = {"kind": "api-key", "setting": "ACCOUNT_KEY"}
            named = {"name": maker, "url": url, "priority": priority, "auth": auth}
            backends.append(named | {"deployments": {"gpt": "gpt"}})
        (folder / "backends.json").write_text(json.dumps({"backends": backends}))
        options = ("--backends", str(folder / "backends.json"))
        yield running.enter_context(
            run_stack(folder / "state", *options, settings={"ACCOUNT_KEY": "key"})
        )


def test_a_reasoning_item_finds_the_account_that_made_it(
    accounts: RunningStack, asked: list[str]
) -> None:
    """One that is not known yet is tried on all accounts; from then on its maker is asked alone."""
    url, token = f"{accounts.url}/openai/v1/", accounts.token("thinker")
    question = {"role": "user", "content": "And now?"}
    with openai.OpenAI(base_url=url, api_key=token, max_retries=0) as client:

        def ask(*items: Any) -> Any:
            kept: Any = [*items, question]
            return client.responses.create(model="gpt", store=False, input=kept).output[0]

        foreign = item("second", 0)
        made = ask(foreign)
        after_unknown = asked.copy()
        ask(foreign, made.model_dump(exclude_none=True))
        ask(made.model_dump(exclude_none=True))

    assert after_unknown == ["first", "second"]
    assert asked[2:] == ["second", "second"]
