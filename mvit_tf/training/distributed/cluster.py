"""The machines of a training as TF_CONFIG names them, and waiting until all of them are there."""

import contextlib
import dataclasses
import errno
import json
import os
import socket
import time
from collections.abc import Iterator

from mvit_tf.errors import UserError

# Seconds between two looks for a worker, and after which one look is given up.
_PERIOD = 0.5
_LOOK = 2.0


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers that train together.

    Attributes:
        addresses: "HOST:PORT" of each, the chief first.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int


def read_cluster() -> Cluster | None:
    """What TF_CONFIG says; `None` where it is not set or names one worker or none.

    Raises:
        UserError: it cannot be understood.
    """
    text = os.environ.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UserError(f"TF_CONFIG is not JSON ({error}): {text!r}; {_FORM}") from error
    cluster = config.get("cluster", {}) if isinstance(config, dict) else None
    task = config.get("task", {}) if isinstance(config, dict) else None
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise UserError(f"TF_CONFIG={text}: {_FORM}")
    if not cluster:
        return None
    others = sorted(set(cluster) - {"chief", "worker"})
    if others:
        raise UserError(
            f"TF_CONFIG names tasks of the type {others[0]!r}; a training has a chief and workers "
            "only, no parameter servers and no evaluator"
        )
    jobs = {name: _addresses(name, cluster.get(name, [])) for name in ("chief", "worker")}
    if len(jobs["chief"]) > 1:
        raise UserError(f"TF_CONFIG names {len(jobs['chief'])} chiefs; there is one at most")
    addresses = (*jobs["chief"], *jobs["worker"])
    twice = [address for address in addresses if addresses.count(address) > 1]
    if twice:
        raise UserError(f"TF_CONFIG names {twice[0]} twice; each worker has an address of its own")
    if len(addresses) < 2:
        return None
    kind, index = task.get("type"), task.get("index")
    if kind not in jobs or not jobs[kind]:
        named = " or ".join(repr(name) for name, job in jobs.items() if job)
        raise UserError(f"TF_CONFIG: task.type={kind!r} must be {named}; {_FORM}")
    if isinstance(index, str) and index.isdecimal():  # as shell scripts write it
        index = int(index)
    if type(index) is not int or not 0 <= index < len(jobs[kind]):
        raise UserError(
            f"TF_CONFIG: task.index={index!r} must be from 0 to {len(jobs[kind]) - 1}, the "
            f"number of a task of type {kind!r}"
        )
    return Cluster(addresses, index + (len(jobs["chief"]) if kind == "worker" else 0))


def wait_for_workers(cluster: Cluster, timeout: float):
    """Returns once every other worker is there, and holds the own port until then.

    TensorFlow's own servers, which come after this, wait for each other without an end and
    without a word.

    Args:
        timeout: seconds.

    Raises:
        UserError: the own port is taken, or a worker is not there in time; it is named.
    """
    missing = [address for place, address in enumerate(cluster.addresses) if place != cluster.index]
    end = time.monotonic() + timeout
    with _held_port(cluster):
        while True:
            missing = [address for address in missing if not _answers(address)]
            if not missing:
                return
            if time.monotonic() > end:
                numbers = ", ".join(
                    f"worker {cluster.addresses.index(address)} ({address})" for address in missing
                )
                raise UserError(
                    f"not there after {timeout:g} s (train.start_timeout): {numbers}; start the "
                    "same command on every machine of TF_CONFIG, and see that each can reach the "
                    "others' ports"
                )
            time.sleep(_PERIOD)


_FORM = (
    'it has the form {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", '
    '"index": 0}}'
)


def _addresses(job: str, addresses) -> tuple[str, ...]:
    if not isinstance(addresses, list):
        raise UserError(f"TF_CONFIG: cluster.{job} must be a list; {_FORM}")
    for address in addresses:
        host, _, port = str(address).rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(f"TF_CONFIG: cluster.{job} holds {address!r}, which is no HOST:PORT")
    return tuple(addresses)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _held_port(cluster: Cluster) -> Iterator[None]:
    """Listens on the own port, so that the others see this worker."""
    _, port = _split(cluster.addresses[cluster.index])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=dual)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise UserError(
                f"TF_CONFIG: port {port} of worker {cluster.index} cannot be used: {error.strerror}"
            ) from error
        raise UserError(
            f"TF_CONFIG: port {port} of worker {cluster.index} "
            f"({cluster.addresses[cluster.index]}) is taken by another process of this machine; "
            "end it, or give every worker another port"
        ) from error
    with server:
        yield


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(_split(address), _LOOK):
        return True
    return False
