"""A TCP proxy that makes a registry seem far away, and counts what is sent there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread


@dataclass
class Way:
    """The HOST:PORT where the way to a registry begins, and how many bytes have gone there so far."""

    host: str = ""
    sent: int = 0


@contextmanager
def far_away(host: str, seconds: float) -> Iterator[Way]:
    """Give a way by which a round trip to `host`, a connection's own included, takes `seconds` more."""
    way = Way()
    listening: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        connected = lambda *ends: _connection(host, seconds, way, *ends)  # noqa: E731
        async with await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512) as server:
            listening.set_result((asyncio.get_running_loop(), ended, server.sockets[0].getsockname()[1]))
            await ended.wait()

    thread = Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, ended, port = listening.result()
    try:
        way.host = f"localhost:{port}"
        yield way
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


async def _connection(
    host: str, seconds: float, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    name, _, port = host.rpartition(":")
    await asyncio.sleep(seconds)  # SYN, and its answer
    with suppress(OSError, asyncio.CancelledError):
        there, back = await asyncio.open_connection(name, int(port))
        await asyncio.gather(_pass_on(reader, back, seconds / 2, way), _pass_on(there, writer, seconds / 2, Way()))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float, way: Way) -> None:
    """Every piece arrives `delay` seconds after it was sent, and holds up no other."""
    now = asyncio.get_running_loop().time
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def arrive() -> None:
        data = b"any"
        while data:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0, due - now()))
            with suppress(OSError):
                if data:
                    writer.write(data)
                    await writer.drain()
                else:
                    writer.close()

    async def leave() -> None:
        data = b"any"
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            way.sent += len(data)
            on_the_way.put_nowait((now() + delay, data))

    await asyncio.gather(arrive(), leave())
