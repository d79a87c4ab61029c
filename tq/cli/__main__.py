"""`python -m tq.cli`, where the script `tq` is not on the path."""

from tq.cli import main

main()
