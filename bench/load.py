"""Closed-loop load over keep-alive connections, and the CPU time a process uses under it."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: calls answered with 200, wall seconds, the server's CPU seconds, latencies."""

    calls: int
    seconds: float
    cpu_seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float

    @property
    def cpu_ms_a_call(self) -> float:
        """CPU milliseconds per call."""
        return self.cpu_seconds / self.calls * 1000


async def load(port: int, request: bytes, *, pid: int, connections: int, calls: int) -> Measured:
    """Send `calls` copies of the request over `connections`; raises on any status but 200."""
    latencies: list[float] = []
    left = iter(range(calls))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            begun = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - begun)
        writer.close()
        await writer.wait_closed()

    cpu, begun = cpu_seconds(pid), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(client())
    seconds = time.perf_counter() - begun
    latencies.sort()
    return Measured(
        calls=len(latencies),
        seconds=seconds,
        cpu_seconds=cpu_seconds(pid) - cpu,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p95_ms=latencies[len(latencies) * 95 // 100] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
    )


def cpu_seconds(pid: int) -> float:
    """CPU seconds a process has used, to the resolution of the system's clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
