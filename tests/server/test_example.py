"""The example of the README: two agents on one machine."""

import re
import subprocess
from pathlib import Path

_SCRIPT = Path(__file__).parents[2] / "docs/examples/two-agents.sh"


def test_example_fetches_a_blob_from_the_other_agent_and_leaves_nothing() -> None:
    done = subprocess.run([str(_SCRIPT)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Shorthaul-Source: node=a; tier=zone; " in done.stdout
    digests = re.findall(r"sha256:[0-9a-f]{64}", done.stdout)
    assert len(set(digests)) == 1, "what arrived is what was asked for"
    assert "choice: a" in done.stdout
    assert done.stderr == ""
