"""TF_CONFIG: what is understood, what is refused, and waiting for the other workers."""

import json
import socket
import threading

import pytest

from mvit_tf.errors import UserError
from mvit_tf.training.distributed.cluster import Cluster, read_cluster, wait_for_workers
from tests.training.two_workers import free_ports, tf_config


def read(monkeypatch, config):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    return read_cluster()


def test_no_cluster_where_one_machine_trains(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert read_cluster() is None
    for config in ("", "{}", tf_config([5000], 0), {"cluster": {"chief": ["a:1"]}}):
        assert read(monkeypatch, config) is None


def test_a_chief_comes_before_the_workers(monkeypatch):
    cluster = {"worker": ["b:2", "c:3"], "chief": ["a:1"]}
    for task, index in (("chief", 0), 0), (("worker", 0), 1), (("worker", "1"), 2):
        task = {"type": task[0], "index": task[1]}
        found = read(monkeypatch, {"cluster": cluster, "task": task})
        assert found == Cluster(("a:1", "b:2", "c:3"), index)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{'cluster': 1}", r"TF_CONFIG is not JSON \(.*\): .*it has the form"),
        ("[1]", "it has the form"),
        (tf_config([1, 2], 2), "task.index=2 must be from 0 to 1"),
        (tf_config([1, 2], None), "task.index=None must be from 0 to 1"),
        (tf_config([1, 2], True), "task.index=True must be from 0 to 1"),
        (tf_config([1, 2], 0, type="chief"), "task.type='chief' must be 'worker'"),
        (tf_config([1, 1], 0), "names 127.0.0.1:1 twice"),
        ({"cluster": {"worker": ["a", "b:1"]}}, "holds 'a', which is no HOST:PORT"),
        ({"cluster": {"worker": "a:1"}}, "cluster.worker must be a list"),
        ({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}, "tasks of the type 'ps'"),
    ],
)
def test_what_is_refused(monkeypatch, config, message):
    with pytest.raises(UserError, match=message):
        read(monkeypatch, config)


def test_workers_find_each_other():
    ports = free_ports(3)
    addresses = tuple(f"127.0.0.1:{port}" for port in ports)
    threads = [
        threading.Thread(target=wait_for_workers, args=(Cluster(addresses, index), 30))
        for index in range(2)
    ]
    for thread in threads:
        thread.start()
    threads[0].join(1)
    assert all(thread.is_alive() for thread in threads)
    with socket.create_server(("127.0.0.1", ports[2])):  # the third
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


def test_a_worker_that_is_not_there_is_named():
    ports = free_ports(3)
    with (
        socket.create_server(("127.0.0.1", ports[2])),
        pytest.raises(
            UserError, match=rf"after 0.1 s .*: worker 1 \(127.0.0.1:{ports[1]}\); start"
        ),
    ):
        wait_for_workers(Cluster(tuple(f"127.0.0.1:{port}" for port in ports), 0), 0.1)


def test_an_own_port_that_is_taken_is_told_at_once():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} of worker 0 .* is taken"):
            wait_for_workers(Cluster((f"127.0.0.1:{port}", "127.0.0.1:1"), 0), 30)
