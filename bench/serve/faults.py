"""What a server withstands, with figures: idle connections, slow clients, bodies too large, damaged pictures, a full queue,
SIGTERM under load, kill -9 and a restart. Needs Python alone.

    faults.py INCEPTION_BINARY MODEL WEIGHTS PICTURE [PART...]

Prints one JSON object; fails where a promise is broken, with the end of the server's log, which has a line for each request
and for each connection that ended in disorder. PARTs: idle slow large pictures queue stop restart, all of them if none is
named.
"""

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time

BINARY, MODEL, WEIGHTS, PICTURE = sys.argv[1:5]
PARTS = sys.argv[5:] or ["idle", "slow", "large", "pictures", "queue", "stop", "restart"]
DATA = open(PICTURE, "rb").read()
CLASSIFY = f"/v1/models/{MODEL}/classify"
FOUND = {}


class Server:
    def __init__(self, *flags):
        self.begun = time.monotonic()
        command = [BINARY, "serve", "--model", f"{MODEL}={WEIGHTS}", "--http", "127.0.0.1:0", "--log", "json", *flags]
        self.log = tempfile.NamedTemporaryFile("r")
        self.process = subprocess.Popen(command, stderr=open(self.log.name, "w"))
        while True:
            line = self.log.readline()
            if line.startswith("{") and json.loads(line).get("message") == "ready":
                self.host, port = json.loads(line)["http"].split(":")
                self.port = int(port)
                break
            if not line and self.process.poll() is not None:
                raise SystemExit("it did not start")
            if not line:
                time.sleep(0.01)

    def end_of_log(self):
        # Reading what is left, not all of a long log.
        return self.log.read()[-6000:]

    def memory_mb(self):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024

    async def open(self):
        return await asyncio.open_connection(self.host, self.port)

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(90)


def request(body=DATA, path=CLASSIFY):
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def reply(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    return int(head[9:12]), head, await reader.readexactly(length)


async def ask(server, body=DATA):
    reader, writer = await server.open()
    writer.write(request(body))
    found = await reply(reader)
    writer.close()
    return found


async def idle(server, count):
    before = server.memory_mb()
    begun = time.monotonic()
    open_ones = []
    for _ in range(count):
        open_ones.append(await server.open())
    seconds = time.monotonic() - begun
    times = []
    for _ in range(20):
        begun = time.monotonic()
        assert (await ask(server))[0] == 200
        times.append(time.monotonic() - begun)
    FOUND["idle"] = {
        "connections": count,
        "seconds_to_open": round(seconds, 2),
        "kb_each": round((server.memory_mb() - before) * 1024 / count, 1),
        "median_answer_ms": round(sorted(times)[10] * 1e3, 1),
    }
    for reader, writer in open_ones[::500]:
        writer.write(request())
        assert (await reply(reader))[0] == 200
    for _, writer in open_ones:
        writer.close()


async def slow(server):
    """A byte a second, half a request, and closing early, 200 of each; others are answered meanwhile."""
    async def byte_a_second():
        reader, writer = await server.open()
        try:
            for byte in request():
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    begun = [asyncio.create_task(byte_a_second()) for _ in range(200)]
    halves = [await server.open() for _ in range(200)]
    for _, writer in halves:
        writer.write(request()[: len(DATA) // 2])
    for _ in range(200):
        _, writer = await server.open()
        writer.write(request())
        writer.close()
    times = []
    for _ in range(50):
        start = time.monotonic()
        assert (await ask(server))[0] == 200
        times.append(time.monotonic() - start)
    FOUND["slow_half_and_leaving_clients"] = {"of_each": 200, "median_answer_ms": round(sorted(times)[25] * 1e3, 1)}
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)
    for _, writer in halves:
        writer.close()


async def large(server):
    reader, writer = await server.open()
    writer.write(f"POST {CLASSIFY} HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 40}\r\n\r\n".encode())
    status, _, _ = await reply(reader)
    assert status == 413, status
    assert (await ask(server, bytes(20 << 20)))[0] == 413
    # Many of the largest that are allowed, at once.
    before = server.memory_mb()
    statuses = [status for status, _, _ in await asyncio.gather(*[ask(server, bytes(16 << 20)) for _ in range(64)])]
    # What does not fit at the same time is refused, and costs those that fit nothing.
    assert set(statuses) <= {400, 503} and statuses.count(400) >= 16, statuses
    FOUND["too_large"] = {
        "answer": 413,
        "64_bodies_of_16_mb": {str(status): statuses.count(status) for status in set(statuses)},
        "memory_mb_before_and_after": [round(before), round(server.memory_mb())],
    }


def damaged(numbers, data):
    data = bytearray(data)
    for _ in range(numbers.randrange(1, 9)):
        at = numbers.randrange(len(data)) if data else 0
        kind = numbers.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + 8]
        elif kind == 2:
            data[at : at + 4] = numbers.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
        elif data:
            data[at] = numbers.randrange(256)
    return bytes(data)


async def pictures(server, seeds, count):
    """As many damaged pictures, twice: what memory the first time took is what the second time has."""
    numbers = random.Random(1)
    memory, statuses = [server.memory_mb()], {}
    for turn in range(2):
        async def some(share):
            reader, writer = await server.open()
            for _ in range(share):
                writer.write(request(damaged(numbers, numbers.choice(seeds))))
                status, _, _ = await reply(reader)
                statuses[status] = statuses.get(status, 0) + 1
            writer.close()

        await asyncio.gather(*[some(count // 8) for _ in range(8)])
        memory.append(server.memory_mb())
    assert set(statuses) <= {200, 400}, statuses
    FOUND["damaged_pictures"] = {"pictures": 2 * count, "answers": statuses, "memory_mb": [round(m) for m in memory]}
    assert memory[2] < memory[1] * 1.2 + 20, memory


async def full_queue(server):
    replies = await asyncio.gather(*[ask(server) for _ in range(400)])
    statuses = [status for status, _, _ in replies]
    assert set(statuses) == {200, 503}, set(statuses)
    assert all("retry-after" in head for status, head, _ in replies if status == 503)
    FOUND["full_queue"] = {"answers": {str(status): statuses.count(status) for status in set(statuses)}}


async def stop_under_load(server):
    counts = {"answered": 0, "refused_connections": 0, "lost": 0}

    async def client():
        while True:
            try:
                reader, writer = await server.open()
            except ConnectionError:
                counts["refused_connections"] += 1
                return
            while True:
                try:
                    writer.write(request())
                    status, head, _ = await reply(reader)
                except (ConnectionError, asyncio.IncompleteReadError):
                    counts["lost"] += 1
                    break
                assert status == 200, status
                counts["answered"] += 1
                if "connection: close" in head:
                    break
            writer.close()

    clients = [asyncio.create_task(client()) for _ in range(16)]
    await asyncio.sleep(1)
    begun = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*clients)
    assert await asyncio.to_thread(server.process.wait, 60) == 0
    counts["seconds_to_stop"] = round(time.monotonic() - begun, 2)
    FOUND["sigterm_under_load"] = counts
    assert counts["lost"] == 0, counts


async def restart():
    times = []
    for _ in range(3):
        server = Server()
        assert (await ask(server))[0] == 200
        times.append(round(time.monotonic() - server.begun, 2))
        server.stop(signal.SIGKILL)
    FOUND["kill_9_and_restart"] = {"seconds_to_first_answer": times}
    assert max(times) < 2, times


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = os.path.join(os.path.dirname(__file__), "../../tests/goldens/preprocess")
    paths = [os.path.join(at, name) for at, _, names in os.walk(folder) for name in sorted(names)]
    ends = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
    seeds = [open(path, "rb").read() for path in sorted(paths) if path.endswith(ends)]
    seeds = [seed for seed in seeds if 0 < len(seed) < 20_000]

    async def all_of_them():
        server = Server("--log-level", "debug")
        parts = {
            "idle": lambda: idle(server, min(10_000, hard - 100)),
            "slow": lambda: slow(server),
            "large": lambda: large(server),
            "pictures": lambda: pictures(server, seeds, 10_000),
            "queue": lambda: full_queue(server),
            "stop": lambda: stop_under_load(server),
        }
        try:
            for name, part in parts.items():
                if name in PARTS:
                    await part()
                    assert name == "stop" or server.process.poll() is None
        except BaseException:
            print(server.end_of_log(), file=sys.stderr)
            raise
        finally:
            if server.process.poll() is None:
                server.stop(signal.SIGKILL)
        if "restart" in PARTS:
            await restart()

    try:
        asyncio.run(all_of_them())
    finally:
        print(json.dumps(FOUND, indent=1))


if __name__ == "__main__":
    main()
