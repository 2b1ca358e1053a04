"""Names of ipyparallel do here what notebooks written for it expect."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ipyasyncresult import Client, Cluster
from ipyasyncresult.errors import CompositeError, HubError, RemoteError


def test_flags_of_a_view_stay_set_and_come_with_its_making(client: Client) -> None:
    view = client[:].set_flags(block=True, label="mine")
    assert view.apply(abs, -1) == [1] * len(client)
    assert client.load_balanced_view(block=True).apply(abs, -1) == 1
    assert client.direct_view(0, block=True).apply(abs, -2) == 2
    with pytest.raises(AttributeError, match="blokc"):
        view.set_flags(blokc=True)


def test_new_views_block_as_the_client_says(client: Client) -> None:
    client.block = True
    try:
        assert client[0].apply(abs, -3) == 3
        assert client.load_balanced_view().apply(abs, -3) == 3
    finally:
        client.block = False


def test_a_view_has_as_many_members_as_engines_and_is_true_without_any(client: Client) -> None:
    assert len(client[:]) == len(client.load_balanced_view()) == len(client)
    assert len(client[0]) == 1
    assert len(client.broadcast_view(is_coalescing=True)) == len(client)
    with Cluster(n=0) as empty:
        assert empty.load_balanced_view()
        assert not len(empty.load_balanced_view())


def test_a_client_is_iterated_over_engine_by_engine(client: Client) -> None:
    pids = [view.apply_sync(os.getpid) for view in client]
    assert pids == client[:].apply_sync(os.getpid)


def test_a_call_may_have_its_own_label(client: Client) -> None:
    view = client[:]
    view.label = "of the view"
    assert set(view.execute("1", label="a cell").label) == {"a cell"}
    assert set(view.execute("1").label) == {"of the view"}
    assert set(view.map_async(abs, range(3), label="a map").label) == {"a map"}
    assert client.load_balanced_view().map_async(abs, [1], label="one").label == ["one"]


def test_a_direct_view_maps_as_an_iterator(client: Client) -> None:
    assert list(client[:].imap(abs, [-1, -2, -3, -4])) == [1, 2, 3, 4]


def test_the_importer_of_a_view_imports_on_the_engines(run_python: Callable[..., str]) -> None:
    printed = run_python(
        """
        import ipyasyncresult as ipar
        with ipar.Cluster(n=1) as client:
            view = client[:]
            view.use_cloudpickle()
            with view.importer:
                import colorsys
            print(view.pull("colorsys.__name__", block=True))
        """
    )
    assert printed.splitlines()[-1] == "['colorsys']"


def test_a_client_waits_for_all_it_submitted_with_a_bar(client: Client) -> None:
    results = [client.load_balanced_view().apply_async(abs, -n) for n in range(20)]
    client.wait_interactive()
    assert all(result.ready() for result in results)
    client.wait_interactive(results[:3], timeout=10)


def test_errors_tell_what_ipyparallels_tell(client: Client) -> None:
    with pytest.raises(RemoteError) as one:
        client[0].apply_sync(divmod, 1, 0)
    assert one.value.engine_info["engine_id"] == 0
    assert any("ZeroDivisionError" in line for line in one.value.render_traceback())

    with pytest.raises(CompositeError) as several:
        client[:].apply_sync(divmod, 1, 0)
    assert [entry[0] for entry in several.value.elist] == ["ZeroDivisionError"] * len(client)
    assert several.value.elist[1][3]["engine_id"] == 1
    assert any("ZeroDivisionError" in line for line in several.value.render_traceback(1))
    with pytest.raises(ZeroDivisionError):
        several.value.raise_exception(excid=1)


def test_a_client_without_an_id_joins_the_persistent_cluster() -> None:
    with pytest.raises(HubError, match="persistent"):
        Client()
    cluster = Cluster(n=1, persist=True)
    with cluster.start_and_connect_sync() as first:
        try:
            with Client() as second:
                assert second.cluster_id == first.cluster_id
                assert second[0].apply_sync(abs, -1) == 1
        finally:
            cluster.stop_cluster_sync()


async def test_a_cluster_is_started_and_connected_from_asyncio() -> None:
    cluster = await Cluster(n=1).start_cluster()
    client = await cluster.connect_client()
    client.wait_for_engines(1, timeout=30)
    assert client[0].apply_sync(abs, -1) == 1
    client.close()
    await cluster.stop_cluster()
