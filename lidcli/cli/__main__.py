"""`python -m lidcli.cli`, the same as `lid`."""

from lidcli.cli import main

main()
