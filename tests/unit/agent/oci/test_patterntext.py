"""What people write for a pattern is understood, or refused with what to write instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.oci.patterns import Pattern
from agent.oci.patterntext import PatternInvalid, parse_pattern
from tests.unit.twins import named


def refused(value: object, *, of_tags: bool = False) -> PatternInvalid:
    with pytest.raises(PatternInvalid) as caught:
        parse_pattern(value, of_tags=of_tags)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("*", "*", "*"),
        ("*:latest", "*", "latest"),
        ("docker.io/*", "docker.io/*", "*"),
        ("ghcr.io/acme/*:v1.*", "ghcr.io/acme/*", "v1.*"),
        ("localhost:5000/acme/app", "localhost:5000/acme/app", "*"),
        ("localhost:5000/acme/app:v1", "localhost:5000/acme/app", "v1"),
        ("localhost:5000/*", "localhost:5000/*", "*"),
        ("[fd00::1]:5000/*:v1", "[fd00::1]:5000/*", "v1"),
        ("reg:5000/*", "reg:5000/*", "*"),
        ("*/app:[a-c]*", "*/app", "[a-c]*"),
    ],
)
def test_tag_is_what_follows_the_last_colon_behind_the_last_slash(text: str, name: str, tag: str) -> None:
    assert parse_pattern(text) == Pattern(name, tag)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("docker.io", "docker.io/*"),
        ("docker.io/", "docker.io/*"),
        ("Docker.IO/*", "docker.io/*"),
        (" docker.io/* ", "docker.io/*"),
        ("docker.io/**", "docker.io/*"),
        ("docker.io.", "docker.io/*"),
        ("docker.io:443", "docker.io/*"),
        ("index.docker.io", "docker.io/*"),
        ("registry-1.docker.io/acme/*", "docker.io/acme/*"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("docker.io/nginx*", "docker.io/nginx*"),
        ("docker.io/N?INX", "docker.io/n?inx"),
        ("*.DOCKER.IO/*", "*.docker.io/*"),
        ("*.docker.io", "*.docker.io/*"),
        ("index.docker.io/*", "docker.io/*"),
        ("index.docker.io/ngin[X-Z]", "docker.io/ngin[x-z]"),
        ("docker.io/library/", "docker.io/library/*"),
        ("docker.io:443/acme/", "docker.io/acme/*"),
        (":v1", "*:v1"),
        (":V1.*", "*:V1.*"),
        ("REG.lab:5000", "reg.lab:5000/*"),
        ("10.0.0.1:5000", "10.0.0.1:5000/*"),
        ("localhost", "localhost/*"),
        ("localhost:5000", "localhost:5000/*"),
        ("[FD00:0::1]:5000", "[fd00::1]:5000/*"),
        ("[fd00::1]", "[fd00::1]/*"),
        ("*.azurecr.io", "*.azurecr.io/*"),
        ("*.azurecr.io:5000", "*.azurecr.io:5000/*"),
        ("*.azurecr.io:443/*", "*.azurecr.io/*"),
        ("ghcr.io:v1.*", "ghcr.io/*:v1.*"),
        ("ghcr.io/Acme/:V1", "ghcr.io/acme/*:V1"),
        ("**", "*"),
        ("***:latest", "*:latest"),
        ("*nginx*", "*nginx*"),
    ],
)
def test_what_is_meant_is_understood(text: str, meant: str) -> None:
    assert str(parse_pattern(text)) == meant


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("latest", "*:latest"),
        ("v1.*", "*:v1.*"),
        ("1.27", "*:1.27"),
        ("*-RC?", "*:*-RC?"),
        ("*", "*"),
        (":v1", "*:v1"),
        (":5000", "*:5000"),
    ],
)
def test_single_word_in_a_list_about_tags_is_a_tag(word: str, meant: str) -> None:
    assert str(parse_pattern(word, of_tags=True)) == meant


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        ("nginx", ("docker.io/library/nginx", "*/nginx", "*:nginx")),
        ("latest", ("*:latest",)),
        ("nginx:1.27", ("docker.io/library/nginx:1.27", "*/nginx:1.27")),
        ("reg:5000", ("reg:5000/*", "docker.io/library/reg:5000")),
        ("v1.*", ("*:v1.*",)),
        ("ghcr*", ("ghcr*/*", "*/ghcr*")),
        ("library/nginx", ("docker.io/library/nginx", "*/library/nginx")),
        ("acme/*", ("docker.io/acme/*", "*/acme/*")),
        (":5000", ("*:5000", "*:5000/*")),
    ],
)
def test_what_could_mean_several_things_is_refused_and_the_hint_has_all_of_them(
    text: str, hints: tuple[str, ...]
) -> None:
    hint = refused(text).hint
    for meant in hints:
        assert meant in hint
        parse_pattern(meant)


@pytest.mark.parametrize("word", ["ghcr.io", "*.azurecr.io", "localhost", "10.0.0.1"])
def test_word_that_could_be_a_registry_or_a_tag_is_refused_in_a_list_about_tags(word: str) -> None:
    hint = refused(word, of_tags=True).hint
    assert f"{word}/*" in hint
    assert f"*:{word}" in hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://ghcr.io", "write ghcr.io/*"),
        ("http://GHCR.io/acme:v1", "write ghcr.io/acme:v1"),
        ("https://*.docker.io/*", "write *.docker.io/*"),
        ("https://index.docker.io/v1/", "write docker.io/*"),
        ("https://registry-1.docker.io/v2/", "write docker.io/*"),
        ("https://ghcr.io/v2/acme/app", "write ghcr.io/acme/app"),
        ("index.docker.io/v1/", "write docker.io/*"),
        ("hub.docker.com", "write docker.io/*"),
        ("https://hub.docker.com/r/acme/app", "write docker.io/*"),
        ("docker.io/library", "write docker.io/library/*"),
        ("index.docker.io/Library:v1", "write docker.io/library/*"),
        ("*:443/acme/*", "write */… for any port"),
        ("ghcr.io/acme@sha256:12", "write ghcr.io/acme"),
        ("!ghcr.io/*", "write ghcr.io/* in the opposite list"),
        ("/nginx", "write */nginx"),
        ("/:v1", "write */*:v1"),
        ("/", "REGISTRY/REPOSITORY:TAG"),
        (":", "REGISTRY/REPOSITORY:TAG"),
        ("ghcr.io/[z-a]*", "the smaller one first"),
        ("*:[9-0]", "the smaller one first"),
        ("ghcr.io/[ü]", "letters, digits"),
        ("[a-z,]*/x", "an entry of its own"),
        ("ghcr.io/[a;b]", "letters, digits"),
        ("ghcr.io/acme:", "write ghcr.io/acme for all tags"),
        ("fd00::1:5000/*", "brackets"),
        ("*:sha256:12", "digest"),
        ("ghcr.io/*,docker.io/*", "an entry of its own"),
        ("ghcr.io/a docker.io/b", "an entry of its own"),
        ("{a,b}", "an entry of its own"),
        ("^docker.io/", "* stands for any text"),
        ("docker\\.io/*", "* stands for any text"),
        ("docker.io/.*", "* stands for any text"),
        ("*:.*", "* stands for any text"),
        ("(ghcr|quay).io/*", "* stands for any text"),
        ("host:70000/*", "HOST:PORT"),
        ("host:/*", "HOST:PORT"),
        ("[fd00::*]:5000/*", "REGISTRY/REPOSITORY:TAG"),
        ("[fd00::/*", "REGISTRY/REPOSITORY:TAG"),
        ("ghcr.io/[abc", "REGISTRY/REPOSITORY:TAG"),
        ("ghcr.io//x", "REGISTRY/REPOSITORY:TAG"),
        ("ghcr.io/-x", "REGISTRY/REPOSITORY:TAG"),
        ("ghcr.io/ü", "REGISTRY/REPOSITORY:TAG"),
        ("ghcr.io/a:b/c", "REGISTRY/REPOSITORY:TAG"),
        ("", "REGISTRY/REPOSITORY:TAG"),
        ("*:-x", "a tag has"),
        ("*:ü", "a tag has"),
    ],
)
def test_what_can_match_nothing_is_refused_with_what_to_write(text: str, hint: str) -> None:
    assert hint in refused(text).hint


@pytest.mark.parametrize("value", [None, True, 1.0, 7, ["a"], {"ghcr.io/acme": "v1"}])
def test_yaml_that_is_no_text_is_refused_and_quotes_are_advised(value: object) -> None:
    assert "quotes" in refused(value).hint


@given(text=st.text("aZ.:/*?[]!-_01 @,$\\^", max_size=12), of_tags=st.booleans())
def test_any_text_is_understood_or_refused_and_what_is_understood_means_itself(
    text: str, of_tags: bool
) -> None:
    try:
        pattern = parse_pattern(text, of_tags=of_tags)
    except PatternInvalid:
        return
    assert parse_pattern(str(pattern), of_tags=of_tags) == pattern
    assert parse_pattern(str(pattern)) == pattern
    pattern.excludes(NGINX)  # it can be compared, whatever is in its brackets


NGINX = named("library/nginx", "1.27", "docker.io")
