"""A hub whose engines are played by the test.  Found by ``python -m`` through ``PYTHONPATH``."""

from __future__ import annotations

from ipyasyncresult.hub import nurseryprocess
from ipyasyncresult.hub.__main__ import main

if __name__ == "__main__":
    nurseryprocess.NURSERY = "puppetnursery"
    main()
