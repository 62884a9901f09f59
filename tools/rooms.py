#!/usr/bin/env python3
"""The shape of the code in figures: rooms, largest modules and functions, arrows, who asks who the caller is.

    tools/rooms.py [DIRECTORY]    of this repository, or of another checkout of it

Needs only Python 3.11. Arrows are imports between rooms (packages of `agent`); one runs back up if its room
also depends on it, directly or by way of others, so that the two can only be understood together.
"""

import argparse
import ast
import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("agent", "bpf", "topology")
GENERATED = ("_pb2.py",)
ASKS_WHO = re.compile(
    r"""headers\.get\("User-Agent"|request\.remote|\.path\s+(?:is|is\s+not|in)\s+\(?RequestPath"""
    r"""|_path\s+(?:is|is\s+not)\s+RequestPath|is_agent\(|_is_own_containerd\(|listener\s+(?:is|is\s+not)\s+RequestPath"""
)
SHOWN = 10


def modules(root: Path) -> Iterator[Path]:
    """The Python modules of the product."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if not path.name.endswith(GENERATED):
                yield path.relative_to(root)


def room_of(path: Path) -> str:
    """The room that a module is in: a package, or a package of `agent`, or a module at its top."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:2]) if parts[0] == "agent" and len(parts) > 1 else parts[0]


def imports(tree: ast.Module) -> Iterator[str]:
    """The names of the modules that are imported when the program runs, not for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def functions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Each function's length in lines, and its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1, node.name


def reachable(arrows: dict[str, set[str]], start: str) -> set[str]:
    """The rooms that one depends on, directly or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for room in arrows[waiting.pop()] - found:
            found.add(room)
            waiting.append(room)
    return found


def main(root: Path) -> None:
    lines: dict[Path, int] = {}
    rooms: dict[str, list[int]] = defaultdict(list)
    arrows: dict[str, set[str]] = defaultdict(set)
    lengths: list[tuple[int, str]] = []
    asking: list[str] = []
    for path in modules(root):
        text = (root / path).read_text()
        tree = ast.parse(text)
        lines[path] = text.count("\n")
        rooms[room_of(path)].append(lines[path])
        for name in imports(tree):
            if name.partition(".")[0] in PACKAGES:
                target = room_of(Path(*name.split(".")).with_suffix(".py"))
                if target != room_of(path) and target != "agent":
                    arrows[room_of(path)].add(target)
        lengths += [(length, f"{path}:{name}") for length, name in functions(tree)]
        for number, line in enumerate(text.splitlines(), 1):
            if ASKS_WHO.search(line) and not line.lstrip().startswith(("def ", "async def ", "#")):
                asking.append(f"{path}:{number}")
    back_up = sorted(f"{a} -> {b}" for a in [*arrows] for b in arrows[a] if a in reachable(arrows, b))

    print(f"{'room':<22} modules  lines  imports from")
    for room, sizes in rooms.items():
        below = ", ".join(sorted(name.removeprefix("agent.") for name in arrows[room]))
        print(f"{room:<22} {len(sizes):>7}  {sum(sizes):>5}  {below}")
    print(f"\nlargest modules ({len(lines)} in all)")
    for path, size in sorted(lines.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"{size:>6}  {path}")
    median, _ = sorted(lengths)[len(lengths) // 2]
    print(f"\nlongest functions ({len(lengths)} in all, median {median} lines)")
    for length, name in sorted(lengths, reverse=True)[:SHOWN]:
        print(f"{length:>6}  {name}")
    print(f"\narrows between rooms: {sum(map(len, arrows.values()))}; that run back up: {len(back_up)}")
    for arrow in back_up:
        print(f"        {arrow}")
    where = {place.partition(":")[0] for place in asking}
    print(f"\nplaces that ask who the caller is: {len(asking)}, in {len(where)} modules")
    for place in asking:
        print(f"        {place}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).parent.parent)
    directory = parser.parse_args().directory.resolve()
    if not any(modules(directory)):
        parser.error(f"{directory} is no checkout of this project: it has no agent/, bpf/ or topology/")
    with contextlib.suppress(BrokenPipeError):
        main(directory)
