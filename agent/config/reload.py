"""Reads the settings again while the process runs, and uses what can change without a restart."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from agent.config.changes import adopted, changed_keys
from agent.config.load import ConfigError
from agent.config.settings import Settings
from agent.observe.reloads import Reloads, first_names

_log = logging.getLogger("shorthaul")


class SettingsReload:
    """The settings in force. ``read``: reads them anew, and raises `ConfigError`; it may block."""

    def __init__(self, settings: Settings, read: Callable[[], Settings], reloads: Reloads) -> None:
        self._settings = settings
        self._read = read
        self._reloads = reloads
        self._live: dict[str, Callable[[Settings], None]] = {}

    def on(self, keys: Sequence[str], use: Callable[[Settings], None]) -> None:
        """Call ``use`` with the new settings if one of these keys changed. It must not fail."""
        self._live |= dict.fromkeys(keys, use)

    async def reload(self) -> None:
        """Read the settings again. If they have mistakes, those in force stay. Logs and counts the result.

        What needs a restart is told each time, until it happens.
        """
        try:
            new = await asyncio.to_thread(self._read)
        except ConfigError as error:
            mistakes = [str(problem) for problem in error.problems]
            self._reloads.failed("settings", mistakes, "correct the file, then send SIGHUP again")
            return
        changed = dict(changed_keys(self._settings, new))
        live = {key: value for key, value in changed.items() if key in self._live}
        self._settings = adopted(self._settings, new, live)
        was_shown = _log.isEnabledFor(logging.INFO)  # the level of the log may be what changes
        if was_shown:
            self._tell(live)
        for use in dict.fromkeys(self._live[key] for key in live):
            use(self._settings)
        if not was_shown:
            self._tell(live)
        if waiting := changed.keys() - live.keys():
            _log.warning(
                "settings that only a restart changes: %s",
                first_names(waiting),
                extra={"fields": {"hint": "restart to use them"}},
            )

    def _tell(self, live: Mapping[str, object]) -> None:
        if live:
            self._reloads.changed("settings", {key: _shown(value) for key, value in live.items()})
        else:
            self._reloads.unchanged("settings")


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)
