"""The images, built once from this checkout."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import image
from tools.image import Built


@pytest.fixture(scope="session")
def built() -> Iterator[dict[str, Built]]:
    """Both images, by target."""
    if os.geteuid() != 0:
        pytest.fail("building images needs root: run `make test` as root")
    with tempfile.TemporaryDirectory(prefix="shorthaul-image-") as name:
        yield dict(zip(image.TARGETS, image.build(image.TARGETS, Path(name)), strict=True))
