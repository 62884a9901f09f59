"""SIGHUP: the probe reads its settings again, changes its log level, and is never ended by it."""

import signal

import yaml

from tests.server.agents import wait_for

from .places import Place


def test_sighup_changes_the_log_level_keeps_it_over_a_broken_file_and_never_ends_the_probe(
    place: Place,
) -> None:
    probe = place.probe()
    good = yaml.safe_load(place.config.read_text())

    def hang_up(text: str, expected: str) -> None:
        place.config.write_text(text)
        before = probe.log.read_text().count(expected)
        probe.signal(signal.SIGHUP)
        wait_for(lambda: probe.log.read_text().count(expected) > before, expected)

    hang_up(yaml.safe_dump({**good, "index": "scatter"}), "settings read again: nothing changed")
    hang_up("[", "settings can't be used, the old state stays")
    hang_up(
        yaml.safe_dump({**good, "stop": {"drain_s": 1.0}}),
        "settings that only a restart changes: stop.drain_s",
    )
    hang_up(yaml.safe_dump({**good, "log": {"level": "warning"}}), "settings changed log.level=warning")
    hang_up("]", "settings can't be used, the old state stays")
    hang_up(yaml.safe_dump({**good, "log": {"level": "debug"}}), "settings changed log.level=debug")
    assert probe.log.read_text().count("SIGHUP: reading") == 4, "none while the level was warning"
    assert probe.running
    probe.signal(signal.SIGTERM)
    while probe.running:
        probe.signal(signal.SIGHUP)
    assert probe.kill() == 0
