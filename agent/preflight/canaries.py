"""What the probe's last canaries met, one line for each endpoint that containerd uses. Pure."""

from agent.documents.flows import CanaryEntry, FlowsDocument
from agent.flows.verdicts import EndpointName, Verdict
from agent.preflight.answering import spelled
from agent.preflight.check import Check, bad, good, shown, unknown, warn
from agent.preflight.gather import Unknown

NAME = "the proof"
_VERIFY = "`shorthaul verify`, where the probe has its rights, shows each connection"
_AS_IT_SHOULD = {
    EndpointName.HOSTPORT.value: (Verdict.DIRECT.value, Verdict.HOSTPORT_NAT.value),
}
_BROKEN = (Verdict.FAILED.value, Verdict.PROXIED.value)


def canaries(flows: FlowsDocument | Unknown) -> tuple[Check, ...]:
    """The probe's verdict on each endpoint, and whether the local path is proved."""
    if isinstance(flows, Unknown):
        return (unknown(NAME, flows.why),)
    if not flows.probe:
        return (unknown(NAME, "no probe is connected to this agent", hint="start `shorthaul probe`"),)
    if flows.proved:
        summary = good(NAME, shown(flows.why, 300))
    else:
        summary = warn(NAME, f"the local path is not proved: {shown(flows.why, 300)}", hint=_VERIFY)
    return (summary, *(_verdict(each) for each in flows.canaries))


def _verdict(canary: CanaryEntry) -> Check:
    name, is_host_port = f"to the {spelled(canary.endpoint)}", canary.endpoint == EndpointName.HOSTPORT.value
    by = f", {shown(canary.answered_by, 60)}'s agent answered" if canary.answered_by else ""
    detail = f"{canary.address}: {canary.verdict}{by}: {shown(canary.reason, 200)}"
    if canary.verdict in _BROKEN:
        return bad(name, detail, hint=_VERIFY) if is_host_port else warn(name, detail, hint=_VERIFY)
    expected = _AS_IT_SHOULD.get(canary.endpoint)
    if canary.verdict == Verdict.UNKNOWN.value or (expected is not None and canary.verdict not in expected):
        return warn(name, detail, hint=_VERIFY)
    return good(name, detail)
