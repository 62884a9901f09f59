"""``shorthaul configure``: tells the node's containerd to use this node's agent.

It writes hosts.toml files, which containerd reads again at each pull. It never restarts containerd.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.errors import CommandError
from agent.cli.hosts import add_place, carry_out, find_node, print_problem

if TYPE_CHECKING:
    from agent.config import Endpoint
    from agent.hosts.mirror import Mirror
    from agent.hosts.node import ContainerdNode
    from agent.hosts.plan import Change
    from agent.keyring import KeyRing

_NAMES = ("hostport", "nodeport", "clusterip")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add this command."""
    parser = commands.add_parser(
        "configure",
        help="write containerd's hosts.toml files, so that it asks this node's agent first",
        description="Write containerd's hosts.toml files: the HostPort first, then the NodePort if one is "
        "given, then the registry. Files of others are kept once as hosts.toml.before-shorthaul, and get our "
        "lines in front of their own hosts. It can be run as often as one likes. containerd is not "
        "restarted. The exit status is 1 if a file could not be written; whether containerd reads the files "
        "is said in words.",
    )
    add_place(parser)
    parser.add_argument(
        "--registry",
        action="append",
        default=[],
        metavar="NAME",
        help="a registry to mirror, for example docker.io or registry.example:5000 (repeatable, or separated "
        "by commas; default: all of them)",
    )
    parser.add_argument(
        "--no-tags",
        action="append",
        default=[],
        metavar="NAME",
        help="a registry that containerd is to ask itself what a tag is, with the pod's credentials: one "
        "that decides who may have its images (registries.authorize). Bytes still come from the mirror "
        "(repeatable, or separated by commas)",
    )
    parser.add_argument(
        "--endpoints",
        metavar="LIST",
        help="what containerd tries, in order: hostport, nodeport, clusterip (default: those that have an "
        "address, in this order)",
    )
    parser.add_argument(
        "--hostport", default="127.0.0.1:30020", metavar="IP:PORT", help="default: 127.0.0.1:30020"
    )
    parser.add_argument("--nodeport", metavar="IP:PORT", help="the NodePort, at this node's own address")
    parser.add_argument("--clusterip", metavar="IP:PORT", help="the ClusterIP of the Service")
    parser.add_argument(
        "--capabilities",
        default="pull,resolve",
        metavar="LIST",
        help="pull: blobs and manifests by digest; resolve: tags (default: pull,resolve)",
    )
    parser.add_argument(
        "--dial-timeout",
        default="1s",
        metavar="TIME",
        help="how long containerd 2.1 and later wait for a connection before they try the next endpoint; 0: "
        "their own 30 s (default: 1s)",
    )
    parser.add_argument(
        "--containerd-version",
        default="",
        metavar="VERSION",
        help="containerd's version, for example 1.7 (default: what its configuration tells). 1.6 and 1.7 "
        "drop a file with an IPv6 address, so such an endpoint is written for 2.x only",
    )
    parser.add_argument(
        "--drop-in",
        action="store_true",
        help="where containerd has no config_path and its config.toml imports a directory, write a file "
        "there that sets it; it counts when containerd is restarted",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="the cluster's key (peering.key): containerd gets the token that is made from its first line, "
        "for the NodePort and the ClusterIP, and the file is for its owner alone (mode 0600). Run this again "
        "when the key changes. No token is ever shown",
    )
    parser.add_argument(
        "--pod-network",
        action="store_true",
        help="the agent is in a pod on the pod network, where the kernel can't tell who asks: containerd "
        "sends the token to the HostPort as well",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files and say what containerd does with them. Returns 1 if one could not be written."""
    try:
        node = find_node(arguments)
        release = _release(arguments, node)
        mirror = _mirror(arguments, release)
        registries = _registries(arguments.registry, "--registry")
        return _configure(arguments, node, mirror, registries, release)
    except CommandError as error:
        print(error.lines, file=sys.stderr)
        return error.status


def _configure(
    arguments: argparse.Namespace,
    node: "ContainerdNode",
    mirror: "Mirror",
    registries: tuple[str, ...],
    release: str,
) -> int:
    from agent.hosts.plan import plan_configure

    tagless = _registries(arguments.no_tags, "--no-tags")
    done = carry_out(
        node,
        lambda tree: plan_configure(tree, mirror, registries, tagless=tagless),
        lambda change, path: _show(change, path, dry_run=arguments.dry_run),
        dry_run=arguments.dry_run,
        create=True,
    )
    if arguments.drop_in:
        node, written = _write_drop_in(arguments, node, release)
        done = done and written
    _say_what_containerd_does(node, release)
    return 0 if done else 1


def _show(change: "Change", path: str, *, dry_run: bool) -> None:
    if change.after is None or not change.hosts:
        done = "goes" if change.after is None else "is again as its owner wrote it"
    elif not change.changes:
        done = "is as it should be"
    elif change.before is None:
        done = "is new"
    elif change.before == change.after:
        done = f"is now for its owner alone: mode {change.mode:04o}"
    else:
        done = "has our lines in front of its own hosts" if change.owned else "is written anew"
    print(f"{path} {'(not written) ' if dry_run and change.changes else ''}{done}")
    if change.hosts:
        last = change.server or "the registry"
        hosts = [
            f"{url} (with the cluster's token)" if url in change.with_token else url for url in change.hosts
        ]
        print(f"    containerd asks {', then '.join((*hosts, last))}")
    for remark in change.remarks:
        print(f"    note: {remark}")


def _say_what_containerd_does(node: "ContainerdNode", release: str) -> None:
    advice = node.advice(release)
    if advice.used:
        print(f"{advice.why}: from the next pull on, without a restart.")
        return
    lines = "\n".join(f"    {line}" if line else "" for line in advice.lines)
    verdict = "containerd does not use these files yet" if advice.used is False else "note"
    print(f"{verdict}: {advice.why}.\n{advice.where}:\n\n{lines}\n")
    if advice.then:
        print(f"{advice.then}. Nothing here restarts containerd.")


def _write_drop_in(
    arguments: argparse.Namespace, node: "ContainerdNode", release: str
) -> "tuple[ContainerdNode, bool]":
    """Write the drop-in if containerd needs one. Returns the node as it is then, and whether all is well."""
    from agent.hosts.dropin import plan_drop_in
    from agent.hosts.dropinfile import first_line, write_drop_in
    from agent.hosts.shown import diff

    if node.advice(release).used:
        return node, True
    lines = {file.path: first_line(node.tree, file.path) for file in node.config.files}
    drop_in = plan_drop_in(node.config, node.certs_d, node.flavour, release=release, first_lines=lines)
    if drop_in.path is None:
        print_problem(f"no drop-in is written: {drop_in.why_not}", "write the lines below by hand")
        return node, False
    if arguments.dry_run:
        print(diff(str(drop_in.path), None, drop_in.text.encode()), end="")
        return node, True
    try:
        write_drop_in(node.tree, drop_in.path, drop_in.text)
    except OSError as error:
        print_problem(f"{drop_in.path}: {error.strerror or error}", "write the lines below by hand")
        return node, False
    print(f"{drop_in.path} is written: it counts when containerd is restarted ({node.flavour.restart})")
    return find_node(arguments), True


def _mirror(arguments: argparse.Namespace, release: str) -> "Mirror":
    from agent.hosts.mirror import CAPABILITIES, Mirror, is_duration

    capabilities = _list(arguments.capabilities, CAPABILITIES, "--capabilities")
    timeout = "" if arguments.dial_timeout in ("", "0") else arguments.dial_timeout
    if timeout and not is_duration(timeout):
        raise CommandError(
            f"--dial-timeout {timeout} is not a time", hint="write for example 1s or 500ms", status=2
        )
    endpoints = _endpoints(arguments, release)
    keys = _keys(arguments)
    closed = tuple(each for each, name in endpoints.items() if name != "hostport" or arguments.pod_network)
    if closed and keys is None:
        print(f"note: {closed[0]} gets no token without --key-file; agents with a key answer 401 there")
    return Mirror(
        endpoints=tuple(endpoints),
        capabilities=capabilities,
        dial_timeout=timeout,
        token=keys.service_tokens[0] if keys else "",
        closed=closed,
    )


def _keys(arguments: argparse.Namespace) -> "KeyRing | None":
    """The cluster's keys, if their file is named. Raises `CommandError`."""
    from agent.keyring import KeysInvalid, read_keys

    if arguments.key_file is None:
        return None
    try:
        return read_keys(arguments.key_file)
    except KeysInvalid as error:
        raise CommandError(f"--key-file {arguments.key_file}: {error}", hint=error.hint) from error


def _endpoints(arguments: argparse.Namespace, release: str) -> "dict[Endpoint, str]":
    """What containerd is to ask, in order, and what each is."""
    import ipaddress

    from agent.config.values import InvalidValue, parse_endpoint

    given = {name: getattr(arguments, name) for name in _NAMES}
    names = [name for name in _NAMES if given[name]]
    if arguments.endpoints is not None:
        names = list(_list(arguments.endpoints, _NAMES, "--endpoints"))
    found: dict[Endpoint, str] = {}
    for name in names:
        if not given[name]:
            raise CommandError(
                f"--endpoints has {name}, and there is no --{name}", hint=f"write --{name} IP:PORT", status=2
            )
        try:
            endpoint = parse_endpoint(given[name])
        except InvalidValue as error:
            raise CommandError(f"--{name}: {error}", hint=error.hint, status=2) from error
        if ":" in endpoint.host and release != "2.x":
            print_problem(
                f"--{name} {endpoint} is left out: containerd 1.6 and 1.7 drop a file with an IPv6 address",
                "say --containerd-version 2.1 if that is what runs here",
            )
            continue
        found.setdefault(endpoint, name)
        if name == "nodeport" and ipaddress.ip_address(endpoint.host).is_loopback:
            print(f"note: kube-proxy in nftables mode refuses {endpoint}; write this node's own address")
    if not found:
        raise CommandError("no endpoint is left", hint="write --hostport 127.0.0.1:30020")
    if next(iter(found.values())) != "hostport":
        print(f"note: {next(iter(found.values()))} comes first, so pulls go through kube-proxy")
    return found


def _registries(values: list[str], option: str) -> tuple[str, ...]:
    from agent.hosts.plan import DEFAULT
    from agent.oci.errors import NameInvalid
    from agent.oci.registry import DOCKER_HUB, parse_registry

    found: dict[str, None] = {}
    for name in (part.strip() for value in values for part in value.split(",")):
        if name in ("", DEFAULT):
            continue
        try:
            parsed = parse_registry(name)
        except NameInvalid as error:
            raise CommandError(
                f"{option} {name[:80]!r} is not a registry", hint="write HOST or HOST:PORT", status=2
            ) from error
        # The directory has the name as images have it: containerd does not drop a port 443.
        found[DOCKER_HUB if parsed == DOCKER_HUB else name.lower()] = None
    if found and any(DEFAULT in value.split(",") for value in values):
        return ()
    return tuple(found)


def _list(text: str, known: tuple[str, ...], option: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        what = f"has {unknown[0]!r}" if unknown else "is empty"
        more = (
            "; other capabilities make containerd drop the file"
            if option == "--capabilities" and unknown
            else ""
        )
        raise CommandError(f"{option} {what}", hint=f"write some of {','.join(known)}{more}", status=2)
    return names


def _release(arguments: argparse.Namespace, node: "ContainerdNode") -> str:
    """``1.x`` or ``2.x``, or nothing if it is not known."""
    text = arguments.containerd_version.removeprefix("v")
    if text:
        major = text.partition(".")[0]
        if major not in ("1", "2"):
            raise CommandError(
                f"--containerd-version {text[:40]!r} is not one",
                hint="write for example 1.7 or 2.1",
                status=2,
            )
        return f"{major}.x"
    return "2.x" if node.config.files and node.config.version > 2 else ""
