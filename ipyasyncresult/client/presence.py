"""Which clusters of this user are there."""

from __future__ import annotations

from ipyasyncresult.errors import HubError
from ipyasyncresult.wire.runtime import ClusterFile, is_alive, read_cluster_file, runtime_folder

__all__ = ["find_cluster", "living_clusters"]


def living_clusters() -> list[ClusterFile]:
    """The clusters whose hubs live, newest first.

    Raises
    ------
    RuntimeFolderError
        When the folder for clusters is not private.
    """
    found = [read_cluster_file(folder) for folder in runtime_folder().iterdir()]
    living = [one for one in found if one is not None and is_alive(one.pid)]
    return sorted(living, key=lambda one: one.started, reverse=True)


def find_cluster(cluster_id: str | None = None) -> ClusterFile:
    """The cluster of that id; without one, the only persistent one, or the only one.

    Raises
    ------
    HubError
        When there is none, or more than one to choose from.
    """
    living = living_clusters()
    if cluster_id is not None:
        for one in living:
            if one.cluster_id == cluster_id:
                return one
        raise HubError(f"no cluster {cluster_id!r} is running{_there_are(living)}")
    candidates = [one for one in living if one.persist] or living
    if not candidates:
        raise HubError("no cluster is running: `ipyasyncresult start` starts one")
    if len(candidates) > 1:
        raise HubError(f"say which cluster{_there_are(candidates)}")
    return candidates[0]


def _there_are(clusters: list[ClusterFile]) -> str:
    return "".join([f"; there is {one.cluster_id}" for one in clusters])
