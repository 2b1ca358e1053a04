"""``%autopx`` as IPython sees it: a transformer of cells."""

from __future__ import annotations

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from ipyasyncresult.magics.autopx import AutoPx


@pytest.fixture
def transforms() -> TransformerManager:
    manager = TransformerManager()
    manager.cleanup_transforms.append(AutoPx())
    return manager


@pytest.mark.parametrize(
    "cell", ["x = 1", "\n\n  x = 1\n  y = 2\n", "%time x", "%%time\nx", "!ls", "x?", "# note", "px"]
)
def test_a_cell_goes_to_the_engines_as_a_whole(transforms: TransformerManager, cell: str) -> None:
    assert transforms.transform_cell(cell).startswith("get_ipython().run_cell_magic('px', '', ")


def test_the_code_is_sent_as_it_was_written(transforms: TransformerManager) -> None:
    assert r"'%time x = 1\n!ls\n'" in transforms.transform_cell("%time x = 1\n!ls")


@pytest.mark.parametrize(
    "cell",
    [
        "",
        "\n  \n",
        "%autopx",
        "autopx",
        "  %autopx\n",
        "%px x",
        "%%px -t 0\nx",
        "%pxresult",
        "%px_b x",
    ],
)
def test_px_and_its_family_keep_their_meaning(transforms: TransformerManager, cell: str) -> None:
    assert transforms.transform_cell(cell) == TransformerManager().transform_cell(cell)


@pytest.mark.parametrize("cell", ["x = 1", "for i in x:", "f(", "x = = 1"])
def test_a_cell_is_as_complete_as_without(transforms: TransformerManager, cell: str) -> None:
    assert transforms.check_complete(cell) == TransformerManager().check_complete(cell)


def test_a_view_with_a_suffix_gets_its_cells() -> None:
    assert AutoPx("_big")(["x\n"]) == ["%%px_big\n", "x\n"]
