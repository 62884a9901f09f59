"""config.toml files, and the directory that each release of containerd reads by them.

The unit tests hold `agent.hosts.registry` against them; tests/e2e holds them against ``containerd config
dump``.
"""

from dataclasses import dataclass, field

ONE = '[plugins.cri.registry]\nconfig_path = "{0}"\n'
TWO = '[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "{0}"\n'
THREE = '[plugins."io.containerd.cri.v1.images".registry]\nconfig_path = "{0}"\n'
CGROUP = """\
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """``text``: config.toml, where ``DIR`` stands for its directory. ``imported``: files beside it by name.

    ``old``, ``new``: the config_path of 1.x and of 2.x; None: unset. ``discards``: discard_unpacked_layers of
    both. ``only``: the release that is meant to read it, if it is one.
    """

    text: str
    imported: dict[str, str] = field(default_factory=dict)
    old: str | None = None
    new: str | None = None
    discards: tuple[bool, bool] = (False, False)
    only: str = ""


CASES = {
    "nothing": Case(text=""),
    "version 1 by its short name": Case(text=ONE.format("/a"), old="/a"),
    "version 1 said": Case(text="version = 1\n" + ONE.format("/a"), old="/a"),
    "no version, and the names of 2": Case(text=TWO.format("/a")),
    "version 2": Case(text="version = 2\n" + TWO.format("/a"), old="/a", new="/a"),
    "version 2, and the name of 3": Case(text="version = 2\n" + THREE.format("/a"), new="/a"),
    "version 2, a list": Case(text="version = 2\n" + TWO.format("/a:/b"), old="/a:/b", new="/a:/b"),
    "version 3": Case(text="version = 3\n" + THREE.format("/a"), new="/a", only="2.x"),
    "version 3, and the name of 2": Case(text="version = 3\n" + TWO.format("/a"), only="2.x"),
    "discarded layers, as 1.x has it": Case(
        text="version = 2\n"
        '[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true\n',
        discards=(True, False),
    ),
    "discarded layers, as 2.x has it": Case(
        text='version = 3\n[plugins."io.containerd.cri.v1.images"]\ndiscard_unpacked_layers = true\n',
        discards=(False, True),
        only="2.x",
    ),
    "an import": Case(
        text='version = 2\nimports = ["DIR/conf.d/*.toml"]\n',
        imported={"conf.d/a.toml": "version = 2\n" + TWO.format("/a")},
        old="/a",
        new="/a",
    ),
    "an import without a version": Case(
        text='version = 2\nimports = ["DIR/conf.d/*.toml"]\n',
        imported={"conf.d/a.toml": TWO.format("/a")},
        old="/a",
        new="/a",
    ),
    "the last import counts": Case(
        text='version = 2\nimports = ["DIR/conf.d/*.toml"]\n' + TWO.format("/x"),
        imported={
            "conf.d/b.toml": "version = 2\n" + TWO.format("/b"),
            "conf.d/a.toml": "version = 2\n" + TWO.format("/a"),
        },
        old="/b",
        new="/b",
    ),
    "an import replaces the whole table in 1.x": Case(
        text='version = 2\nimports = ["DIR/other.toml"]\n' + TWO.format("/a"),
        imported={"other.toml": "version = 2\n" + CGROUP},
        new="/a",
    ),
    "an import of an import": Case(
        text='version = 2\nimports = ["DIR/one.toml"]\n',
        imported={
            "one.toml": 'version = 2\nimports = ["DIR/two.toml"]\n',
            "two.toml": "version = 2\n" + TWO.format("/a"),
        },
        old="/a",
        new="/a",
    ),
    "an import that means itself": Case(
        text='version = 2\nimports = ["DIR/config.toml"]\n' + TWO.format("/a"), old="/a", new="/a"
    ),
    "a file of version 2 for one of version 3": Case(
        text='version = 3\nimports = ["DIR/conf.d/*.toml"]\n',
        imported={"conf.d/a.toml": "version = 2\n" + TWO.format("/a")},
        new="/a",
        only="2.x",
    ),
}
