#!/usr/bin/env python3
"""Makes what is generated in the chart: values.schema.json and README.md.

    tools/chart.py            write both
    tools/chart.py --check    exit status 1 if either is not what would be written

The schema of `config` follows from the settings: each parser of `agent.config.values` has its schema here,
and says itself what to write instead. What the chart sets itself is refused with a hint. The rest of the
schema is helm/values.schema.base.yaml. The README's table is made from the comments of values.yaml.
"""

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from agent.config import indexurl, values
from agent.config.settings import Settings
from agent.config.values import InvalidValue, NumberParser

Schema = dict[str, Any]

REPOSITORY = Path(__file__).resolve().parent.parent
CHART = REPOSITORY / "helm" / "shorthaul"
BASE = REPOSITORY / "helm" / "values.schema.base.yaml"

OWNED = {
    "node": "leave it out: the chart sets each node's own name and address",
    "listen": "leave it out, and set the values `ports`, `network`, `listen` and `metrics.address`",
    "peering.key": "leave it out, and set the value `peering.existingSecret`",
    "peering.open": "leave it out, and set the value `peering.open`",
    "peering.tls": "leave it out, and set the values `peering.tls`",
    "index": "leave it out, and set the value `index.url`, or `valkey.enabled`",
    "valkey.password_file": "leave it out, and set the values `index.passwordSecret`",
    "valkey.ca_file": "leave it out, and set the value `index.tls.secretName`",
    "valkey.certificate_file": "leave it out, and set the values `index.tls`",
    "valkey.key_file": "leave it out, and set the values `index.tls`",
    "store": "leave it out, and set the values `containerd`",
    "membership": "leave it out: the agents find each other by a Service; see the values `membership`",
    "handover": "leave it out: the chart sets it",
    "health": "leave it out: the chart sets it",
    "state_dir": "leave it out, and set the value `stateDirectory`",
    "placement.labels_file": "leave it out, and set the value `membership.nodeLabels`",
    "probe.socket": "leave it out: the chart sets it",
    "probe.node_port": "leave it out, and set the value `nodePort.port`",
    "probe.hosts_dir": "leave it out, and set the values `containerd`",
    "probe.metrics": "leave it out, and set the values `ports.probe` and `metrics.address`",
}
"""Settings that are the chart's own to set, and what to do instead."""

_PORT = "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}([.]{_OCTET}){{3}}"
_IPV6 = r"[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%[^ \]]+)?"
_ENDPOINT: Schema = {"type": "string", "pattern": rf"^({_IPV4}|\[?{_IPV6}\]?|\[{_IPV4}\]):{_PORT}$"}
_NAME = "[A-Za-z0-9_][A-Za-z0-9._-]{0,252}"
_SERVER = rf"({_NAME}|\[{_IPV6}\])(:{_PORT})?"
_SERVERS = rf"{_SERVER}(,{_SERVER})*"
_DATABASE = "(/([0-9]{1,5})?)?"


def _index(login: str) -> str:
    """What the URL of an index is like. ``login``: what may be before its hosts."""
    scheme = "(valkey|redis|valkeys|rediss)"
    return (
        "^(scatter"
        rf"|{scheme}://{login}{_SERVER}{_DATABASE}"
        rf"|{scheme}[+]sentinel://{login}{_SERVERS}/[^/?#\s]+{_DATABASE}"
        rf"|{scheme}[+]cluster://{login}{_SERVERS}/?)$"
    )


_WORD: Schema = {"type": "string", "minLength": 1}
_LABEL = r"^[^\x00-\x1f\"\\]{0,253}$"
_BUILT_IN_LEVELS = [*values._BUILT_IN_LEVELS]  # the parser's own list


_NO_PATTERN = "|".join((r"://", r"@", r"\S[,\s]+\S", r"[\\^$(){}|+]", r"(^|[/:])\.\*", r"^\s*!", r"^\s*/"))
_ONE_WORD = r"^\s*[a-zA-Z0-9_-]+(:[a-zA-Z0-9_.-]+)?\s*$"
_LOCALHOST = r"^\s*[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]\s*(:|$)"


def _pattern(*, of_tags: bool) -> Schema:
    """What a pattern on images can't be, as far as a schema can say it; the agent itself knows more."""
    ambiguous: Schema = {"pattern": _ONE_WORD, "not": {"pattern": _LOCALHOST}}
    return {**_WORD, "not": {"anyOf": [{"pattern": _NO_PATTERN}, *([] if of_tags else [ambiguous])]}}


SCHEMAS: Mapping[Callable[..., object], Schema] = {
    values.parse_flag: {"type": "boolean"},
    values.parse_path: {"type": ["string", "null"], "minLength": 1},
    values.parse_file: _WORD,
    values.parse_certificate_name: {"type": ["string", "null"], "minLength": 1, "pattern": r"^[^*, ]+$"},
    values.parse_optional_label: {"type": ["string", "integer", "null"], "pattern": _LABEL},
    values.parse_endpoint: _ENDPOINT,
    values.parse_endpoints: {"type": "array", "items": _ENDPOINT},
    values.parse_uids: {"type": "array", "items": {"type": "integer", "minimum": 0}},
    indexurl.parse_index: {**_WORD, "pattern": _index(r"([^?#\s]*@)?")},
    indexurl.parse_key_prefix: {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
    indexurl.parse_cluster_name: {"type": "string", "pattern": "^[A-Za-z0-9._:/-]{0,128}$"},
    indexurl.parse_login_name: {"type": ["string", "null"], "minLength": 1, "pattern": r"^\S+$"},
    indexurl.parse_tls_name: {"type": ["string", "null"], "pattern": rf"^({_NAME}|{_IPV6})$"},
    values.parse_log_level: {"enum": ["debug", "info", "warning", "error"]},
    values.parse_transfer_mode: {"enum": ["relay", "redirect"]},
    values.parse_cold_start_mode: {"enum": ["claims", "off", False]},
    values.parse_cold_start_scope: {"enum": ["zone", "cluster"]},
    values.parse_local_callers: {"enum": ["any", "root", "containerd"]},
    values.parse_host_names: {
        "type": "array",
        "items": {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,252}$"},
    },
    values.parse_patterns: {"type": "array", "items": _pattern(of_tags=False)},
    values.parse_tag_patterns: {"type": "array", "items": _pattern(of_tags=True)},
    values.parse_labels: {
        "type": "object",
        "propertyNames": {"minLength": 1},
        "additionalProperties": {"type": ["string", "integer"]},
    },
    values.parse_levels: {
        "type": "array",
        "uniqueItems": True,
        "items": {**_WORD, "not": {"enum": _BUILT_IN_LEVELS}},
    },
    values.parse_authorizations: {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["match", "by"],
            "properties": {
                "match": _pattern(of_tags=False),
                "by": {"enum": ["registry", "mirror"]},
            },
            "additionalProperties": False,
        },
    },
    values.parse_prices: {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["from", "to", "usd_per_gb"],
            "properties": {
                "from": {"type": ["string", "integer"], "pattern": _LABEL},
                "to": {"type": ["string", "integer"], "pattern": _LABEL},
                "usd_per_gb": {"type": "number", "minimum": 0, "maximum": 1000},
            },
            "additionalProperties": False,
        },
    },
}
"""What each parser accepts. A test holds both against each other."""


def schema_of(parse: Callable[..., object]) -> Schema:
    """What a parser accepts; what to write instead is the message."""
    if isinstance(parse, NumberParser):
        bounds: Schema = {
            "type": "integer" if parse.whole else "number",
            "minimum": parse.least,
            "maximum": parse.most,
        }
        return hinted({"anyOf": [{"const": 0}, bounds]} if parse.none else bounds, parse.hint)
    schema = SCHEMAS[parse]
    return schema if "enum" in schema else hinted(schema, _hint(parse))


def _hint(parse: Callable[..., object]) -> str:
    try:
        parse(object())
    except InvalidValue as refused:
        return refused.hint
    raise AssertionError(f"{parse} takes anything")


def hinted(schema: Schema, hint: str) -> Schema:
    """The same, with this message for what it refuses: validators take no messages, but print a `const`."""
    return {"if": schema, "else": {"const": hint}}


def config_schema(cls: type = Settings, prefix: str = "") -> Schema:
    """The schema of the settings below this group."""
    properties: Schema = {}
    for entry in dataclasses.fields(cls):
        key, nested = f"{prefix}{entry.name}", entry.metadata.get("group")
        if key in OWNED:
            properties[entry.name] = {"const": OWNED[key]}
        elif nested is not None:
            properties[entry.name] = config_schema(nested, f"{key}.")
        else:
            properties[entry.name] = {
                "description": entry.metadata["doc"],
                **schema_of(entry.metadata["parse"]),
            }
    return closed(properties)


def closed(properties: Schema) -> Schema:
    """A mapping with these keys only. Their names are checked, because that message lists them all."""
    return {"type": "object", "propertyNames": {"enum": [*properties]}, "properties": properties}


_INDEX_URL: Schema = {
    # It is in a ConfigMap, which anybody may read.
    "anyOf": [{"const": ""}, {"type": "string", "pattern": _index(r"([^:@/?#\s]+@)?")}],
    "hint": "write the URL of a server without a password, for example valkey://HOST:6379 or "
    "valkeys://USER@HOST:6379, or leave it empty; the password is in the Secret of index.passwordSecret",
}


def chart_schema() -> Schema:
    """The whole schema of the values."""
    base = yaml.safe_load(BASE.read_text(encoding="utf-8"))
    base["definitions"]["indexUrl"] = _INDEX_URL
    properties = {name: _expanded(each, base["definitions"]) for name, each in base["properties"].items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart shorthaul",
        **closed(properties | {"config": config_schema(), "global": {"type": "object"}}),
    }


def _expanded(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A schema of the base file with its references, hints and closed mappings written out."""
    if "$ref" in schema:
        return _expanded(definitions[schema["$ref"]], definitions)
    if "hint" in schema:
        plain = {key: value for key, value in schema.items() if key != "hint"}
        return hinted(plain, schema["hint"])
    if "properties" in schema:
        return closed({name: _expanded(each, definitions) for name, each in schema["properties"].items()})
    return schema


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A value with its key, its default and what values.yaml says of it."""

    key: str
    default: object
    text: str


def described_values() -> list[Described]:
    """The values that values.yaml describes, in its order."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    found: list[Described] = []
    path: list[str] = []
    said = ""
    for line in text.splitlines():
        if comment := re.match(r" *# -- (.*)", line):
            said = comment[1]
        elif key := re.match(r"( *)([A-Za-z]+):", line):
            path = [*path[: len(key[1]) // 2], key[2]]
            if said:
                value: Any = defaults
                for name in path:
                    value = value[name]
                found.append(Described(key=".".join(path), default=value, text=said))
            said = ""
    return found


def _configurable(cls: type = Settings, prefix: str = "") -> list[Described]:
    found: list[Described] = []
    for entry in dataclasses.fields(cls):
        key, nested = f"{prefix}{entry.name}", entry.metadata.get("group")
        if key in OWNED:
            continue
        if nested is not None:
            found += _configurable(nested, f"{key}.")
        else:
            default = None if entry.default is dataclasses.MISSING else _plain(entry.default)
            found.append(Described(key=f"config.{key}", default=default, text=entry.metadata["doc"]))
    return found


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(getattr(value, "items", ())) or (str(value) if not hasattr(value, "items") else {})


def readme() -> str:
    """The README of the chart."""
    rows = [
        f"| `{each.key}` | {_code(each.default)} | {each.text.replace('|', chr(92) + '|')} |"
        for each in [*described_values(), *_configurable()]
    ]
    return _README.replace("ROWS", "\n".join(rows))


def _code(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "see docs/configuration.md" if len(text) > 120 else f"`{text}`"


_README = """\
<!-- Made by tools/chart.py from values.yaml and agent/config/settings.py: `make chart-docs`. -->
# The chart shorthaul

An agent on every node, from which the node's containerd pulls. Each blob of an image comes from the nearest
node that has it. For Kubernetes 1.24 to 1.36, Helm 3.14 and 4. docs/install.md, docs/upgrade.md and
docs/uninstall.md of the repository say how to install, to upgrade and to remove it.

```sh
helm install shorthaul helm/shorthaul --namespace shorthaul --create-namespace
```

The first installation makes the cluster's key, which nothing that Helm does later touches
(docs/rotation.md). What renders without a cluster, such as Argo CD, names a Secret of its own in
`peering.existingSecret`. One release serves a cluster: a second one is refused. A value that makes no sense
is refused, and the message says what to write instead.

## Values

| value | default | meaning |
|---|---|---|
ROWS
"""


def main() -> int:
    """Write, or check, what is generated."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit status 1 if anything is out of date"
    )
    arguments = parser.parse_args()
    made = {
        CHART / "values.schema.json": json.dumps(chart_schema(), indent=1, ensure_ascii=False) + "\n",
        CHART / "README.md": readme(),
    }
    stale = [
        path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        done = "out of date: make chart-docs" if arguments.check else "written"
        print(f"{path.relative_to(REPOSITORY)}: {done}")
        if not arguments.check:
            path.write_text(made[path], encoding="utf-8")
    return 1 if stale and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
