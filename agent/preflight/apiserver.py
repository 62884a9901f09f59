"""Does the API server answer this node's agent, and may the agent see the list of its peers?"""

import asyncio
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from agent.config.settings import KubernetesSettings
from agent.members.kubernetes.client import ApiServer, Expired, Failed, access
from agent.preflight.check import Check, good, shown, unknown, warn
from agent.preflight.gather import Unknown

NAME = "the API server"
_SERVICE_LABEL = "kubernetes.io/service-name"
_AT_MOST_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFacts:
    """How the API server answered. ``problem``: why it did not well; empty. ``slices``: how many there are.

    ``ahead_s``: by how many seconds its clock is ahead of this node's. None: it did not say the time.
    """

    url: str
    problem: str = ""
    hint: str = ""
    slices: int = 0
    ahead_s: float | None = None


def look_at_api_server(settings: KubernetesSettings) -> ApiFacts:
    """Ask for the EndpointSlices that list the agents, as the agent does. Blocks for some seconds at most."""
    return asyncio.run(_look(settings))


async def _look(settings: KubernetesSettings) -> ApiFacts:
    where = access(settings.api, settings.ca_file, settings.token_file)
    path = f"/apis/discovery.k8s.io/v1/namespaces/{settings.namespace}/endpointslices"
    query = {"labelSelector": f"{_SERVICE_LABEL}={settings.service}", "limit": "1"}
    async with ApiServer(where, agent="shorthaul-doctor") as server:
        try:
            async with asyncio.timeout(_AT_MOST_S):
                answer = await server.read(path, query, kinds=("EndpointSliceList",))
        except TimeoutError:
            words = f"no answer within {_AT_MOST_S:g} s"
            return ApiFacts(url=where.url, problem=words, hint="does the network let this node reach it?")
        except Failed as error:
            return ApiFacts(url=where.url, problem=str(error), hint=error.hint, ahead_s=_ahead_s(server.date))
        except Expired as error:
            return ApiFacts(url=where.url, problem=str(error), ahead_s=_ahead_s(server.date))
    items = answer.get("items")
    count = len(items) if isinstance(items, list) else 0
    return ApiFacts(url=where.url, slices=count, ahead_s=_ahead_s(server.date))


def _ahead_s(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return None


def api_server(facts: ApiFacts | Unknown | None, service: str) -> tuple[Check, ...]:
    """Whether it answers. None: this node's list of peers comes from a file."""
    if facts is None:
        return ()
    if isinstance(facts, Unknown):
        return (unknown(NAME, facts.why),)
    where = shown(facts.url)
    if facts.problem:
        hint = facts.hint or "the API server's log says more"
        return (
            warn(
                NAME, f"{where}: {shown(facts.problem, 200)}; the peers known before stay in use", hint=hint
            ),
        )
    if not facts.slices:
        hint = "is there a Service of that name, and are the agents' pods ready? kubectl get endpointslices"
        return (warn(NAME, f"{where} answers, and there is no EndpointSlice of {service}", hint=hint),)
    return (good(NAME, f"{where} answers, and lists the agents"),)
