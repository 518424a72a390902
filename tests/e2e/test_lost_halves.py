"""Behind Microsoft's proxy: calls that lose one half on their way end, and harm no others."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.running import RunningStack, new_subject, run_stack

CALLS = 100  # of each cause, all at once
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """The calls of one cause: whose they were, what their callers saw, and the longest wait."""

    subject: str
    seen: Counter[bytes]
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The calls of all causes at once, and the normal ones beside them."""

    lost: Mapping[str, Lost]
    beside: "Beside"


@pytest.fixture(scope="module")
def waited(stack: RunningStack) -> Losses:
    """Hundreds of lost halves at once, whose callers wait for an answer."""
    return _lose(stack, CAUSES, leaves=False)


@pytest.fixture(scope="module")
def left(stack: RunningStack) -> Losses:
    """Hundreds more, whose callers leave at once."""
    return _lose(stack, dict(list(CAUSES.items())[:4]), leaves=True)


@pytest.mark.parametrize("cause", CAUSES)
def test_a_lost_half_ends_its_call(stack: RunningStack, waited: Losses, cause: str) -> None:
    """Hundreds at once, beside normal calls: 400 or 500 in bounded time, and nothing is charged."""
    lost = waited.lost[cause]

    assert lost.seen.total() == CALLS
    assert set(lost.seen) <= {b"400", b"500"}
    assert lost.longest_seconds < LONGEST_SECONDS
    assert stack.calls_of(lost.subject) == []
    assert stack.usage(lost.subject) == []


@pytest.mark.parametrize("cause", list(CAUSES)[:4])
def test_it_does_not_matter_whether_the_caller_waits(
    stack: RunningStack, left: Losses, cause: str
) -> None:
    """One that leaves at once leaves its invocation behind all the same."""
    assert stack.calls_of(left.lost[cause].subject) == []
    assert stack.usage(left.lost[cause].subject) == []


@pytest.mark.parametrize("which", ["waited", "left"])
def test_a_lost_half_ends_no_other_call(
    stack: RunningStack, request: pytest.FixtureRequest, which: str
) -> None:
    """Those beside them are all served, and counted once."""
    losses: Losses = request.getfixturevalue(which)
    beside = losses.beside

    assert beside.failed == []
    assert beside.served > 0
    assert stack.calls_counted(beside.subject) == beside.served


def _lose(stack: RunningStack, causes: Mapping[str, bytes], *, leaves: bool) -> Losses:
    """Lose so many calls of each cause at once, beside others."""
    subjects = {cause: new_subject("lost") for cause in causes}
    beside = Beside(stack, new_subject("beside"))

    async def all_at_once() -> list[tuple[Counter[bytes], float]]:
        return await asyncio.gather(
            *(
                _all(stack, sent, stack.token(subjects[cause]), leaves=leaves)
                for cause, sent in causes.items()
            )
        )

    with beside:
        outcomes = asyncio.run(all_at_once())
    stack.wait_until_counted(beside.subject, beside.served)
    lost = {
        cause: Lost(subject=subjects[cause], seen=seen, longest_seconds=longest)
        for cause, (seen, longest) in zip(causes, outcomes, strict=True)
    }
    return Losses(lost=lost, beside=beside)


class Beside:
    """Normal calls, one after the other, while something else goes on."""

    def __init__(self, stack: RunningStack, subject: str) -> None:
        self.subject = subject
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
    stack: RunningStack, sent: bytes, token: str, *, leaves: bool
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

    answers = await asyncio.gather(*(one(number) for number in range(CALLS)))
    return Counter(status for status, _ in answers), max(seconds for _, seconds in answers)
