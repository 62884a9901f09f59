"""A real Prometheus, Debian's, with the chart's rules."""

import contextlib
import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lab.process import LabError, Process
from tests.prometheus.scaling import INTERVAL_S

_PORT = 9099
_TIMEOUT_S = 20.0


class QueryFailed(Exception):
    """Prometheus refuses a query."""


class Prometheus:
    """It scrapes what it is told of. ``rules``: a file of rules as text. Its data is in ``folder``."""

    def __init__(self, folder: Path, address: str, rules: Mapping[str, Any]) -> None:
        self._url = f"http://{address}:{_PORT}"
        self._folder = folder
        self._targets = folder / "targets.json"
        self._write([])
        (folder / "rules.yaml").write_text(yaml.safe_dump(dict(rules)))
        (folder / "prometheus.yaml").write_text(
            yaml.safe_dump(
                {
                    "global": {
                        "scrape_interval": f"{INTERVAL_S}s",
                        "scrape_timeout": f"{INTERVAL_S}s",
                        "evaluation_interval": f"{INTERVAL_S}s",
                    },
                    "rule_files": [str(folder / "rules.yaml")],
                    "scrape_configs": [
                        {
                            "job_name": "shorthaul-metrics",
                            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                        }
                    ],
                }
            )
        )
        program = shutil.which("prometheus")
        if program is None:
            raise LabError("there is no prometheus: install Debian's package of that name")
        self._process = Process(
            [
                program,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}:{_PORT}",
                "--query.lookback-delta=3s",  # what is gone is gone soon: scrapes are a second apart
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            log=folder / "prometheus.log",
        )

    def wait(self) -> None:
        """Wait until it answers."""
        self._process.wait_until(self._is_ready, "prometheus")

    def stop(self) -> None:
        """End it."""
        self._process.kill()

    def scrape(self, targets: Mapping[str, str]) -> None:
        """Scrape these from now on. ``targets``: ``IP:PORT`` by the name of the node, as monitors give it."""
        self._write([{"targets": [address], "labels": {"node": name}} for name, address in targets.items()])

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """What an expression has now: each ``metric`` with its ``value``. Raises `QueryFailed`."""
        found: list[dict[str, Any]] = self._get("query", query=expr)["result"]
        return found

    def series(self, metric: str) -> list[dict[str, str]]:
        """The labels of all series of a metric."""
        found = self._get("series", **{"match[]": metric})
        assert isinstance(found, list)
        return found

    def exemplars(self, metric: str) -> list[dict[str, str]]:
        """The labels of all exemplars of a metric of the last hour."""
        now_s = time.time()
        found = self._get("query_exemplars", query=metric, start=f"{now_s - 3600}", end=f"{now_s + 60}")
        return [each["labels"] for series in found for each in series["exemplars"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts = self._get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts, as Alertmanager would get them."""
        found: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return found

    def unhealthy_rules(self) -> list[str]:
        """The rules whose last evaluation failed, with why."""
        groups = self._get("rules")["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] == "err"
        ]

    def _get(self, page: str, **parameters: str) -> Any:
        url = f"{self._url}/api/v1/{page}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise QueryFailed(error.read().decode(errors="replace")) from error

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self._url}/-/ready", timeout=2) as reply:
            return bool(reply.status == 200)
        return False

    def _write(self, targets: list[dict[str, Any]]) -> None:
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(targets))
        new.rename(self._targets)
