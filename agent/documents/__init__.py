"""The shape of every answer of the admin API, written once.

The agent fills these documents, and `agent.documents.codec` encodes them as JSON. The commands that ask a
running agent decode the same types. Nothing heavy is imported here, so that a command starts fast.

A document is the answer of one page, and its ``PATH`` is the page's. An entry is a part of a document.
"""
