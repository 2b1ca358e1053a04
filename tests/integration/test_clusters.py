"""Clusters from outside: listed, stopped, and what they left on disk."""

from __future__ import annotations

import gc
import os
import signal
import time

import psutil
import pytest

import ipyasyncresult as ipar
from ipyasyncresult.client.clusters import list_clusters, stop_cluster
from ipyasyncresult.errors import HubError
from ipyasyncresult.wire.runtime import cluster_folder, ends_within
from tests.integration.conftest import hub_of, processes_of


def test_a_living_cluster_is_listed_and_can_be_stopped() -> None:
    client = ipar.Cluster(n=1, persist=True).start_and_connect_sync()
    processes = processes_of(client)
    [listed] = [one for one in list_clusters() if one.cluster_id == client.cluster_id]
    assert listed.persist
    assert listed.pid == processes[0].pid
    pending = client[0].apply_async(time.sleep, 60)
    stop_cluster(client.cluster_id)
    with pytest.raises(HubError):
        pending.get(timeout=30)
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert client.cluster_id not in [one.cluster_id for one in list_clusters()]
    with pytest.raises(HubError, match="no cluster"):
        stop_cluster(client.cluster_id)
    client.close()


def test_a_cluster_whose_hub_does_not_answer_is_killed() -> None:
    client = ipar.Cluster(n=1, persist=True).start_and_connect_sync()
    processes = processes_of(client)
    os.kill(processes[0].pid, signal.SIGSTOP)
    stop_cluster(client.cluster_id, timeout=0.2)
    _, alive = psutil.wait_procs(processes, timeout=5)
    assert alive == []
    assert not cluster_folder(client.cluster_id).exists()
    client.close()


def test_a_hub_that_outlived_its_cluster_does_not_stay_as_a_zombie() -> None:
    client = ipar.Cluster(n=0, persist=True).start_and_connect_sync()
    hub, cluster_id = hub_of(client), client.cluster_id
    client.close()
    del client
    gc.collect()  # its Cluster goes, too
    stop_cluster(cluster_id)
    assert ends_within(hub.pid, 10)
    assert hub.status() == psutil.STATUS_ZOMBIE
    with ipar.Cluster(n=0):
        assert not hub.is_running()
