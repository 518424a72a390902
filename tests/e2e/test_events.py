"""Events on the hub, and the aggregator's handling of garbage and duplicates."""

import json
import threading
from collections.abc import Iterable
from typing import Any, cast

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient

from meter.adapters.clients import hub_trust
from tests.support.running import RunningStack, eventually, new_subject, run_local

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}


def _read_along(stack: RunningStack, enough: int, wanted: str) -> list[tuple[str, EventData, Any]]:
    """The (partition, message, event) of a subject, read through the audit consumer group."""
    found: list[tuple[str, EventData, Any]] = []
    consumer = EventHubConsumerClient.from_connection_string(
        stack.description["event_hub_connection_string"],
        consumer_group="audit",
        eventhub_name=stack.description["event_hub_name"],
        ssl_context=hub_trust(),
    )

    def on_event(partition: Any, message: EventData) -> None:
        try:
            document = json.loads(b"".join(cast(Iterable[bytes], message.body)))
        except ValueError:
            return  # other tests send garbage on purpose
        for event in document if isinstance(document, list) else [document]:
            if isinstance(event, dict) and event.get("subject") == wanted:
                found.append((partition.partition_id, message, event))

    thread = threading.Thread(
        target=consumer.receive, args=(on_event,), kwargs={"starting_position": "-1"}
    )
    thread.start()
    try:
        eventually(lambda: len(found) >= enough, f"{enough} events of {wanted} on the hub")
    finally:
        consumer.close()
        thread.join()
    return found


def _send(stack: RunningStack, *bodies: bytes) -> None:
    producer = EventHubProducerClient.from_connection_string(
        stack.description["event_hub_connection_string"],
        eventhub_name=stack.description["event_hub_name"],
        ssl_context=hub_trust(),
    )
    with producer:
        batch = producer.create_batch(partition_id="0")
        for body in bodies:
            batch.add(EventData(body))
        producer.send_batch(batch)


def test_each_call_is_one_complete_event_in_its_subjects_partition(stack: RunningStack) -> None:
    """CloudEvents batches with every field, all of a subject in one hub partition."""
    subject = new_subject("events")
    token = stack.token(subject)
    answers = [
        stack.post(CHAT, token, BODY, headers={"x-stainless-retry-count": "2"}) for _ in range(3)
    ]
    found = _read_along(stack, 3, subject)

    ids = [answer.headers["x-meter-event-id"] for answer in answers]
    assert [event["id"] for _, _, event in found] == ids
    assert len({partition for partition, _, _ in found}) == 1
    assert {message.content_type for _, message, _ in found} == {
        "application/cloudevents-batch+json"
    }
    event = found[0][2]
    assert event["type"] == "aoai.meter.usage.v1"
    assert event["data"]["usage"]["total_tokens"] == answers[0].json()["usage"]["total_tokens"]
    assert event["data"]["client_retry_count"] == 2
    assert event["data"]["principal"]["object_id"]
    assert set(event["data"]) == {
        *("principal", "operation", "deployment", "model", "api_version", "backend", "tier"),
        *("region", "deployment_type", "service_tier", "context", "tool_usage"),
        *("spilled_from", "outcome", "status", "streaming", "usage", "usage_source", "usage_raw"),
        *("attempts", "started_at", "duration_ms", "time_to_first_byte_ms", "client_retry_count"),
    }


def test_garbage_is_kept_as_dead_letters_and_its_neighbours_are_counted(
    stack: RunningStack,
) -> None:
    """Garbage never stops a partition: it is kept with a reason, and the rest of the batch counts."""
    subject = new_subject("poison")
    stack.post(CHAT, stack.token(subject), BODY).raise_for_status()
    [(_, _, good)] = _read_along(stack, 1, subject)
    twin = {**good, "id": "01a00000-0000-7000-8000-000000000001", "subject": subject + "-twin"}
    bad = {**good, "data": {**good["data"], "status": "200"}}

    _send(
        stack,
        b"\xff not json",
        json.dumps([bad, twin, 17]).encode(),
        json.dumps({**twin, "type": "unknown"}).encode(),
    )

    [row] = stack.wait_until_counted(subject + "-twin", 1)
    assert row["Calls"].value == 1
    eventually(lambda: len(stack.rows("DeadLetters")) >= 4, "four dead letters")
    reasons = {row["Reason"] for row in stack.rows("DeadLetters")}
    assert reasons >= {"not-json", "invalid-field", "not-an-event", "unknown-type"}


def test_a_replayed_event_changes_nothing(stack: RunningStack) -> None:
    """A hundred copies of an event, alone and in batches, leave the sums unchanged."""
    subject = new_subject("replay")
    stack.post(CHAT, stack.token(subject), BODY).raise_for_status()
    [before] = stack.wait_until_counted(subject, 1)
    [(_, _, event)] = _read_along(stack, 1, subject)
    marker = {**event, "id": "01a00000-0000-7000-8000-000000000002", "subject": subject + "-end"}

    _send(
        stack,
        *[json.dumps(event).encode()] * 50,
        json.dumps([event] * 50).encode(),
        json.dumps(marker).encode(),
    )
    stack.wait_until_counted(subject + "-end", 1)

    [after] = stack.usage(subject)
    assert dict(after) == dict(before)


def test_the_report_command_reads_a_running_stack(stack: RunningStack) -> None:
    """`eval $(python -m local env)` and `python -m meter report` are all an analyst needs."""
    exports = run_local("env", "--state", str(stack.state)).splitlines()

    assert {line.split("=")[0] for line in exports} >= {
        "export MeterStorage",
        "export EventHubConnection",
        "export METER_BACKENDS",
    }
