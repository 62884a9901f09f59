"""The options of ``shorthaul bench --cluster`` are there without what measures."""

import subprocess
import sys

from agent.cli.clusteroptions import NODES
from agent.cli.commands import make_parser

_NO_BENCHMARKS = """
import sys
sys.modules["benchmarks"] = None
from agent.cli.commands import make_parser
print(make_parser({named}).parse_args(["bench", "--cluster"]).nodes)
"""


def test_every_commands_help_and_that_of_bench_need_no_benchmarks() -> None:
    for named in ([], ["bench"]):
        text = _NO_BENCHMARKS.format(named=named)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
        assert (done.stdout.strip(), done.returncode) == (str(NODES), 0), done.stderr


def test_a_cluster_is_measured_only_if_it_is_asked_for() -> None:
    parsed = make_parser(["bench"]).parse_args(["bench"])
    assert not parsed.cluster
    assert not parsed.clean
    assert parsed.nodes == NODES
