"""``python -m ipyasyncresult.testing.stubhub``: a hub whose engines are stubs."""

from __future__ import annotations

from ipyasyncresult.hub import nanny
from ipyasyncresult.hub.__main__ import main

__all__ = ["main"]

if __name__ == "__main__":
    nanny.NURSERY = "ipyasyncresult.testing.stubengines"
    main()
