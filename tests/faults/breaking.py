"""Every fault of the soak: each breaks the stage, waits a while and repairs it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from random import Random

from local.faults import Ending, Flow, RequestFault, Rules
from tests.faults.stage import Stage

type Breaking = Callable[[Stage, Random], Awaitable[None]]

BUSY = json.dumps({"odata.error": {"code": "ServerBusy", "message": {"value": "busy"}}})
BACKEND_FAULTS: tuple[Mapping[str, object], ...] = (
    {"status": 429, "headers": {"retry-after-ms": "300"}},
    {"status": 500},
    {"status": 503, "headers": {"retry-after": "1"}},
    {"reset": True},
    {"cut_after_bytes": 60},
    {"cut_after_bytes": 2_000, "chunk_delay_ms": 5},
)


async def storage_refuses_requests(stage: Stage, dice: Random) -> None:
    """503 to some requests and all their retries."""
    count = dice.randint(5, 40)
    fault = RequestFault(status=503, answer=BUSY, count=count, repeats=True)
    await _storage(stage, dice, Rules(requests=(fault,)))


async def storage_loses_answers(stage: Stage, dice: Random) -> None:
    """Writes are applied and their answers reset, with or without those of the retries."""
    fault = RequestFault(
        method="POST", applied=True, count=dice.randint(5, 40), repeats=dice.random() < 0.5
    )
    await _storage(stage, dice, Rules(requests=(fault,)))


async def storage_is_slow(stage: Stage, dice: Random) -> None:
    """20 to 150 ms each way."""
    flow = Flow(latency_ms=dice.randint(20, 150))
    await _storage(stage, dice, Rules(up=flow, down=flow))


async def storage_is_gone(stage: Stage, dice: Random) -> None:
    """Connections are refused."""
    await _storage(stage, dice, Rules(refuse=True))


async def storage_is_frozen(stage: Stage, dice: Random) -> None:
    """SIGSTOP, SIGCONT."""
    stage.storage.freeze()
    try:
        await _a_while(dice)
    finally:
        stage.storage.resume()


async def storage_restarts(stage: Stage, dice: Random) -> None:
    """SIGTERM, then a new process."""
    await asyncio.to_thread(stage.storage.stop)
    await _a_while(dice)
    await asyncio.to_thread(stage.storage.start)


async def hub_cuts_connections(stage: Stage, dice: Random) -> None:
    """Cut after some bytes, in either direction, by reset or close."""
    for _ in range(dice.randint(1, 4)):
        flow = Flow(end_after_bytes=dice.randrange(3_000), ending=dice.choice(list(Ending)))
        rules = Rules(up=flow, count=2) if dice.random() < 0.5 else Rules(down=flow, count=2)
        await stage.hub_proxy.put(rules)
        await asyncio.sleep(0.7)
    await stage.hub_proxy.clear()


async def hub_loses_acknowledgements(stage: Stage, dice: Random) -> None:
    """The connection drops after the hub has appended."""
    await _hub(stage, dice, Rules(drop_answers=True, count=dice.randint(1, 3)))


async def hub_is_busy(stage: Stage, dice: Random) -> None:
    """server-busy, for a moment or for longer than all retries."""
    await asyncio.to_thread(stage.hub.be_busy, dice.choice([1, 3, 1_000_000]))
    await _a_while(dice)
    await asyncio.to_thread(stage.hub.be_busy, 0)


async def hub_is_slow(stage: Stage, dice: Random) -> None:
    """20 to 150 ms each way."""
    flow = Flow(latency_ms=dice.randint(20, 150))
    await _hub(stage, dice, Rules(up=flow, down=flow))


async def hub_is_gone(stage: Stage, dice: Random) -> None:
    """Connections are refused."""
    await _hub(stage, dice, Rules(refuse=True))


async def hub_is_frozen(stage: Stage, dice: Random) -> None:
    """No byte is forwarded."""
    await _hub(stage, dice, Rules(freeze=True))


async def hub_is_killed(stage: Stage, dice: Random) -> None:
    """kill -9, then a new process on the same disk."""
    stage.hub.kill()
    await asyncio.sleep(dice.uniform(0, 2))
    await asyncio.to_thread(stage.hub.start)


async def worker_is_killed(stage: Stage, dice: Random) -> None:
    """kill -9 while calls are in progress."""
    await asyncio.sleep(dice.uniform(0, 0.5))
    await stage.kill_worker()


async def worker_is_killed_publishing(stage: Stage, dice: Random) -> None:
    """kill -9 while most calls wait for a slow hub."""
    flow = Flow(latency_ms=dice.randint(50, 150))
    await stage.hub_proxy.put(Rules(up=flow, down=flow))
    await _a_while(dice)
    await stage.kill_worker()
    await stage.hub_proxy.clear()


async def worker_is_killed_committing(stage: Stage, dice: Random) -> None:
    """kill -9 while transactions to a slow storage are in progress."""
    flow = Flow(latency_ms=dice.randint(50, 150))
    await stage.storage_proxy.put(Rules(up=flow, down=flow))
    await _a_while(dice)
    await stage.kill_worker()
    await stage.storage_proxy.clear()


async def backend_fails(stage: Stage, dice: Random) -> None:
    """One of the two throttles, fails, resets or breaks off in the middle."""
    fault = {**dice.choice(BACKEND_FAULTS), "count": dice.randint(1, 30)}
    await asyncio.to_thread(stage.stack.fault, fault, backend=dice.randrange(2))
    await _a_while(dice)
    await asyncio.to_thread(stage.stack.clear_faults)


BREAKINGS: tuple[Breaking, ...] = (
    storage_refuses_requests,
    storage_loses_answers,
    storage_is_slow,
    storage_is_gone,
    storage_is_frozen,
    storage_restarts,
    hub_cuts_connections,
    hub_loses_acknowledgements,
    hub_is_busy,
    hub_is_slow,
    hub_is_gone,
    hub_is_frozen,
    hub_is_killed,
    worker_is_killed,
    worker_is_killed_publishing,
    worker_is_killed_committing,
    backend_fails,
)


async def _storage(stage: Stage, dice: Random, rules: Rules) -> None:
    await stage.storage_proxy.put(rules)
    await _a_while(dice)
    await stage.storage_proxy.clear()


async def _hub(stage: Stage, dice: Random, rules: Rules) -> None:
    await stage.hub_proxy.put(rules)
    await _a_while(dice)
    await stage.hub_proxy.clear()


async def _a_while(dice: Random) -> None:
    await asyncio.sleep(dice.uniform(0.5, 4))
