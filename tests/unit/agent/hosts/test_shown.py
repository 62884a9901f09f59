"""A change as a person reads it, without secrets."""

import pytest

from agent.hosts.merge import merge
from agent.hosts.shown import diff
from tests.unit.agent.hosts.texts import MIRROR


def test_a_diff_says_what_comes_and_what_goes() -> None:
    text = diff("/a", b"one\ntwo\n", b"one\n2\n")
    assert text == "--- /a\n+++ /a\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n"
    assert diff("/a", None, b"x\n").startswith("--- /dev/null\n+++ /a\n")
    assert diff("/a", b"x\n", None).startswith("--- /a\n+++ /dev/null\n")
    assert diff("/a", b"x", b"x") == ""


def test_a_missing_last_newline_is_said() -> None:
    assert "\\ No newline at end of file" in diff("/a", b"x", b"x\n")


@pytest.mark.parametrize(
    "secret",
    [
        '[host."http://m".header]\n  authorization = "Basic c2VjcmV0=="\n  x = ["secret", "secret"]\n',
        '[host."http://m"]\nheader = {authorization = "secret"}\n',
        '[host."http://m"]\nheader.authorization = "secret"\n',
        '[header]\nauthorization = """\nsecret\n"""\n',
        "[host.'http://m'.'header'] # secretless\nauthorization = 'secret'\n",
        'host."http://m".header.authorization = "secret"\n',
        '[host."http://m"]\nheader.authorization = [\n  "secret",\n]\n',
        '[host."http://m"]\nheader = {authorization = [\n  "a", # b\n  "secret"]}\n',
        '[host."http://m".header]\nauthorization = """\n[no.table]\nsecret\n"""\n',
        '[host."http://m"]\n  # header.authorization = "secret"\n',
        '[host."http://m".header]\n# authorization = "secret"\n',
        '[host."http://m"]\nheader.x = [\n' + '  "secret",\n' * 200 + "]\n",
    ],
)
def test_what_a_header_holds_is_not_shown(secret: str) -> None:
    text = diff("/a", secret.encode(), merge(secret, MIRROR).text.encode())
    assert "secret" not in text.replace("secretless", "")
    assert "c2VjcmV0" not in text
    assert "127.0.0.1:30020" in text


def test_what_follows_a_hidden_value_is_shown() -> None:
    before = b'[host.a]\nheader.x = [\n  "secret",\n]\nskip_verify = true\n'
    text = diff("/a", before, before + b"new = 1\n")
    assert "secret" not in text
    assert " skip_verify = true\n+new = 1\n" in text


def test_change_of_what_is_not_shown_is_said() -> None:
    old, new = (f'[host.a.header]\nAuthorization = ["Bearer {each}"]\n'.encode() for each in ("a1", "b2"))
    text = diff("/a", old, new)
    assert "only what is not shown here changes" in text
    assert "a1" not in text
    assert "b2" not in text
