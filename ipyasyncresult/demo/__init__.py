"""Real work to look at: Python's own library, measured in parallel.

``python -m ipyasyncresult.demo`` runs it in a terminal, ``notebooks/quickstart.ipynb`` in Jupyter.
"""
