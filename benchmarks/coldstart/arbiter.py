"""What it costs an arbiter of claims when a thousand nodes ask it for one content within a second.

    python -m benchmarks.coldstart.arbiter [NODES]

Messages are decoded and encoded as they are on the wire; the sockets are left out. Prints the processor time
and the memory while all wait, and what it takes until all are answered.
"""

import asyncio
import gc
import sys
import time
import tracemalloc

from agent.holders.claimdesk import ClaimDesk
from agent.holders.claims import Ask, ClaimBook, ClaimKey, Renewed
from agent.holders.claimwire import ClaimCall
from agent.holders.wire import Question, Reply, decode_question, encode_question, encode_reply
from agent.oci.digest import Digest
from topology.placement import NodeName

KEY = ClaimKey(Digest("sha256:" + "1" * 64))


async def answer(desk: ClaimDesk, number: int, message: bytes) -> bytes:
    """The reply to a message, as the desk for questions gives it."""
    _, question = decode_question(message)
    assert question.claims is not None
    return encode_reply(number, question, Reply(claims=await desk.answer(question.claims)))


async def measure(nodes: int) -> None:
    """Let so many nodes ask, and print what it took."""
    desk = ClaimDesk(ClaimBook(start_s=5.0))
    names = [NodeName(f"node-{number}.example") for number in range(nodes + 1)]
    asks = [
        encode_question(
            number, Question(claims=ClaimCall(node=name, ask=Ask(key=KEY, node=name), wait_s=10.0))
        )
        for number, name in enumerate(names)
    ]
    await answer(desk, 0, asks[0])
    gc.collect()
    tracemalloc.start()
    before_bytes, _ = tracemalloc.get_traced_memory()
    waiting = [asyncio.create_task(answer(desk, number, asks[number])) for number in range(1, nodes + 1)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert desk.book.waiting == nodes, desk.book.waiting
    kept_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
    tracemalloc.stop()
    desk.close()
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    desk = ClaimDesk(ClaimBook(start_s=5.0))
    await answer(desk, 0, asks[0])
    began_s = time.process_time()
    waiting = [asyncio.create_task(answer(desk, number, asks[number])) for number in range(1, nodes + 1)]
    await asyncio.sleep(0.01)
    asked_s = time.process_time() - began_s
    began_s = time.process_time()
    told = ClaimCall(node=names[0], news=(Renewed(KEY, 1 << 20),))
    await answer(desk, 0, encode_question(0, Question(claims=told)))
    replies = await asyncio.gather(*waiting)
    told_s = time.process_time() - began_s
    assert all(b'"held"' in reply for reply in replies)
    desk.close()
    print(f"{nodes} nodes ask for one content: {1000 * asked_s:.0f} ms of processor time until all wait,")
    print(
        f"{1000 * told_s:.0f} ms until all are told whom to fetch from; {kept_bytes / 1e6:.1f} MB meanwhile"
    )


if __name__ == "__main__":
    asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
