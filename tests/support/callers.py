"""Callers who rank until they are told to stop, or until the port is closed, and count what became of each request."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections import Counter

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_PATIENCE_SECONDS = 30
_BODY = json.dumps({"user_id": "u1", "candidates": ["i1", "i2", "i3"]})


class Callers(threading.Thread):
    """Open-loop callers of POST /rank, every other request over a new connection, until they are told to stop."""

    def __init__(self, port: int, rate: float) -> None:
        super().__init__()
        self._port, self._rate, self._told = port, rate, threading.Event()
        self._idle: list[Connection] = []
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        asyncio.run(self._call())

    def stop(self) -> Counter[str]:
        """Wait for the last answers, and return how many requests met which fate."""
        self._told.set()
        self.join(2 * _PATIENCE_SECONDS)
        return self.seen

    async def _call(self) -> None:
        loop = asyncio.get_running_loop()
        due, number, asked = loop.time(), 0, set[asyncio.Task[None]]()
        while not self._told.is_set():
            await asyncio.sleep(due - loop.time())
            asked.add(loop.create_task(self._ask(number)))
            due, number = due + 1 / self._rate, number + 1
        await asyncio.gather(*asked)
        for _, writer in self._idle:
            writer.close()

    async def _ask(self, number: int) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                self.seen[await self._answer(number)] += 1
        except (OSError, EOFError) as error:  # EOF: closed without an answer
            self.seen[f"lost: {type(error).__name__}"] += 1

    async def _answer(self, number: int) -> str:
        reader, writer = await self._connection(is_new=number % 2 == 0)
        body = json.dumps({"user_id": f"u{number % 50}", "candidates": ["i1", "i2", "i3"]})
        head = f"POST /rank HTTP/1.1\r\nhost: ranker\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        writer.write(f"{head}\r\n\r\n{body}".encode())
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        if number % 2 == 0 or b"connection: close" in answer:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return answer[9:12].decode()

    async def _connection(self, *, is_new: bool) -> Connection:
        while self._idle and not is_new:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


class Caller(threading.Thread):
    """Ranks over and over, on one connection or on a new one each time, until the port is closed."""

    def __init__(self, port: int, *, keeps: bool) -> None:
        super().__init__()
        self._port, self._keeps = port, keeps
        self.seen: Counter[str] = Counter()

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while True:
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
                    connection.connect()
            except (ConnectionRefusedError, ConnectionResetError):  # the port closes just now: nothing was sent
                return
            try:
                connection.request("POST", "/rank", _BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                self.seen[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.seen[f"lost: {type(error).__name__}"] += 1
                connection = None
                continue
            if not self._keeps or answer.will_close:
                connection.close()
                connection = None


class KeptCallers(threading.Thread):
    """Callers with one connection each, which they keep and ask over and over, until they are told to stop."""

    def __init__(self, port: int, count: int) -> None:
        super().__init__()
        self._port, self._count, self._told = port, count, threading.Event()
        self.seen: Counter[str] = Counter()
        self.lost: set[int] = set()  # our port of each connection that ended without an answer

    def run(self) -> None:
        asyncio.run(self._call())

    def stop(self) -> None:
        """Wait for the last answers."""
        self._told.set()
        self.join(2 * _PATIENCE_SECONDS)

    async def _call(self) -> None:
        opening = (asyncio.open_connection("127.0.0.1", self._port) for _ in range(self._count))
        connections = await asyncio.gather(*opening)
        await asyncio.gather(*(self._keep(*connection) for connection in connections))

    async def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "POST /rank HTTP/1.1\r\nhost: ranker\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(_BODY)}\r\n\r\n{_BODY}".encode()
        try:
            while not self._told.is_set():
                writer.write(request)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(answer.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
                self.seen[answer[9:12].decode()] += 1
        except (OSError, EOFError):
            self.lost.add(writer.get_extra_info("sockname")[1])
        writer.close()
