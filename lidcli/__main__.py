"""`lid`, and `python -m lidcli`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an interrupt while it is still being imported is one as later."""
    try:
        from lidcli.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("lid: interrupted.\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
