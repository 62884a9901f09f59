"""Logs on standard error: one line per event, as text for people or JSON for machines.

The fields of an event are passed in ``extra={"fields": {...}}``, so that both formats show the same facts.
"""

import json
import logging
import sys
import time
from typing import Any


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, message, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        event: dict[str, Any] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event.update(getattr(record, "fields", {}))
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return json.dumps(event, default=str)


class TextFormatter(logging.Formatter):
    """Time, level, message, then the fields as key=value. Empty fields are left out.

    A value with spaces or quotes is in quotes. What a terminal would obey is escaped: others choose names.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        fields = getattr(record, "fields", {})
        shown = "".join(f" {key}={_shown(value)}" for key, value in fields.items() if _is_told(value))
        line = f"{_timestamp(record)} {record.levelname:<7} {_printable(record.getMessage())}{shown}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(log_format: str, level: str) -> None:
    """Log to standard error from now on, as ``json`` or ``text``, from this level on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # The log lines do not show these, and each costs a system call or a walk through the stack.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def set_level(level: str) -> None:
    """Log from this level on."""
    logging.getLogger().setLevel(level.upper())


def _is_told(value: object) -> bool:
    return value is not None and value not in ("", (), [])


def _shown(value: object) -> str:
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, default=str)
    text = str(value)
    plain = text.isprintable() and not any(mark in text for mark in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


def _printable(text: str) -> str:
    """One line without escapes that a terminal obeys."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _timestamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z"
