"""An application with only the OpenAI SDK: makes one call of every kind and prints the results.

Run as a program, so that the same calls are made with openai 1.x and 3.x, each in its own process.
`python sdk_client.py GATEWAY_URL TOKEN sync|async`: JSON with the SDK's version and a list of calls.
"""

import asyncio
import json
import sys
from typing import Any

import openai

MESSAGES = [{"role": "user", "content": "How many tokens does this question cost?"}]
API_VERSION = "2025-03-01-preview"


def main(url: str, token: str, mode: str) -> None:
    """Make the calls and print the result."""
    calls = _call_sync(url, token) if mode == "sync" else asyncio.run(_call_async(url, token))
    sys.stdout.write(json.dumps({"version": openai.__version__, "calls": calls}))


def _call_sync(url: str, token: str) -> list[Any]:
    calls: list[Any] = []
    azure = openai.AzureOpenAI(azure_endpoint=url, azure_ad_token=token, api_version=API_VERSION)
    v1 = openai.OpenAI(base_url=f"{url}/openai/v1/", api_key=token)
    for style, client in (("classic", azure), ("v1", v1)):
        for kind, create, arguments in _requests(client):
            calls.append(_seen(style, kind, create(**arguments)))
        for kind, create, arguments in _streams(client):
            calls.append(_seen_stream(style, kind, list(create(**arguments))))
        client.close()
    return calls


async def _call_async(url: str, token: str) -> list[Any]:
    calls: list[Any] = []
    azure = openai.AsyncAzureOpenAI(
        azure_endpoint=url, azure_ad_token=token, api_version=API_VERSION
    )
    v1 = openai.AsyncOpenAI(base_url=f"{url}/openai/v1/", api_key=token)
    for style, client in (("classic", azure), ("v1", v1)):
        for kind, create, arguments in _requests(client):
            calls.append(_seen(style, kind, await create(**arguments)))
        for kind, create, arguments in _streams(client):
            chunks = [chunk async for chunk in await create(**arguments)]
            calls.append(_seen_stream(style, kind, chunks))
        await client.close()
    return calls


def _requests(client: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    return [
        ("chat", client.chat.completions.create, {"model": "gpt-4o", "messages": MESSAGES}),
        (
            "completion",
            client.completions.create,
            {"model": "gpt-4o", "prompt": "Once upon a time"},
        ),
        (
            "embedding",
            client.embeddings.create,
            {"model": "text-embedding-3-small", "input": ["one two", "three"]},
        ),
        ("response", client.responses.create, {"model": "gpt-4o-mini", "input": "Say hello"}),
    ]


def _streams(client: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    chat = {"model": "gpt-4o", "messages": MESSAGES, "stream": True}
    return [
        ("chat-stream", client.chat.completions.create, chat),
        (
            "chat-stream-usage",
            client.chat.completions.create,
            {**chat, "stream_options": {"include_usage": True}},
        ),
        (
            "completion-stream",
            client.completions.create,
            {"model": "gpt-4o", "prompt": "Once upon a time", "stream": True},
        ),
        (
            "response-stream",
            client.responses.create,
            {"model": "gpt-4o-mini", "input": "Say hello", "stream": True},
        ),
    ]


def _seen(style: str, kind: str, answer: Any) -> dict[str, Any]:
    return {"style": style, "kind": kind, "total_tokens": answer.usage.total_tokens}


def _seen_stream(style: str, kind: str, chunks: list[Any]) -> dict[str, Any]:
    usages = [usage for chunk in chunks if (usage := _usage(chunk)) is not None]
    return {
        "style": style,
        "kind": kind,
        "total_tokens": usages[-1].total_tokens if usages else None,
        "chunks": len(chunks),
    }


def _usage(chunk: Any) -> Any:
    response = getattr(chunk, "response", None)
    return getattr(chunk if response is None else response, "usage", None)


if __name__ == "__main__":
    main(*sys.argv[1:4])
