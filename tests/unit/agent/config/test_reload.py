"""Settings are read again: what can change at once is used, the rest is told, mistakes change nothing."""

import pytest

from agent.config import Settings
from agent.config.load import ConfigError, Problem
from agent.config.reload import SettingsReload
from agent.observe.reloads import Reloads
from tests.unit.agent.config.test_changes import settings


class Reloading:
    """Settings that are read again, and what is used of them."""

    def __init__(self) -> None:
        self.next: Settings | ConfigError = settings()
        self.used: list[tuple[str, ...]] = []
        self.results: list[str] = []
        self.reloading = SettingsReload(
            settings(), self._read, Reloads(lambda _what, result: self.results.append(result))
        )
        self.reloading.on(
            ["tags.exclude", "tags.resolve_latest"], lambda new: self.used.append(new.tags.exclude)
        )

    def _read(self) -> Settings:
        if isinstance(self.next, ConfigError):
            raise self.next
        return self.next

    async def reload(self, following: Settings | ConfigError) -> None:
        self.next = following
        await self.reloading.reload()


async def test_what_can_change_is_used_once_for_each_change() -> None:
    reloading = Reloading()
    await reloading.reload(settings("tags.exclude=[rc]", "tags.resolve_latest=true"))
    await reloading.reload(settings("tags.exclude=[rc]", "tags.resolve_latest=true"))
    await reloading.reload(settings())
    assert reloading.used == [("*:rc",), ()]
    assert reloading.results == ["changed", "unchanged", "changed"]


async def test_mistake_keeps_the_old_settings_and_is_logged_with_its_hint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reloading = Reloading()
    await reloading.reload(ConfigError([Problem(key="tags", message="is wrong", hint="write it so")]))
    assert (reloading.used, reloading.results) == ([], ["failed"])
    assert "tags: is wrong (write it so)" in caplog.text
    await reloading.reload(settings("tags.exclude=[rc]"))
    assert reloading.used == [("*:rc",)]


async def test_what_needs_a_restart_is_told_each_time_and_not_used(caplog: pytest.LogCaptureFixture) -> None:
    reloading = Reloading()
    new = settings("tags.exclude=[rc]", "placement.zone=b", "log.level=debug")
    for _ in range(2):
        await reloading.reload(new)
    assert reloading.used == [("*:rc",)]
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["settings that only a restart changes: log.level, placement.zone"] * 2
