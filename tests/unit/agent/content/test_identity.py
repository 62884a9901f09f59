"""A store that was made anew in the place of another one is told from it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.config import ContainerdStore, OciLayoutStore
from agent.content.identity import store_identity

Store = ContainerdStore | OciLayoutStore
Make = Callable[[Path], tuple[Store, Path]]


def layout(root: Path) -> tuple[Store, Path]:
    return OciLayoutStore(directory=root), root / "blobs"


def containerd(root: Path) -> tuple[Store, Path]:
    store = ContainerdStore(socket=root / "sock", namespace="k8s.io", root=root)
    return store, root / "io.containerd.content.v1.content/blobs"


MAKERS = [layout, containerd]


@pytest.mark.parametrize("make", MAKERS)
def test_a_store_is_the_same_whatever_blobs_come_and_go(tmp_path: Path, make: Make) -> None:
    store, blobs = make(tmp_path)
    (blobs / "sha256").mkdir(parents=True)
    before = store_identity(store)
    (blobs / "sha256" / "a").write_bytes(b"a")
    (blobs / "sha256" / "a").unlink()
    assert store_identity(store) == before != ""


@pytest.mark.parametrize("make", MAKERS)
def test_a_store_that_was_made_anew_is_another_one(tmp_path: Path, make: Make) -> None:
    store, blobs = make(tmp_path)
    (blobs / "sha256").mkdir(parents=True)
    before = store_identity(store)
    shutil.rmtree(blobs)
    (blobs / "sha256").mkdir(parents=True)
    assert store_identity(store) not in ("", before)


def test_a_store_without_blobs_has_no_word_yet(tmp_path: Path) -> None:
    assert store_identity(OciLayoutStore(directory=tmp_path)) == ""
