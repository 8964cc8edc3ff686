"""A network that fails on demand, between a client and a server on this machine: a relay of TCP connections."""

import asyncio
import random
import threading


class BadNetwork:
    """Relays connections to `target`; what happens to them meanwhile is set at any time, from any thread.

    connections: how many were accepted so far. lost: bytes that were dropped.
    """

    def __init__(self, target, seed=0):
        self.connections = self.lost = 0
        self._target = target
        self._random = random.Random(seed)
        self._loss, self._jitter = 0.0, (0.0, 0.0)
        self._tasks, self._writers = set(), set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._silent = False
        self._server = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = self._do(self._listen(0))

    # --- what may go wrong ------------------------------------------------------------------------------------------

    def freeze(self):
        """Hold back every byte, of old and new connections, without closing anything: a half-open connection."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self):
        """Let flow again, what was held back first: a burst."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def lose(self, share):
        """Drop this share of the server's bytes, in pieces of 100 to 1000."""
        self._loss = share

    def delay(self, least, most):
        """Hold every piece back for a random time, in seconds; order is kept."""
        self._jitter = least, most

    def be_silent(self, silent=True):
        """Accept new connections, read, and never answer."""
        self._silent = silent

    def cut(self, reset=False):
        """End all connections, by FIN or RST."""
        self._do(self._cut(reset))

    def refuse(self):
        """End all connections and listen no more."""
        self._do(self._stop())

    def accept(self, target=None):
        """Listen again, perhaps for another server."""
        self._target = target or self._target
        self._do(self._listen(self.port))

    def close(self):
        """End it all."""
        self.refuse()
        self._do(self._last_words())
        self._loop.call_soon_threadsafe(self._loop.stop)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self, port):
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", port, reuse_address=True)
        return self._server.sockets[0].getsockname()[1]

    async def _stop(self):
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._cut(False)

    async def _last_words(self):
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cut(self, reset):
        for writer in self._writers:
            writer.transport.abort() if reset else writer.close()
        self._writers.clear()
        for task in self._tasks:
            task.cancel()

    async def _relay(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        self._writers.add(writer)
        there = None
        try:
            if self._silent:
                while await reader.read(1 << 16):
                    pass
                return
            back, there = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(there)
            await asyncio.gather(self._pump(reader, there, False), self._pump(back, writer, True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(asyncio.current_task())
            for end in filter(None, (writer, there)):
                self._writers.discard(end)
                end.close()

    async def _pump(self, reader, writer, bad):
        while data := await reader.read(1 << 16):
            await self._flowing.wait()
            if bad and self._jitter[1]:
                await asyncio.sleep(self._random.uniform(*self._jitter))
            writer.write(self._thin(data) if bad and self._loss else data)
            await writer.drain()
        writer.close()

    def _thin(self, data):
        kept, at = bytearray(), 0
        while at < len(data):
            piece = self._random.randint(100, 1000)
            if self._random.random() >= self._loss:
                kept += data[at : at + piece]
            else:
                self.lost += len(data[at : at + piece])
            at += piece
        return bytes(kept)
