"""Write ``docs/reference/configuration.md``: every option, from its own help text.

python docs/tools/configuration.py           write the page
python docs/tools/configuration.py --check   only say whether it is up to date; exit code 1 if not
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ipyasyncresult.cli.files import all_options, options_of

__all__ = ["PAGE", "main", "page"]

PAGE = Path(__file__).parents[1] / "reference" / "configuration.md"

_HEAD = """\
# Configuration

<!-- Written by docs/tools/configuration.py from the options' own help texts. -->

Options are set as in all of Jupyter:

- in `ipyasyncresult_config.py`, in one of Jupyter's configuration folders (`jupyter --paths`).
  `ipyasyncresult config` shows which file was read and what it sets; with `--generate` it writes
  `~/.jupyter/ipyasyncresult_config.py` with every option in it, as a comment.

  ```py
  c = get_config()
  c.ClusterOptions.n = 4
  c.EngineMagics.progress_after = 0
  c.DisplayOptions.widgets = False
  ```

- on the command line: `ipyasyncresult start --ClusterOptions.n=4`.
- in a notebook, for its kernel: `%config EngineMagics.block = False`. `%pxconfig` sets the same
  options of `EngineMagics`. IPython's own `ipython_config.py` may set them, too.

What a program says (`Cluster(n=2)`, the flags of a cell) goes before all of these.
"""


def page() -> str:
    """The page as it should be."""
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    for kind in all_options():
        yield f"## {kind.__name__}\n"
        yield f"{(kind.__doc__ or '').strip().splitlines()[0]}\n"
        yield "| option | default | |"
        yield "|---|---|---|"
        for name, about in options_of(kind).items():
            yield f"| `{name}` | `{about['default']}` | {about['help'].replace('|', '&#124;')} |"
        yield ""


def main(arguments: list[str]) -> int:
    """Write or check."""
    wanted = page()
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text() == wanted:
            return 0
        print(f"{PAGE} is out of date: run python docs/tools/configuration.py", file=sys.stderr)
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
