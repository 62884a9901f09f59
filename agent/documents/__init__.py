"""What the agent tells of itself: the shape of every answer of the admin API, written once.

The agent fills these documents, and `agent.documents.codec` makes JSON of them. The commands that ask a
running agent decode the same types. Nothing here knows how an answer comes about, and nothing heavy is
imported, so that a command starts fast.

A document is what one page answers; its ``PATH`` names the page. An entry is a part of a document.
"""
