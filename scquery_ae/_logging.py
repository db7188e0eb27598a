"""The package's logger. It says once, at the end of each call, what was written where."""

from __future__ import annotations

import logging

logger = logging.getLogger("scquery_ae")
