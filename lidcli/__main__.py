"""`python -m lidcli`, the same as `lid`."""

from lidcli.cli import main

main()
