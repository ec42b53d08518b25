"""What more than one folder of tests needs."""

from __future__ import annotations

import os

# Before any library reads them: no hub, and no helper threads that outlive a test.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
