"""Reads patterns as people write them. What is meant is understood; what is not clear is refused.

A filter that silently matches nothing is noticed too late. So a pattern gets the form in which names are
compared (`agent.oci.registry`): lower case, one name for each registry. A pattern that can match no image, or
that could mean two things, is refused with what to write instead.
"""

import re

from agent.oci.errors import NameInvalid
from agent.oci.patterns import ADDRESS, ANY, Pattern
from agent.oci.registry import DOCKER_HUB, OFFICIAL, looks_like_registry, parse_registry

_EXAMPLES = "write globs on REGISTRY/REPOSITORY:TAG, for example docker.io/* or *:v1.*"
_COLONS = "tags have no colon, digests have no tag, and an IPv6 address goes in brackets: [fd00::1]:5000/*"
_IN_BRACKETS = "write letters, digits and ranges of them, the smaller one first, for example [a-f0-9]"
_EXPRESSION = re.compile(r"[\\^$(){}|+]|(?:^|[/:])\.\*")
_CLASS = re.compile(r"\[!?[^\[\]!:]+\]")
_CLASS_OF_NAMES = re.compile(r"\[!?(?:[a-zA-Z0-9]-[a-zA-Z0-9]|[a-zA-Z0-9._])+-?\]", re.ASCII)
_RANGE = re.compile(r"([a-zA-Z0-9])-([a-zA-Z0-9])", re.ASCII)
_NAME = re.compile(r"[a-z0-9._/:*?-]*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_*?][a-zA-Z0-9._*?-]*", re.ASCII)
_PORT = re.compile(r"[0-9]{2,5}", re.ASCII)
_API = re.compile(r"^([^/]+/)v[12](?:/|$)")  # https://index.docker.io/v1/, https://registry-1.docker.io/v2/
_WEB_SITE = "hub.docker.com"  # of Docker Hub, which serves no images
_DOMAIN = re.compile(r".*\.[a-z]{2,}|[0-9]+(?:\.[0-9]+){3}|localhost", re.ASCII | re.IGNORECASE)


class PatternInvalid(ValueError):
    """This pattern can match nothing, or could mean two things. ``hint`` says what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def parse_pattern(value: object, *, of_tags: bool = False) -> Pattern:
    """The pattern that an entry of a list means. Raises `PatternInvalid`.

    ``of_tags``: the list is about tags, so a single word is a tag. A parsed pattern's text means itself.
    """
    if not isinstance(value, str):
        raise PatternInvalid(
            f"{value!r} is not text", "put the pattern in quotes: YAML reads on, 1.0 and a: b differently"
        )
    text = re.sub(r"(?<!/)\*{2,}|\*{3,}|\*{2,}(?!/)", ANY, value.strip())
    _require_glob(value, text)
    name, tag = _split(value, text)
    if "/" not in name:
        return _single(value, name, tag, of_tags=of_tags)
    registry, _, path = name.partition("/")
    return Pattern(_named(value, _registry(value, registry), path), _tag(value, tag))


def _require_glob(value: object, text: str) -> None:
    """Raises `PatternInvalid` for what is no name and no glob at all."""
    if not text:
        raise _refused(value, "is empty", _EXAMPLES)
    if "://" in text:
        raise _refused(value, "has a scheme", _suggested(_API.sub(r"\1", text.rpartition("://")[2])))
    if "@" in text:
        raise _refused(value, "has an @, but patterns decide by name", _suggested(text.partition("@")[0]))
    if "," in text or any(character.isspace() for character in text):
        raise _refused(value, "has a comma or a space", "write each pattern as an entry of its own")
    if _EXPRESSION.search(text):
        raise _refused(
            value,
            "is a regular expression",
            f"{_EXAMPLES}: * stands for any text, slashes too; write one pattern for each alternative",
        )
    if text.startswith("!"):
        raise _refused(value, "begins with !", f"write {text[1:]} in the opposite list")
    address = ADDRESS.match(text.lower())
    if set("[]") & set(_CLASS.sub("", text[address.end() if address else 0 :])):
        raise _refused(value, "has brackets that hold neither characters nor an IPv6 address", _EXAMPLES)
    for each in _CLASS.findall(text, address.end() if address else 0):
        backwards = any(first > last for first, last in _RANGE.findall(each))
        if backwards or not _CLASS_OF_NAMES.fullmatch(each):
            raise _refused(value, f"has {each}, which stands for no character of a name", _IN_BRACKETS)


def _split(value: object, text: str) -> tuple[str, str]:
    """The name in lower case, and the tag: what follows the last colon after the last slash."""
    address = ADDRESS.match(text.lower())
    start = address.end() if address else 0
    head, slash, last = text[start:].rpartition("/")
    name, colon, tag = last.partition(":")
    if address and not slash and (not colon or tag.isdigit()):  # a registry alone, perhaps with its port
        name, colon, tag = last, "", ""
    if colon and not tag:
        name = text.rstrip(":")
        raise _refused(
            value, "has nothing after the colon", f"write {name} for all tags" if name else _EXAMPLES
        )
    if ":" in tag:
        raise _refused(value, "has a colon too many", _COLONS)
    return (text[:start] + head + slash + name).lower(), tag if colon else ANY


def _single(value: object, name: str, tag: str, *, of_tags: bool) -> Pattern:
    """The pattern without a slash: a registry, a glob on everything, or a tag."""
    if not name:
        if _PORT.fullmatch(tag) and not of_tags:
            both = f"write *:{tag} for a tag, *:{tag}/* for the registries with this port"
            raise _refused(value, "could mean several things", both)
        return Pattern(ANY, _tag(value, tag))
    if of_tags and tag == ANY and name != ANY and not ADDRESS.match(name):
        word = str(value).strip()
        if _DOMAIN.fullmatch(word):
            raise _refused(value, "could be a registry or a tag", f"write {word}/* or *:{word}")
        return Pattern(ANY, _tag(value, word))
    if looks_like_registry(name) and _PORT.fullmatch(tag):
        name, tag = f"{name}:{tag}", ANY
    if ":" in name or _DOMAIN.fullmatch(name.removesuffix(".")):
        return Pattern(f"{_registry(value, name)}/{ANY}", _tag(value, tag))
    if name.startswith(ANY):
        return Pattern(name, _tag(value, tag))
    end = "" if tag == ANY else f":{tag}"
    choices = [f"docker.io/library/{name}{end} or */{name}{end} for a repository"]
    if _PORT.fullmatch(tag) or (end == "" and any(character in name for character in "*?[")):
        choices.insert(0, f"{name}{end}/* for a registry")
    if end == "":
        choices.append(f"*:{value} for a tag")
    raise _refused(value, "could mean several things", f"write {', '.join(choices)}")


def _registry(value: object, text: str) -> str:
    """The registry's part of a name: a registry, or a glob on registries."""
    if any(character in text for character in "*?") or _CLASS.search(text):
        host = text.removesuffix(":443")
        if host != text and host[-1:] in "*?]":
            why = "has the default port after a glob, and no registry is known by that port"
            raise _refused(value, why, f"write {host}/… for any port, {host[:-1]}NAME/… for one registry")
        return host.removesuffix(".")
    if not text:
        rest = str(value).strip().lstrip("/")
        raise _refused(value, "begins with a slash", _suggested(f"*/{rest}") if rest else _EXAMPLES)
    if text == _WEB_SITE:
        raise _refused(value, "is a web site", "write docker.io/* or docker.io/NAMESPACE/NAME")
    if not looks_like_registry(text):
        word = str(value).strip()
        raise _refused(
            value,
            f"has no registry: {text} could be a part of the repository",
            f"write docker.io/{word} for Docker Hub, or */{word} for every registry",
        )
    try:
        return parse_registry(text)
    except NameInvalid as error:
        hint = _COLONS if text.count(":") > 1 else "write HOST or HOST:PORT before the first slash"
        raise PatternInvalid(f"{str(value)[:120]!r}: {text!r} is not a registry", hint) from error


def _named(value: object, registry: str, path: str) -> str:
    """The name, from the registry and what follows its slash. A trailing slash means all below it."""
    if registry == DOCKER_HUB and path in ("v1/", "v2/"):
        raise _refused(value, "is the address of an API", f"write {DOCKER_HUB}/*")
    if registry == DOCKER_HUB and f"{path}/" == OFFICIAL:
        why = f"names no image: {OFFICIAL} is where the official ones are"
        raise _refused(value, why, f"write {DOCKER_HUB}/{OFFICIAL}* for all official images")
    path = f"{path}{ANY}" if path == "" or path.endswith("/") else path
    components = path.split("/")
    outside = _CLASS.sub("", path)
    if ":" in outside or not _NAME.fullmatch(outside):
        raise _refused(value, "has characters that no name has", _EXAMPLES)
    for component in components:
        if not component or component[0] in ".-_" or component[-1] in ".-_":
            raise _refused(
                value, "can match no name: its parts begin and end with a letter or a digit", _EXAMPLES
            )
    if registry == DOCKER_HUB and len(components) == 1 and not any(glob in path for glob in "*?["):
        path = f"{OFFICIAL}{path}"  # as in the name of an image
    return f"{registry}/{path}"


def _tag(value: object, tag: str) -> str:
    if not _TAG.fullmatch(_CLASS.sub("x", tag)):
        raise _refused(
            value, f"can match no tag: {tag!r} is not one", "a tag has letters, digits, '_', '.', '-'"
        )
    return tag


def _suggested(text: str) -> str:
    """The hint to write the same without what was refused."""
    try:
        return f"write {parse_pattern(text)}"
    except PatternInvalid as error:
        return error.hint


def _refused(value: object, why: str, hint: str) -> PatternInvalid:
    return PatternInvalid(f"{str(value)[:120]!r} {why}", hint)
