"""Are there known faults in what is locked? Reads the lock files and tools/advisories.json, and no network.

    python -m tools.audit             what `make lint` does
    python -m tools.audit --refresh   what `make audit` does: asks osv.dev for the locked names first

pip-audit asks an index for each package, and can't be given a list. Without its network it skips every
package and says "No known vulnerabilities found". So this reads records in OSV's form
(https://ossf.github.io/osv-schema) for exactly the locked names. A name that the list does not cover is an
error, and so is an affected version that nobody has accepted with a reason. The list's age is printed, and is
no error: the same commit always passes.
"""

import argparse
import json
import re
import sys
import urllib.request
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
LIST = ROOT / "tools" / "advisories.json"
LOCKS = ("requirements.lock", "requirements-image.lock")
IMAGE_LOCK = "requirements-image.lock"
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", re.MULTILINE)
_OSV = "https://api.osv.dev/v1"
_LICENCES = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL-2\.0|Mozilla Public|Unlicense|0BSD)\b"
)
"""Licences that let an Apache-2.0 project ship what has them, as it is, in an image."""

_STATED = ("License-Expression", "License")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A locked version that an advisory is about."""

    name: str
    version: str
    advisory: str
    summary: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        mended = f"mended in {', '.join(self.fixed)}" if self.fixed else "no version mends it"
        return f"{self.name} {self.version}: {self.advisory}: {self.summary} ({mended})"


def pins(text: str) -> dict[str, str]:
    """The versions in a lock file, by normalised names."""
    return {canonicalize_name(name): version for name, version in _PIN.findall(text)}


def is_affected(version: str, affected: dict[str, Any]) -> bool:
    """Whether a version is in the ranges or versions of one entry ``affected`` of an OSV record."""
    if version in affected.get("versions", ()):
        return True
    ranges = (one for one in affected.get("ranges", ()) if one["type"] == "ECOSYSTEM")
    return any(_is_in(Version(version), one["events"]) for one in ranges)


def _is_in(version: Version, events: list[dict[str, str]]) -> bool:
    inside = False
    for event in sorted(events, key=_place):
        if "introduced" in event:
            inside = inside or event["introduced"] == "0" or version >= Version(event["introduced"])
        elif "fixed" in event:
            inside = inside and version < Version(event["fixed"])
        elif "last_affected" in event:
            inside = inside and version <= Version(event["last_affected"])
    return inside


def _place(event: dict[str, str]) -> tuple[Version, bool]:
    text = next(iter(event.values()))
    return Version("0a0" if text == "0" else text), "introduced" not in event


def findings(locked: dict[str, str], records: list[dict[str, Any]]) -> list[Finding]:
    """What the records say against the locked versions. Withdrawn records say nothing."""
    found = []
    for record in records:
        for affected in record["affected"]:
            name = canonicalize_name(affected["package"]["name"])
            version = locked.get(name)
            if version is None or record.get("withdrawn") or not is_affected(version, affected):
                continue
            events = [event for one in affected.get("ranges", ()) for event in one["events"]]
            found.append(
                Finding(
                    name=name,
                    version=version,
                    advisory=record["id"],
                    summary=record.get("summary", ""),
                    fixed=tuple(event["fixed"] for event in events if "fixed" in event),
                )
            )
    return found


def problems(locked: dict[str, str], known: dict[str, Any]) -> list[str]:
    """What is wrong with the locked versions, or with the list of advisories for them."""
    missing = sorted(locked.keys() - set(known["names"]))
    found = [f"{name}: the list of advisories does not cover it; run `make audit`" for name in missing]
    accepted = known["accepted"]
    against = findings(locked, known["records"])
    found += [str(one) for one in against if one.advisory not in accepted]
    stale = sorted(accepted.keys() - {one.advisory for one in against})
    return found + [f"{name} is accepted, and nothing that is locked has it: take it out" for name in stale]


def licence_problems(names: list[str]) -> list[str]:
    """Packages of the image whose licence is not one of those that may be shipped as they are."""
    found = []
    for name in names:
        try:
            fields = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue  # not for this platform
        stated = [text[:200] for name_of in _STATED for text in fields.get_all(name_of) or ()]
        stated += [one for one in fields.get_all("Classifier") or () if one.startswith("License")]
        if not any(_LICENCES.search(one) for one in stated):
            found.append(f"{name}: its licence is {' / '.join(filter(None, stated)) or 'not stated'}")
    return found


def refreshed(locked: dict[str, str], known: dict[str, Any], ask: Any) -> dict[str, Any]:
    """The list anew. ``ask``: sends a document to a path of OSV's API, or gets it; returns the answer."""
    names = sorted(locked)
    queries = [{"package": {"ecosystem": "PyPI", "name": name}} for name in names]
    results = ask("querybatch", {"queries": queries})["results"]
    ids = sorted({one["id"] for result in results for one in result.get("vulns", ())})
    records = [_kept(ask(f"vulns/{one}", None), set(names)) for one in ids]
    return {
        "as_of": date.today().isoformat(),
        "source": "osv.dev, all records for these names",
        "names": names,
        "accepted": known["accepted"],
        "records": records,
    }


def _kept(record: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The part of a record that is read here: versions that no range has are kept, and no prose."""
    affected = [
        {
            "package": {"ecosystem": "PyPI", "name": one["package"]["name"]},
            "ranges": [each for each in one.get("ranges", ()) if each["type"] == "ECOSYSTEM"],
            **({} if one.get("ranges") else {"versions": one.get("versions", [])}),
        }
        for one in record["affected"]
        if one["package"]["ecosystem"] == "PyPI" and canonicalize_name(one["package"]["name"]) in names
    ]
    summary = record.get("summary") or record.get("details", "").strip().partition("\n")[0][:120]
    kept = {
        "id": record["id"],
        "aliases": record.get("aliases", []),
        "summary": summary,
        "affected": affected,
    }
    return kept | ({"withdrawn": record["withdrawn"]} if "withdrawn" in record else {})


def _ask(path: str, document: dict[str, Any] | None) -> Any:
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(
        f"{_OSV}/{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def main() -> int:
    """Check, or refresh and check. 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.audit")
    parser.add_argument("--refresh", action="store_true", help="ask osv.dev first, and write the list")
    arguments = parser.parse_args()
    locks = {name: pins((ROOT / name).read_text()) for name in LOCKS}
    locked = {name: version for lock in locks.values() for name, version in lock.items()}
    known = json.loads(LIST.read_text())
    if arguments.refresh:
        known = refreshed(locked, known, _ask)
        LIST.write_text(json.dumps(known, indent=1) + "\n")
    wrong = problems(locked, known) + licence_problems(sorted(locks[IMAGE_LOCK]))
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        source = f"{known['source']}; {known['as_of']}"
        print(f"{len(locked)} locked packages, {len(known['records'])} advisories ({source})")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
