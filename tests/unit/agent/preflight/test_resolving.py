"""Do the registries' names resolve."""

from agent.hosts.hostsfile import Host, HostsFile
from agent.preflight.check import Status
from agent.preflight.gather import Unknown
from agent.preflight.resolving import registry_names, resolve, resolved


def test_the_names_are_those_of_the_registries_and_not_addresses() -> None:
    files = {
        "_default": HostsFile(hosts=(Host(url="http://127.0.0.1:30020"),)),
        "docker.io": HostsFile(),
        "quay.io": HostsFile(server="https://quay.example:443", hosts=(Host(url="http://[::1]:1"),)),
        "r.example:5000": HostsFile(
            hosts=(Host(url="https://mirror.example/v2"), Host(url="http://localhost:1"))
        ),
    }
    assert registry_names(files) == ("registry-1.docker.io", "quay.example", "r.example", "mirror.example")


def test_a_name_that_does_not_resolve_is_a_warning_and_hides_no_other() -> None:
    found = resolve(["localhost", "no-such-name.invalid"])
    assert isinstance(found["localhost"], str)
    (check,) = resolved(found)
    assert check.status is Status.WARN
    assert "1 of 2 do not resolve: no-such-name.invalid (" in check.detail
    assert resolved({"localhost": "127.0.0.1"})[0].status is Status.GOOD
    assert resolved({}) == ()
    assert resolved(Unknown(why="x"))[0].status is Status.UNKNOWN
