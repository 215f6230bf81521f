"""What the load client is asked to do, as it goes to its process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Plan", "Request", "Stream", "arrival_times", "http_request"]


@dataclass(frozen=True)
class Request:
    """What is sent: method, path, the kind of its body, the body."""

    path: str
    body: bytes = b""
    content_type: str = "application/json"
    method: str = "POST"


@dataclass(frozen=True)
class Stream:
    """One kind of load among those that run at a time.

    Attributes:
        requests: numbers of the requests, sent in this order and then from the beginning again.
        connections: of a closed loop: each sends its next request when it has its answer; of an open loop the most that
            may be open, a request that finds none free waits for one, which counts as its latency.
        count: requests in all; None for no bound.
        seconds: after which nothing more is sent; None for no bound.
        rate: of an open loop: arrivals a second, at random (Poisson); None makes it a closed loop.
        seed: of the arrivals, and of who leaves.
        leave: share of the requests whose client leaves before the answer.
        leave_seconds: the longest that such a client stays.
        pause: seconds between two tries where no connection is to be had.
    """

    requests: Sequence[int]
    connections: int = 1
    count: int | None = None
    seconds: float | None = None
    rate: float | None = None
    seed: int = 0
    leave: float = 0.0
    leave_seconds: float = 0.05
    pause: float = 0.05


@dataclass(frozen=True)
class Plan:
    """What a worker reads as a line of JSON.

    Attributes:
        host: of the server, on this machine.
        port: of it.
        requests: file with whole requests of HTTP, one behind the other.
        lengths: of these.
        streams: that run side by side.
        outcome: file that is written, see `bench.serving.load.outcome`.
        patience: seconds that an answer may take.
        bodies: whether answers are kept.
    """

    host: str
    port: int
    requests: str
    lengths: Sequence[int]
    streams: Sequence[Stream]
    outcome: str
    patience: float = 300.0
    bodies: bool = True

    @staticmethod
    def read(line: str) -> Plan:
        """From a line of JSON."""
        told = json.loads(line)
        return Plan(**{**told, "streams": [Stream(**stream) for stream in told["streams"]]})


def arrival_times(rate: float, seconds: float | None, count: int | None, seed: int) -> NDArray[np.float64]:
    """Times of a Poisson process from 0 on.

    Args:
        rate: arrivals a second in the mean.
        seconds: none is later; None for no bound.
        count: of arrivals at most; None for no bound. One of the two bounds is given.
        seed: the same seed gives the same times.

    Returns:
        float64, ascending.
    """
    if seconds is None and count is None:
        raise ValueError("arrivals need a bound: seconds or a count")
    rng = np.random.default_rng(seed)
    likely = count if seconds is None else int(rate * seconds + 10 * (rate * seconds) ** 0.5 + 20)
    assert likely is not None
    times = np.cumsum(rng.exponential(1 / rate, likely))
    if seconds is not None:
        times = times[times < seconds]
    return times if count is None else times[:count]


def http_request(request: Request, host: str, port: int) -> bytes:
    """The bytes of a request of HTTP/1.1 that keeps its connection."""
    head = f"{request.method} {request.path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json\r\n"
    if request.method != "GET":
        head += f"Content-Type: {request.content_type}\r\nContent-Length: {len(request.body)}\r\n"
    return head.encode("ascii") + b"\r\n" + request.body
