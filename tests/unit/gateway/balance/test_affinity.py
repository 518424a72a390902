"""Stored responses: found where they are, never answered with a 404 that another backend would not give."""

import json

import pytest

from meter.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from meter.gateway.balance.affinity import UNKNOWN_DEPLOYMENT, Owner, Owners
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import NO_USAGE, Outcome, UsageSource
from tests.fakes.gateway import FakeAnswer, FakeCaller, FakeUpstream, json_answer, stream_answer
from tests.support.gateway import V1_RESPONSES_PATH, Door, backend, error_of

CREATE = b'{"model":"gpt","input":"hello"}'
FOLLOW = b'{"model":"gpt","input":"on","previous_response_id":"resp_1"}'
STORED = b'{"id":"resp_1","object":"response","model":"gpt-4o","usage":{"input_tokens":5}}'
NOT_FOUND = b'{"error":{"message":"Response with id \'resp_1\' not found.","code":null}}'
NO_PREVIOUS = b'{"error":{"code":"previous_response_not_found","message":"no resp_1"}}'
CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1",'
    b'"object":"response"}}\n\n'
)
COMPLETED = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1",'
    b'"model":"gpt-4o","usage":{"input_tokens":2,"output_tokens":3,"total_tokens":5}}}\n\n'
)
BY_ID = [
    ("GET", "/openai/responses/resp_1"),
    ("GET", "/openai/v1/responses/resp_1"),
    ("HEAD", "/openai/v1/responses/resp_1"),
    ("DELETE", "/openai/v1/responses/resp_1"),
    ("POST", "/openai/responses/resp_1/cancel"),
    ("POST", "/openai/v1/responses/resp_1/cancel"),
    ("GET", "/openai/v1/responses/resp_1/input_items"),
]

type Scripted = FakeAnswer | UpstreamError


def three(**script: list[Scripted]) -> Door:
    """Backends a, b and c of one priority; those not named have no answer."""
    upstream = FakeUpstream({name: list(script.get(name, [])) for name in "abc"})
    return Door(upstream, [backend(name) for name in "abc"])


def found(body: bytes = STORED) -> FakeAnswer:
    return json_answer(200, body)


def unknown(mark: str = "") -> FakeAnswer:
    return json_answer(404, NOT_FOUND, ("openai-from", mark))


def knowing(made: Door, owner: str) -> Door:
    made.front_door.instance.background.owners.learn("resp_1", Owner(owner, "gpt"))
    return made


async def ask(
    made: Door, method: str = "GET", path: str = f"{V1_RESPONSES_PATH}/resp_1"
) -> Answer | StreamingAnswer:
    return await made.call(b"", path=path, method=method, query=query_of(path))


def query_of(path: str) -> str:
    return "" if "/v1/" in path else "api-version=1"


async def create(made: Door, body: bytes = CREATE) -> Answer | StreamingAnswer:
    return await made.call(body, path=V1_RESPONSES_PATH, query="")


@pytest.mark.parametrize(("method", "path"), BY_ID)
async def test_the_backend_that_stores_a_response_is_asked_alone(method: str, path: str) -> None:
    """Whatever priority or order would say, at the same address, without a body."""
    made = knowing(three(b=[found()]), "b")

    answer = await ask(made, method, path)

    assert answer.status == 200
    assert made.upstream.order == ["b"]
    sent = made.upstream.requests[0]
    wire_method = "GET" if method == "HEAD" else method
    url = f"https://b.example{path}" + ("?" + query_of(path) if query_of(path) else "")
    assert (sent.method, sent.url, sent.body) == (wire_method, url, b"")


@pytest.mark.parametrize(("method", "path"), BY_ID)
async def test_without_memory_the_backends_are_asked_in_turn(method: str, path: str) -> None:
    """Until one does not answer 404: that answer is the caller's."""
    made = three(a=[unknown()], b=[unknown()], c=[found()])

    answer = await ask(made, method, path)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (200, STORED)
    assert made.upstream.order == ["a", "b", "c"]
    assert [attempt.status for attempt in made.sink.events[0].attempts] == [404, 404, 200]


async def test_an_owner_that_answers_404_is_not_the_last_word() -> None:
    """A memory may be wrong; every other backend is asked once, and the owner not again."""
    made = knowing(three(a=[unknown()], b=[unknown()], c=[found()]), "b")

    answer = await ask(made)

    assert answer.status == 200
    assert made.upstream.order == ["b", "a", "c"]


@pytest.mark.parametrize("owner", [None, "b"])
async def test_when_no_backend_has_it_the_last_404_is_passed_on(owner: str | None) -> None:
    """Unchanged, and counted as refused: all of them were asked."""
    made = three(a=[unknown("a")], b=[unknown("b")], c=[unknown("c")])
    if owner is not None:
        knowing(made, owner)

    answer = await ask(made)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (404, NOT_FOUND)
    assert dict(answer.headers)["openai-from"] == "c"
    event = made.sink.events[0]
    assert (event.outcome, event.backend, len(made.upstream.order)) == (Outcome.REFUSED, "c", 3)


FAULTS: list[tuple[Scripted, int]] = [
    (json_answer(429, b"{}", ("retry-after", "30")), 429),
    (json_answer(500, b"{}"), 502),
    (json_answer(503, b"{}"), 503),
    (json_answer(401, b"{}"), 502),
    (UpstreamTimeout("b"), 504),
    (UpstreamBroken("b"), 502),
]


@pytest.mark.parametrize(("fault", "status"), FAULTS, ids=str)
async def test_an_owner_that_fails_is_never_answered_for_by_others(
    fault: Scripted, status: int
) -> None:
    """Their 404 would be a lie; nobody else is asked."""
    made = knowing(three(a=[unknown()], b=[fault], c=[unknown()]), "b")

    answer = await ask(made)

    assert answer.status == status
    assert made.upstream.order == ["b"]


@pytest.mark.parametrize(("fault", "status"), FAULTS, ids=str)
async def test_one_that_could_not_be_asked_might_know(fault: Scripted, status: int) -> None:
    """Without memory: two 404s and a failure are a failure."""
    made = three(a=[unknown()], b=[fault], c=[unknown()])

    answer = await ask(made)

    assert answer.status == status
    assert made.upstream.order == ["a", "b", "c"]


async def test_a_failing_backend_does_not_hide_the_one_that_knows() -> None:
    """The next is asked, and it has it."""
    made = three(a=[json_answer(500, b"{}")], b=[found()])

    assert (await ask(made)).status == 200


@pytest.mark.parametrize("owner", [None, "b"])
async def test_a_benched_backend_that_might_know_is_waited_for(owner: str | None) -> None:
    """429 with the time until it is asked again, although all who can be asked say 404."""
    throttled = json_answer(429, b"{}", ("retry-after", "30"))
    made = three(a=[unknown(), unknown()], b=[throttled], c=[unknown(), unknown()])
    await ask(made)
    if owner is not None:
        knowing(made, owner)

    answer = await ask(made)

    assert (answer.status, dict(answer.headers)["retry-after"]) == (429, "3")
    assert made.upstream.order.count("b") == 1


async def test_a_backend_benched_for_calls_is_asked_for_what_it_stores() -> None:
    """Azure throttles deployments, and reading what is stored takes none of their tokens."""
    throttled = json_answer(429, b"{}", ("retry-after", "30"))
    made = three(a=[throttled, found()], b=[json_answer(200, STORED)])
    await create(made)
    knowing(made, "a")

    assert (await ask(made)).status == 200


async def test_the_owner_is_learned_from_a_whole_answer() -> None:
    """The next question goes straight to it, under the deployment that made it."""
    made = three(a=[json_answer(500, b"{}")], b=[found(), found()])
    await create(made)

    await ask(made)

    assert made.upstream.order == ["a", "b", "b"]
    assert made.sink.events[1].deployment == "gpt"


async def test_the_owner_is_learned_from_a_streams_first_frame() -> None:
    """Before the stream has ended: a caller may cancel it meanwhile."""
    made = three(a=[json_answer(500, b"{}")], b=[stream_answer(CREATED, COMPLETED), found()])
    answer = await create(made, b'{"model":"gpt","stream":true}')
    await ask(made, "POST", f"{V1_RESPONSES_PATH}/resp_1/cancel")

    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(FakeCaller())
    assert made.upstream.order == ["a", "b", "b"]


async def test_the_owner_is_learned_from_an_answer_about_it() -> None:
    """What was asked for in turn once is not asked for in turn again."""
    made = three(a=[unknown()], b=[found(), found()])
    await ask(made)

    await ask(made, "DELETE")

    assert made.upstream.order == ["a", "b", "b"]


@pytest.mark.parametrize(
    "body", [b'{"id":"chatcmpl-1"}', b"{}", b'{"previous_response_id":"resp_1"}']
)
async def test_what_is_no_response_id_is_not_learned(body: bytes) -> None:
    """Only the id of the response itself."""
    made = three(a=[json_answer(200, body)])
    await create(made)

    assert made.front_door.instance.background.owners.of("resp_1") is None


async def test_an_error_teaches_nothing() -> None:
    """A refusal may repeat an id that is stored elsewhere."""
    made = three(a=[json_answer(400, STORED)])
    await create(made)

    assert made.front_door.instance.background.owners.of("resp_1") is None


async def test_a_chat_completion_teaches_nothing() -> None:
    """It is not stored under its id."""
    made = three(a=[found()])
    await made.call()

    assert made.front_door.instance.background.owners.of("resp_1") is None


async def test_a_follow_up_goes_to_the_backend_that_stores_what_it_follows() -> None:
    """No other has the conversation."""
    made = knowing(three(c=[found()]), "c")

    await create(made, FOLLOW)

    assert made.upstream.order == ["c"]


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("owner", [None, "a"])
async def test_a_follow_up_moves_on_when_what_it_follows_is_not_there(
    status: int, owner: str | None
) -> None:
    """Azure answers 400 or 404 and names `previous_response`."""
    made = three(a=[json_answer(status, NO_PREVIOUS)], b=[found()])
    if owner is not None:
        knowing(made, owner)

    answer = await create(made, FOLLOW)

    assert answer.status == 200
    assert made.upstream.order == ["a", "b"]


async def test_a_follow_up_of_nothing_gets_the_last_refusal() -> None:
    """Unchanged, when all backends say so."""
    refusals = [json_answer(400, NO_PREVIOUS) for _ in "abc"]
    made = three(a=[refusals[0]], b=[refusals[1]], c=[refusals[2]])

    answer = await create(made, FOLLOW)

    assert isinstance(answer, Answer)
    assert (answer.status, answer.body) == (400, NO_PREVIOUS)
    assert made.upstream.order == ["a", "b", "c"]


@pytest.mark.parametrize(
    "refusal",
    [
        json_answer(400, b'{"error":{"code":"content_filter"}}'),
        json_answer(422, NO_PREVIOUS),
    ],
    ids=["filter", "422"],
)
async def test_another_refusal_of_a_follow_up_is_the_callers(refusal: FakeAnswer) -> None:
    """After one attempt, like any mistake of its own."""
    made = three(a=[refusal], b=[found()])

    assert (await create(made, FOLLOW)).status == refusal.status
    assert made.upstream.order == ["a"]


@pytest.mark.parametrize("body", [CREATE, CREATE[:-1] + b',"previous_response_id":7}'])
async def test_a_call_that_follows_nothing_is_not_sent_round(body: bytes) -> None:
    """The same words then are the caller's own mistake."""
    made = three(a=[json_answer(400, NO_PREVIOUS)], b=[found()])

    assert (await create(made, body)).status == 400
    assert made.upstream.order == ["a"]


async def test_a_follow_up_whose_owner_fails_is_not_sent_to_others() -> None:
    """They would say that the conversation does not exist."""
    made = knowing(three(a=[json_answer(500, b"{}")], b=[json_answer(400, NO_PREVIOUS)]), "a")

    assert (await create(made, FOLLOW)).status == 502
    assert made.upstream.order == ["a"]


async def test_an_owner_that_no_longer_serves_the_deployment_is_forgotten_about() -> None:
    """The call goes to those that do."""
    made = knowing(three(a=[found()]), "gone")

    assert (await create(made, FOLLOW)).status == 200


@pytest.mark.parametrize(("method", "path"), BY_ID)
async def test_handling_a_stored_response_costs_nothing(method: str, path: str) -> None:
    """Its text repeats the usage it was charged with when it was made."""
    made = knowing(three(a=[found()]), "a")

    await ask(made, method, path)

    event = made.sink.events[0]
    assert (event.usage, event.usage_source) == (NO_USAGE, UsageSource.REPORTED)
    assert (event.usage_raw, event.model, event.deployment) == (None, "gpt-4o", "gpt")


async def test_reading_a_stored_stream_again_costs_nothing() -> None:
    """`?stream=true` repeats the events of a background response, its usage too."""
    made = knowing(three(a=[stream_answer(CREATED, COMPLETED)]), "a")
    answer = await made.call(
        b"", path=f"{V1_RESPONSES_PATH}/resp_1", method="GET", query="stream=true"
    )
    caller = FakeCaller()

    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(caller)

    event = made.sink.events[0]
    assert caller.received == CREATED + COMPLETED
    assert (event.usage, event.usage_source) == (NO_USAGE, UsageSource.REPORTED)
    assert (event.usage_raw, event.streaming) == (None, True)
    assert made.upstream.requests[0].url.endswith("/resp_1?stream=true")


async def test_a_response_nobody_remembers_is_counted_under_an_unknown_deployment() -> None:
    """Its deployment stays unknown also when its owner has been found."""
    made = three(a=[found(), found()])
    await ask(made)
    await ask(made)

    assert [event.deployment for event in made.sink.events] == [UNKNOWN_DEPLOYMENT] * 2


async def test_finding_a_response_elsewhere_is_no_spill() -> None:
    """It is read where it is stored, whatever backend was meant to be first."""
    upstream = FakeUpstream({"ptu": [unknown()], "paygo": [found(), found()]})
    made = Door(upstream, [backend("ptu"), backend("paygo", priority=2)])
    await ask(made)
    await create(made, FOLLOW)

    assert [event.backend for event in made.sink.events] == ["paygo", "paygo"]
    assert [event.spilled_from for event in made.sink.events] == [None, None]


@pytest.mark.parametrize(
    "body",
    [b'{"model":"gpt","background":true}', CREATE[:-1] + b',"background":true,"stream":false}'],
)
async def test_a_background_call_without_a_stream_is_refused(body: bytes) -> None:
    """Its usage would be told to nobody: 400, before any backend."""
    made = three()

    answer = await create(made, body)

    assert (answer.status, error_of(answer)["code"]) == (400, "background_not_metered")
    assert (made.upstream.requests, made.sink.events, made.is_idle) == ([], [], True)


async def test_a_background_call_with_a_stream_is_served() -> None:
    """It is metered by the stream's closing event."""
    made = three(a=[stream_answer(CREATED, COMPLETED)])

    answer = await create(made, b'{"model":"gpt","background":true,"stream":true}')

    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(FakeCaller())
    assert made.sink.events[0].usage.total_tokens == 5


async def test_background_means_nothing_to_other_operations() -> None:
    """The member is passed on like any other."""
    made = three(a=[json_answer(200, b"{}")])

    assert (await made.call(b'{"model":"gpt","background":true}')).status == 200


def test_memory_is_bounded() -> None:
    """The oldest is forgotten first; what is learned again is young again."""
    owners, owner = Owners(most=3), Owner("a", "gpt")
    for name in ("1", "2", "3", "1", "4"):
        owners.learn(name, owner)

    assert [name for name in "1234" if owners.of(name)] == ["1", "3", "4"]


def test_what_is_known_of_a_deployment_is_not_unlearned() -> None:
    """A by-id answer knows the backend only."""
    owners = Owners()
    owners.learn("resp_1", Owner("a", "gpt"))
    owners.learn("resp_1", Owner("b", UNKNOWN_DEPLOYMENT))
    owners.learn(None, Owner("a", "gpt"))

    assert owners.of("resp_1") == Owner("b", "gpt")
    assert owners.of(None) is None


async def test_no_answer_of_a_search_is_left_open() -> None:
    """Each 404 is read, closed and its backend handed back, once."""
    answers = [unknown(), unknown(), found()]
    made = three(a=[answers[0]], b=[answers[1]], c=[answers[2]])
    await ask(made)

    assert [answer.times_closed for answer in answers] == [1, 1, 1]
    assert made.is_idle


async def test_an_id_of_any_length_is_asked_for_as_it_is() -> None:
    """Azure's are about sixty characters; the address takes 128."""
    name = "resp_" + "a" * 123
    made = three(a=[json_answer(200, json.dumps({"id": name}).encode()), found()])
    await create(made)
    await ask(made, path=f"{V1_RESPONSES_PATH}/{name}")

    assert made.front_door.instance.background.owners.of(name) == Owner("a", "gpt")
    assert made.upstream.requests[1].url == f"https://a.example{V1_RESPONSES_PATH}/{name}"
