"""Behind Microsoft's proxy: calls that lose one half on their way end, and harm no others."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.running import RunningStack, new_subject, run_stack

CALLS = 300
PATH = "/openai/v1/chat/completions"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"one two three"}]}'
WHOLE = b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)

# What each caller sends behind the request line, Host and a valid token.
CAUSES = {
    "an id of its own": b"x-ms-invocation-id: mine-%d\r\n" + WHOLE,
    "two ids of its own": b"x-ms-invocation-id: a-%d\r\nx-ms-invocation-id: b\r\n" + WHOLE,
    "a header beyond ASCII": b"x-name: caf\xc3\xa9-%d\r\n" + WHOLE,
    "a bad chunk": b"x-number: %d\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "a body that is too large": b"x-number: %d\r\ncontent-length: 104857601\r\n\r\n{",
    "a body that is too slow": b"x-number: %d\r\ncontent-length: 5000\r\n\r\n{",
}
LONGEST_SECONDS = 100.0  # they wait ten for their other half, and for a processor


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, yarp_front: Path) -> Iterator[RunningStack]:
    """A stack behind the proxy with the usual limits: a busy machine must not lose a half by itself."""
    with run_stack(tmp_path_factory.mktemp("lost"), "--behind", str(yarp_front)) as running:
        yield running


@pytest.mark.parametrize("cause", CAUSES)
def test_a_lost_half_ends_its_call_and_no_other(stack: RunningStack, cause: str) -> None:
    """Hundreds at once, beside normal calls: 400 or 500 in bounded time, and nothing is charged."""
    seen, longest = _lose(stack, cause, CALLS, leaves=False)

    assert set(seen) <= {b"400", b"500"}
    assert longest < LONGEST_SECONDS


@pytest.mark.parametrize("cause", list(CAUSES)[:4])
def test_it_does_not_matter_whether_the_caller_waits(stack: RunningStack, cause: str) -> None:
    """One that leaves at once leaves its invocation behind all the same."""
    _lose(stack, cause, CALLS // 4, leaves=True)


def _lose(
    stack: RunningStack, cause: str, calls: int, *, leaves: bool
) -> tuple[Counter[bytes], float]:
    """Lose so many calls, beside others; what their callers saw, and the longest wait."""
    lost, normal = new_subject("lost"), new_subject("beside")
    beside = Beside(stack, normal)

    with beside:
        seen, longest = asyncio.run(
            _all(stack, CAUSES[cause], stack.token(lost), calls=calls, leaves=leaves)
        )

    assert beside.failed == []
    stack.wait_until_counted(normal, beside.served)
    assert stack.calls_counted(normal) == beside.served
    assert stack.calls_of(lost) == []
    assert stack.usage(lost) == []
    return seen, longest


class Beside:
    """Normal calls, one after the other, while something else goes on."""

    def __init__(self, stack: RunningStack, subject: str) -> None:
        self._stack = stack
        self._token = stack.token(subject)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.served = 0
        self.failed: list[tuple[int, str]] = []

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            answer = self._stack.post(PATH, self._token, CHAT)
            if answer.status_code == 200:
                self.served += 1
            else:
                self.failed.append((answer.status_code, answer.text))
            if self._is_over.wait(0.05):
                return


async def _all(
    stack: RunningStack, sent: bytes, token: str, *, calls: int, leaves: bool
) -> tuple[Counter[bytes], float]:
    port = urlsplit(stack.url).port
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n".encode()

    async def one(number: int) -> tuple[bytes, float]:
        begun = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + sent % number)
        await writer.drain()
        try:
            if leaves:
                await asyncio.sleep(0.01)
                return b"", 0.0
            async with asyncio.timeout(2 * LONGEST_SECONDS):
                line = await reader.readline()
            return line[9:12], time.monotonic() - begun
        finally:
            writer.transport.abort()

    answers = await asyncio.gather(*(one(number) for number in range(calls)))
    return Counter(status for status, _ in answers), max(seconds for _, seconds in answers)
