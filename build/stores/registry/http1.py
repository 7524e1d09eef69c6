"""HTTP/1.1 over one connection (RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import h11

from build.stores.registry.faults import Answer, CutShortError, TooLargeError
from build.stores.registry.wire import Wire

# Seconds that a piece, of the request or the answer, may take.
_STALLED = 60
# Bytes of a request that are such a piece.
_PIECE = 1 << 20
# Bytes of an answer's status and headers.
_LARGEST_HEAD = 1 << 16


class Connection:
    """One exchange after another, as long as it `may_stay`; after an exception it is of no more use."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.may_stay = True
        self._http = h11.Connection(h11.CLIENT, _LARGEST_HEAD)

    async def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, most: int
    ) -> Answer:
        """The answer to a request, with at most `most` bytes of body.

        Raises OSError if the connection fails, TimeoutError if it stalls, CutShortError for an answer that ends too
        early, h11.RemoteProtocolError for what is no HTTP, and TooLargeError for a larger body.
        """
        sized = {} if body is None else {"Content-Length": str(len(body))}
        head = self._http.send(h11.Request(method=method, target=target, headers=[*headers.items(), *sized.items()]))
        if body:
            self._http.send(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        with suppress(BrokenPipeError, ConnectionResetError):  # who hangs up while we speak may have answered
            await self._send(head or b"", body or b"")
        answer = await self._answer(most)
        states = {self._http.our_state, self._http.their_state}
        self.may_stay = self.may_stay and states == {h11.DONE} and not self._http.trailing_data[0]
        if self.may_stay:
            self._http.start_next_cycle()
        return answer

    async def _send(self, head: bytes, body: bytes) -> None:
        first, rest = (head + body, b"") if len(body) < _PIECE else (head, body)
        for piece in (first, *(rest[start : start + _PIECE] for start in range(0, len(rest), _PIECE))):
            async with asyncio.timeout(_STALLED):
                await self.wire.send(piece)

    async def _answer(self, most: int) -> Answer:
        response: h11.Response | None = None
        body = bytearray()
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > most:
                    raise TooLargeError
            elif response and not isinstance(event, h11.InformationalResponse):
                headers: dict[str, str] = {}
                for name, value in response.headers:
                    key, text = name.decode("ascii"), value.decode("latin-1")
                    headers[key] = f"{headers[key]}, {text}" if key in headers else text  # RFC 9110, 5.3
                return Answer(response.status_code, response.reason.decode("latin-1"), headers, bytes(body))

    async def _event(self) -> h11.Event | None:
        """What comes next of an answer; None after a CONNECT's, as what follows is not HTTP."""
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self.may_stay:
                    raise
                raise CutShortError from error
            if event is not h11.NEED_DATA:
                return event if isinstance(event, h11.Event) else None
            async with asyncio.timeout(_STALLED):
                data = await self.wire.receive()
            self.may_stay = bool(data)
            self._http.receive_data(data)
