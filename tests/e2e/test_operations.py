"""Every operation through the whole pipeline with the plain OpenAI SDK: answered, counted, routed."""

import io
import wave
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import requests

from tests.support.running import RunningStack, eventually, new_subject

API_VERSION = "2025-04-01-preview"

type Client = openai.OpenAI
type Use = Callable[[Client], object]


def clients(stack: RunningStack, subject: str) -> dict[str, Client]:
    """The two ways in which applications call."""
    token = stack.token(subject)
    classic = openai.AzureOpenAI(
        azure_endpoint=stack.url, azure_ad_token=token, api_version=API_VERSION, max_retries=0
    )
    v1 = openai.OpenAI(base_url=f"{stack.url}/openai/v1/", api_key=token, max_retries=0)
    return {"classic": classic, "v1": v1}


@pytest.fixture(autouse=True)
def _no_faults(stack: RunningStack) -> Iterator[None]:
    yield
    stack.clear_faults()


def sound(seconds: int = 2) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes(b"\x01\x02" * 16_000 * seconds)
    file.seek(0)
    file.name = "sound.wav"
    return file


def picture() -> io.BytesIO:
    file = io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"\r\n--not-a-boundary" * 20_000)
    file.name = "picture.png"
    return file


def _stream(stream: Any) -> list[Any]:
    return list(stream)


CHARGED: dict[str, Use] = {
    "images/generations": lambda c: c.images.generate(model="gpt-image-1", prompt="a red fox"),
    "images/generations stream": lambda c: _stream(
        c.images.generate(model="gpt-image-1", prompt="a red fox", stream=True)
    ),
    "images/edits": lambda c: c.images.edit(
        model="gpt-image-1", image=picture(), prompt="make it blue"
    ),
    "audio/transcriptions": lambda c: c.audio.transcriptions.create(
        model="gpt-4o-transcribe", file=sound()
    ),
    "audio/transcriptions stream": lambda c: _stream(
        c.audio.transcriptions.create(model="gpt-4o-transcribe", file=sound(), stream=True)
    ),
    "audio/translations": lambda c: c.audio.translations.create(model="whisper", file=sound()),
}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # by the SDK, of translations
@pytest.mark.parametrize("style", ["classic", "v1"])
@pytest.mark.parametrize("name", CHARGED)
def test_charged_usage_is_counted_as_the_backend_recorded_it(
    stack: RunningStack, name: str, style: str
) -> None:
    """For images and audio, forms and streams, in both address styles."""
    subject = new_subject("surface")
    CHARGED[name](clients(stack, subject)[style])
    rows = stack.wait_until_counted(subject, 1)

    (recorded,) = stack.calls_of(subject)
    (row,) = rows
    assert recorded["operation"] == name.partition(" ")[0]
    assert recorded["status"] == 200
    assert row["MissingCalls"].value == row["EstimatedCalls"].value == 0
    usage = recorded["usage"]
    assert row["TotalTokens"].value == usage.get("total_tokens", 0)
    assert row["Seconds"].value == usage.get("seconds", 0)
    assert row["TotalTokens"].value + row["Seconds"].value > 0


@pytest.mark.parametrize("style", ["classic", "v1"])
def test_speech_is_relayed_byte_for_byte_and_its_characters_are_counted(
    stack: RunningStack, style: str
) -> None:
    """Audio bytes carry no usage: no tokens are invented, and the request tells its characters."""
    subject = new_subject("speech")
    client = clients(stack, subject)[style]
    said = client.audio.speech.create(model="tts", voice="alloy", input="Hello there, listener")
    direct = requests.post(
        f"{stack.description['backends'][0]['url']}/openai/v1/audio/speech",
        json={"model": "tts", "voice": "alloy", "input": "Hello there, listener"},
        headers={"api-key": stack.description["backend_key"]},
        timeout=10,
    )
    (row,) = stack.wait_until_counted(subject, 1)

    assert said.content == direct.content
    assert len(said.content) > 1_000
    names = ("Calls", "Characters", "MissingCalls", "TotalTokens")
    assert [row[name].value for name in names] == [1, 21, 0, 0]


@pytest.mark.parametrize("style", ["classic", "v1"])
def test_compaction_is_counted_and_counting_tokens_is_free(stack: RunningStack, style: str) -> None:
    """As the SDK makes both calls; the backends billed one of them."""
    subject = new_subject("compact")
    client = clients(stack, subject)[style]

    compacted = client.responses.compact(model="gpt-4o", input="one two three")
    counted = client.responses.input_tokens.count(model="gpt-4o", input="one two three")

    rows = stack.wait_until_counted(subject, 2)
    assert compacted.usage.total_tokens > counted.input_tokens > 0
    assert sum(row["TotalTokens"].value for row in rows) == compacted.usage.total_tokens
    assert sum(row["MissingCalls"].value for row in rows) == 0


@pytest.mark.parametrize("style", ["classic", "v1"])
def test_stored_responses_are_found_wherever_they_are(stack: RunningStack, style: str) -> None:
    """Even by an instance that did not create them; their usage is counted once."""
    subject = new_subject("stored")
    client = clients(stack, subject)[style]
    made = [client.responses.create(model="gpt-4o", input=f"Story {n}") for n in range(6)]
    usage = [answer.usage.total_tokens for answer in made if answer.usage is not None]
    owners = {call["id"] for call in stack.calls_of(subject)}
    stack.wait_for_restart("gateway", stack.kill("gateway"))
    _wait_until_alive(stack)
    for answer in made:
        assert client.responses.retrieve(answer.id).output_text == answer.output_text
        assert client.responses.input_items.list(answer.id).data
    following = client.responses.create(
        model="gpt-4o", input="And then?", previous_response_id=made[0].id
    )
    client.responses.delete(made[1].id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made[1].id)
    rows = stack.wait_until_counted(subject, 6 + 12 + 3)

    assert len(owners) == 6
    assert following.previous_response_id == made[0].id
    assert following.usage is not None
    counted = sum(row["TotalTokens"].value for row in rows)
    assert counted == sum(usage) + following.usage.total_tokens
    assert sum(row["MissingCalls"].value for row in rows) <= 1  # the last one: 404, refused


def test_a_follow_up_goes_to_the_backend_that_has_the_first_answer(stack: RunningStack) -> None:
    """Twenty of them never reach the wrong account, regardless of the load balance."""
    subject = new_subject("affinity")
    client = clients(stack, subject)["v1"]
    previous = client.responses.create(model="gpt-4o", input="Begin")
    for _ in range(20):
        previous = client.responses.create(
            model="gpt-4o", input="Go on", previous_response_id=previous.id
        )
    recorded = stack.calls_of(subject)

    assert [call["status"] for call in recorded] == [200] * 21


def test_a_busy_owner_is_waited_for_and_not_replaced(stack: RunningStack) -> None:
    """The answer is a 429 with a wait: the other account does not have the response."""
    subject = new_subject("busy-owner")
    client = clients(stack, subject)["v1"]
    first = client.responses.with_raw_response.create(model="gpt-4o", input="Begin")
    owner = first.headers["x-meter-backend"]
    names = [backend["name"] for backend in stack.description["backends"]]
    stack.fault({"status": 429, "headers": {"retry-after": "1"}}, backend=names.index(owner))
    with pytest.raises(openai.RateLimitError) as refused:
        client.responses.create(
            model="gpt-4o", input="Go on", previous_response_id=first.parse().id
        )

    assert refused.value.response.headers["retry-after"] == "1"


def test_background_responses_are_metered_through_their_stream(stack: RunningStack) -> None:
    """Unless streamed they are refused, and the error says what is accepted."""
    subject = new_subject("background")
    client = clients(stack, subject)["v1"]
    with pytest.raises(openai.BadRequestError, match="send `stream: true`"):
        client.responses.create(model="gpt-4o", input="Think", background=True)
    events = list(
        client.responses.create(model="gpt-4o", input="Think", background=True, stream=True)
    )
    (row,) = stack.wait_until_counted(subject, 2)  # the call, and the response

    last: Any = events[-1]
    assert row["TotalTokens"].value == last.response.usage.total_tokens


@pytest.mark.parametrize("style", ["classic", "v1"])
def test_the_models_are_the_deployments_that_can_be_called(stack: RunningStack, style: str) -> None:
    """Answered without a backend and without an event."""
    subject = new_subject("models")
    client = clients(stack, subject)[style]
    listed = [model.id for model in client.models.list()]

    assert {"gpt-4o", "gpt-image-1", "whisper"} <= set(listed)
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")
    assert stack.calls_of(subject) == []


@pytest.mark.parametrize(
    "path", ["/openai/v1/files", "/openai/v1/batches", "/openai/v1/realtime", "/openai/assistants"]
)
def test_what_cannot_be_metered_is_refused_by_name(stack: RunningStack, path: str) -> None:
    """The answer is a 404 in AOAI's shape that says so."""
    answer = stack.post(path, stack.token("unmetered"), {})

    assert answer.status_code == 404
    assert "is not served here" in answer.json()["error"]["message"]


def test_other_methods_are_answered_properly(stack: RunningStack) -> None:
    """OPTIONS lists the methods, HEAD is a GET without its body, others are not allowed."""
    headers = {"authorization": f"Bearer {stack.token('methods')}"}
    url = f"{stack.url}/openai/v1/models"
    asked = requests.options(url, headers=headers, timeout=10)
    head = requests.head(url, headers=headers, timeout=10)
    put = requests.put(url, headers=headers, timeout=10)

    assert (asked.status_code, asked.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (head.status_code, head.content) == (200, b"")
    assert (put.status_code, put.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert requests.options(url, timeout=10).status_code == 401


def test_a_compressed_answer_is_counted_and_relayed(stack: RunningStack) -> None:
    """Even if a backend compresses although the request forbids it."""
    subject = new_subject("gzip")
    client = clients(stack, subject)["v1"]
    stack.fault({"gzip": True, "count": None})
    messages: Any = [{"role": "user", "content": "Hello"}]
    whole = client.chat.completions.create(model="gpt-4o", messages=messages)
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True))
    rows = stack.wait_until_counted(subject, 2)

    assert whole.usage is not None
    assert sum(row["TotalTokens"].value for row in rows) == 2 * whole.usage.total_tokens
    assert all(chunk.usage is None for chunk in chunks)


def _wait_until_alive(stack: RunningStack) -> None:
    def is_alive() -> bool:
        try:
            return requests.get(f"{stack.url}/healthz", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    eventually(is_alive, "the gateway answers again")
