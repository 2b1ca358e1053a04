"""For tests of code that uses results: a client whose engines are you, and a clock wound by hand.

No process, no socket, no thread, no waiting:

>>> from ipyasyncresult.testing import FakeClient
>>> client = FakeClient()
>>> ar = client.submit("square", targets=[0, 1])
>>> client.finish(ar.msg_ids[0], 4)
>>> ar.progress, ar.ready()
(1, False)
"""

from __future__ import annotations

from ipyasyncresult.testing.clock import ManualClock
from ipyasyncresult.testing.fakeclient import FakeClient

__all__ = ["FakeClient", "ManualClock"]
