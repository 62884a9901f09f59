"""What an error means, in words, and that no words have a password or a key."""

import errno
import socket
import ssl

import pytest

from agent.holders.valkey.trouble import (
    IndexDown,
    Refused,
    clipped,
    of_connecting,
    of_garbage,
    of_mode,
    of_reply,
)
from agent.observe.index_metrics import IndexTrouble

SERVER_WIDE = [
    ("OOM command not allowed when used memory > 'maxmemory'.", IndexTrouble.FULL, "maxmemory"),
    ("ERR Error running script: -OOM command not allowed when", IndexTrouble.FULL, "maxmemory"),
    ("MISCONF Redis is configured to save RDB snapshots", IndexTrouble.FULL, "disk"),
    ("NOREPLICAS Not enough good replicas to write.", IndexTrouble.FULL, "replicas"),
    ("READONLY You can't write against a read only replica.", IndexTrouble.READ_ONLY, "replica"),
    ("LOADING Redis is loading the dataset in memory", IndexTrouble.NOT_READY, "loading"),
    ("BUSY Redis is busy running a script.", IndexTrouble.NOT_READY, "busy"),
    ("MASTERDOWN Link with MASTER is down", IndexTrouble.NOT_READY, "lost its primary"),
    ("CLUSTERDOWN Hash slot not served", IndexTrouble.NOT_READY, "slots"),
    ("NOPERM User a has no permissions to run the 'get' command", IndexTrouble.DENIED, "may not run GET"),
    ("WRONGPASS invalid username-password pair", IndexTrouble.DENIED, "password"),
    ("NOAUTH Authentication required.", IndexTrouble.DENIED, "password"),
    ("DENIED Redis is running in protected mode", IndexTrouble.DENIED, "protected mode"),
    ("ERR max number of clients reached", IndexTrouble.NOT_READY, "maxclients"),
    ("ERR unknown command 'HELLO', with args beginning with: '3'", IndexTrouble.OTHER, "RESP3"),
    ("NOPROTO unsupported protocol version", IndexTrouble.OTHER, "RESP3"),
    ("ERR DB index is out of range", IndexTrouble.OTHER, "database"),
    ("ERR This instance has cluster support disabled", IndexTrouble.OTHER, "no Cluster"),
    ("CROSSSLOT Keys in request don't hash to the same slot", IndexTrouble.OTHER, "is a Cluster"),
]


@pytest.mark.parametrize(("text", "kind", "word"), SERVER_WIDE)
def test_error_about_the_server_as_a_whole_is_told_in_words_with_what_to_do(
    text: str, kind: IndexTrouble, word: str
) -> None:
    trouble = of_reply(text, "GET")
    assert trouble is not None
    assert trouble.kind is kind
    assert word in trouble.words
    assert trouble.hint
    assert trouble.leaves_reads == (kind is IndexTrouble.FULL)


@pytest.mark.parametrize(
    "text",
    [
        "WRONGTYPE Operation against a key",
        "NOSCRIPT No matching script",
        "ERR syntax error",
        "EXECABORT x",
        "",
    ],
)
def test_error_about_one_command_says_nothing_of_the_server(text: str) -> None:
    assert of_reply(text) is None
    assert Refused(text).code == text.partition(" ")[0]


@pytest.mark.parametrize("text", ["MOVED 12 10.0.0.1:6379", "ASK 12 10.0.0.1:6379", "TRYAGAIN Multiple keys"])
def test_slot_that_moves_is_about_this_question_alone(text: str) -> None:
    trouble = of_reply(text)
    assert trouble is not None
    assert trouble.passes


def test_full_server_passes_no_judgement_on_a_question() -> None:
    trouble = of_reply("OOM")
    assert trouble is not None
    assert not trouble.passes


CONNECTING = [
    (socket.gaierror(-2, "Name or service not known"), IndexTrouble.UNREACHABLE, "looked up"),
    (TimeoutError(), IndexTrouble.UNREACHABLE, "in time"),
    (OSError(errno.EMFILE, "Too many open files"), IndexTrouble.UNREACHABLE, "this node can't open"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), IndexTrouble.UNREACHABLE, "refused"),
    (OSError(), IndexTrouble.UNREACHABLE, "closed"),
    (
        ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"),
        IndexTrouble.TLS,
        "no TLS with h:1",
    ),
    (ssl.SSLEOFError(8, "EOF occurred"), IndexTrouble.TLS, "closed the connection"),
    (ValueError("x"), IndexTrouble.GARBAGE, "no Valkey"),
    (IndexDown(IndexTrouble.DENIED, "w", "h"), IndexTrouble.DENIED, "w"),
]


@pytest.mark.parametrize(("error", "kind", "word"), CONNECTING)
def test_why_there_is_no_connection_is_told_in_words(
    error: BaseException, kind: IndexTrouble, word: str
) -> None:
    trouble = of_connecting(error, "h:1")
    assert trouble.kind is kind
    assert word in trouble.words
    assert trouble.hint


@pytest.mark.parametrize("mode", ["cluster", "sentinel", "standalone", "x\x1b"])
def test_server_that_is_not_run_as_the_url_says_is_told_with_what_to_write(mode: str) -> None:
    trouble = of_mode("h:1", mode)
    assert trouble.kind is IndexTrouble.OTHER
    assert trouble.words.startswith("h:1 is ")
    assert "\x1b" not in trouble.words
    assert trouble.hint


def test_what_a_stranger_says_is_shown_in_one_short_printable_line() -> None:
    assert clipped("a\r\n\x1b[31mb" + "x" * 500).startswith("a [31mbxxx")
    assert len(clipped("x" * 500)) < 200
    assert "\x1b" not in of_garbage("\x1b[2J").words
