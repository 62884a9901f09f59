"""What Prometheus' own tool says of metrics that were scraped."""

import subprocess


def complaints(exposed: bytes) -> str:
    """What ``promtool check metrics`` finds wrong: the text format, or a convention. Empty: nothing."""
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed, capture_output=True, timeout=60, check=False
    )
    said = (done.stdout + done.stderr).decode().strip()
    return said if done.returncode == 0 else said or f"promtool ended with {done.returncode}"
