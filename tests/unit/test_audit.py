"""The audit of what is locked: what OSV's records say of a version, and that no name is left out."""

import json
from typing import Any

import pytest

from tools.audit import LIST, LOCKS, ROOT, findings, is_affected, licence_problems, pins, problems, refreshed


def _affected(
    *events: dict[str, str], versions: tuple[str, ...] = (), name: str = "aiohttp"
) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    return {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, "versions": list(versions)}


def _record(*affected: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "X-1", "summary": "a fault", "affected": list(affected), **more}


_BEFORE_2 = _affected({"introduced": "0"}, {"fixed": "2.0"})


@pytest.mark.parametrize(
    ("version", "events", "is_it"),
    [
        ("1.9", [{"introduced": "0"}, {"fixed": "2.0"}], True),
        ("2.0", [{"introduced": "0"}, {"fixed": "2.0"}], False),
        ("2.0rc1", [{"introduced": "0"}, {"fixed": "2.0"}], True),
        ("1.10", [{"introduced": "1.9"}, {"fixed": "1.11"}], True),
        ("1.8", [{"introduced": "1.9"}, {"fixed": "1.11"}], False),
        ("3.1", [{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "3.2"}], True),
        ("2.5", [{"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "3.2"}], False),
        ("2.0", [{"introduced": "0"}, {"last_affected": "2.0"}], True),
        ("2.1", [{"introduced": "0"}, {"last_affected": "2.0"}], False),
        ("9", [{"introduced": "0"}], True),
    ],
)
def test_ranges_are_read_as_osv_says(version: str, events: list[dict[str, str]], is_it: bool) -> None:
    assert is_affected(version, _affected(*events)) == is_it


def test_listed_versions_count_too() -> None:
    assert is_affected("1.2", _affected(versions=("1.2",)))
    assert not is_affected("1.3", _affected(versions=("1.2",)))


def test_a_locked_version_with_a_known_fault_is_a_problem_until_somebody_accepts_it() -> None:
    known: dict[str, Any] = {"names": ["aiohttp"], "accepted": {}, "records": [_record(_BEFORE_2)]}
    (problem,) = problems({"aiohttp": "1.0"}, known)
    assert problem == "aiohttp 1.0: X-1: a fault (mended in 2.0)"
    assert problems({"aiohttp": "2.0"}, known) == []
    known["accepted"] = {"X-1": "we never call it"}
    assert problems({"aiohttp": "1.0"}, known) == []
    assert "take it out" in problems({"aiohttp": "2.0"}, known)[0]


def test_a_name_that_the_list_does_not_cover_is_a_problem() -> None:
    (problem,) = problems({"new": "1"}, {"names": [], "accepted": {}, "records": []})
    assert "make audit" in problem


def test_withdrawn_records_and_other_names_say_nothing() -> None:
    records = [
        _record(_BEFORE_2, withdrawn="2026-01-01T00:00:00Z"),
        _record({**_BEFORE_2, "package": {"name": "x"}}),
    ]
    assert findings({"aiohttp": "1.0"}, records) == []


def test_names_are_compared_as_the_index_does() -> None:
    assert pins("PyYAML==6.0 \\\n  --hash=sha256:x\nruamel.yaml==1 ; python_version > '3'\n") == {
        "pyyaml": "6.0",
        "ruamel-yaml": "1",
    }
    record = _record(_affected({"introduced": "0"}, name="PyYAML"))
    assert len(findings({"pyyaml": "6.0"}, [record])) == 1


def test_a_refresh_asks_for_exactly_the_locked_names_and_keeps_what_is_accepted() -> None:
    asked: list[tuple[str, Any]] = []

    def ask(path: str, document: Any) -> Any:
        asked.append((path, document))
        if path == "querybatch":
            return {"results": [{"vulns": [{"id": "X-1"}]}, {}]}
        other = {"package": {"ecosystem": "npm", "name": "aiohttp"}, "ranges": []}
        return {**_record(_BEFORE_2, other), "details": "long"}

    known = refreshed({"aiohttp": "1", "yarl": "1"}, {"accepted": {"Y": "because"}}, ask)
    assert [path for path, _ in asked] == ["querybatch", "vulns/X-1"]
    assert known["names"] == ["aiohttp", "yarl"]
    assert known["accepted"] == {"Y": "because"}
    (record,) = known["records"]
    assert "details" not in record
    assert len(record["affected"]) == 1


def test_the_list_covers_what_is_locked_and_nothing_locked_has_a_known_fault() -> None:
    locked = {name: version for lock in LOCKS for name, version in pins((ROOT / lock).read_text()).items()}
    assert len(locked) > 50
    assert problems(locked, json.loads(LIST.read_text())) == []


def test_every_package_of_the_image_may_be_shipped_as_it_is() -> None:
    assert licence_problems(sorted(pins((ROOT / LOCKS[1]).read_text()))) == []
