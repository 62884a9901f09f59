"""A lab that is made as a whole, and removed as a whole whatever happens."""

from contextlib import ExitStack
from typing import Self

from benchmarks.lab.process import undisturbed


class Whole:
    """A context manager. What `_make` makes is removed in reverse order, also if it fails on the way."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process, and remove everything. Can't be interrupted."""
        with undisturbed():
            self._stack.close()

    def _make(self) -> None:
        """Make everything, and give its removal to ``_stack``."""
        raise NotImplementedError
