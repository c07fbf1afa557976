"""`python -m muster` is the command `muster`."""

import sys

from ._cli import main

sys.exit(main())
