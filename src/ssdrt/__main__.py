"""`python -m ssdrt`."""

import sys

from ssdrt.cli import main

sys.exit(main())
