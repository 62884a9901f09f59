"""hosts.toml files as people and tools write them, made up by hypothesis."""

from hypothesis import strategies as st

from agent.config import Endpoint
from agent.hosts.mirror import Mirror

HOSTPORT = Endpoint(host="127.0.0.1", port=30020)
NODEPORT = Endpoint(host="192.168.60.1", port=30021)
MIRROR = Mirror(endpoints=(HOSTPORT, NODEPORT), dial_timeout="1s")
FIRST, SECOND = MIRROR.urls
CLOSED = Mirror(endpoints=(HOSTPORT, NODEPORT), dial_timeout="1s", token="s3cret-token", closed=(NODEPORT,))
"""The same with a token for the NodePort."""

_HOSTS = [
    "https://mirror.example",
    "http://10.0.0.9:5000",
    "https://registry-1.docker.io",
    "http://[fd00::9]:80",
]
_COMMENTS = ["# a comment", "#", '  # [host."http://x"]', "# >>> another tool >>>", "\t# tab", "# ü – ☃"]
_ROOT = [
    'server = "https://registry-1.docker.io"',
    "skip_verify = false",
    'ca = ["a.crt", "/etc/b.crt"] # both',
    'client = [\n  ["c.cert", "c.key"],\n  # [host."http://in.a.list"]\n  ["d.cert", ""],\n]',
    'note = """\n[host."http://in.a.string"]\n# >>> not ours\n"""',
    "text = '''\n# a\n[host.x]\n# b'''",
    'odd = {"host" = 1, x = nan}',
]
_KEYS = [
    'capabilities = ["pull"]',
    'capabilities = [\n    "pull",\n    "resolve",\n  ]',
    'ca = "x.crt"',
    "override_path = true",
    'header = {authorization = "Basic QUJD"}',
]


@st.composite
def owners_texts(draw: st.DrawFn) -> str:
    """The text of a valid hosts.toml without our part: any order, quoting, comments and line ends."""
    filler = st.lists(st.sampled_from([*_COMMENTS, "", "   "]), max_size=3)
    lines = draw(filler)
    for key in draw(st.lists(st.sampled_from(_ROOT), unique=True, max_size=4)):
        lines += [key, *draw(filler)]
    if draw(st.booleans()):
        lines += ["[header]", 'x-custom = ["a", "b"]', *draw(filler)]
    if draw(st.booleans()):
        lines += [draw(st.sampled_from(["[host]", " [ host ] # all of them"])), *draw(filler)]
    for url in draw(st.lists(st.sampled_from(_HOSTS), unique=True, max_size=4)):
        form = draw(
            st.sampled_from(["[host.{0}]", "  [host.{0}]", '[ "host" . {0} ]  # one', "['host'.{0}]"])
        )
        quote = draw(st.sampled_from("'\""))
        lines += [form.format(f"{quote}{url}{quote}"), *draw(filler)]
        lines += draw(st.lists(st.sampled_from(_KEYS), unique_by=lambda key: key.split()[0], max_size=3))
        if draw(st.booleans()) and not any(line.startswith("header") for line in lines[-3:]):
            lines += [f"[host.{quote}{url}{quote}.header]", 'authorization = "Bearer t0k3n"', *draw(filler)]
        lines += draw(filler)
    if draw(st.booleans()):
        lines += ["[other]", "[[other.list]]", "a = 1"]
    text = "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text
