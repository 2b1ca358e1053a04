"""``python -m ipyasyncresult.testing.stubhub``: a hub whose engines are stubs."""

from __future__ import annotations

from ipyasyncresult.hub import nurseryprocess
from ipyasyncresult.hub.__main__ import main

__all__ = ["main"]

if __name__ == "__main__":
    nurseryprocess.NURSERY = "ipyasyncresult.testing.stubengines"
    main()
