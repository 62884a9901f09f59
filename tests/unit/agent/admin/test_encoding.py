"""Documents as bytes: the same text as at once, in steps."""

import asyncio

from agent.admin.encoding import encoded
from agent.documents.codec import encode
from agent.documents.topology import ZoneEntry


async def test_bytes_are_the_text_that_is_made_at_once_without_line_breaks() -> None:
    document = (ZoneEntry(region="é\n", zone=None, nodes=3),)
    assert await encoded(document) == encode(document).encode()
    assert b"\n" not in await encoded(document)


async def test_other_tasks_run_while_a_large_document_is_encoded() -> None:
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            ran += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await encoded(tuple(ZoneEntry(region="r" * 100, zone="z", nodes=n) for n in range(5000)))
    task.cancel()
    assert ran > 5
