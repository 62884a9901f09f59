"""The record of a request that failed, or whose client left."""

import time

import pytest
from aiohttp.test_utils import make_mocked_request

from agent.listen.caller import Caller
from agent.listen.exchange import Exchange
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord, Result
from agent.oci.errors import (
    BlobUnknown,
    Internal,
    OciError,
    Overloaded,
    RangeInvalid,
    TooManyRequests,
    Unavailable,
    Unsupported,
)


def exchange(*, status: int = 0, body_bytes: int = 0, body_length: int = 0) -> Exchange:
    record = RequestRecord(path=RequestPath.HOSTPORT, method="GET")
    record.status, record.body_bytes, record.body_length = status, body_bytes, body_length
    return Exchange(
        request=make_mocked_request("GET", "/v2/"),
        caller=Caller(listener=RequestPath.HOSTPORT, address="127.0.0.1", cookie=1, connected_s=0.0),
        record=record,
        started_s=0.0,
        send_stall_s=1.0,
        metrics=Metrics(),
        clock=time.monotonic,
    )


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (BlobUnknown("?"), Result.NOT_FOUND),
        (TooManyRequests("busy", wait_s=1.0), Result.BUSY),
        (Overloaded("busy", wait_s=1.0), Result.BUSY),
        (Unavailable("no store"), Result.UNAVAILABLE),
        (RangeInvalid("?"), Result.REJECTED),
        (Unsupported("?"), Result.REJECTED),
        (Internal("?"), Result.ERROR),
    ],
)
def test_error_is_recorded_by_what_the_client_does_about_it(error: OciError, result: Result) -> None:
    ended = exchange()
    ended.failed(error)
    assert (ended.record.result, ended.record.status) == (result, error.status)
    assert ended.record.reason == error.message


@pytest.mark.parametrize("stopping", [False, True])
def test_client_that_leaves_with_all_bytes_is_no_failure(stopping: bool) -> None:
    ended = exchange(status=200, body_bytes=5, body_length=5)
    ended.client_left(stopping=stopping)
    assert ended.record.result is Result.OK


@pytest.mark.parametrize(("stopping", "result"), [(False, Result.CLIENT_GONE), (True, Result.CUT)])
@pytest.mark.parametrize(("status", "body_bytes"), [(0, 0), (200, 4)])
def test_client_without_all_bytes_left_or_was_cut_by_the_stopping_agent(
    status: int, body_bytes: int, stopping: bool, result: Result
) -> None:
    ended = exchange(status=status, body_bytes=body_bytes, body_length=5 if status else 0)
    ended.client_left(stopping=stopping)
    assert ended.record.result is result
