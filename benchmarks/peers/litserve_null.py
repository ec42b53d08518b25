"""LitServe with a model that does nothing: `python litserve_null.py PORT`."""

from __future__ import annotations

import sys
from typing import Any

import litserve


class Null(litserve.LitAPI):
    """Answers at once."""

    def setup(self, device: str) -> None:
        """Nothing to load."""
        del device

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"images": [], "seed": request["seed"]}


if __name__ == "__main__":
    server = litserve.LitServer(Null(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
