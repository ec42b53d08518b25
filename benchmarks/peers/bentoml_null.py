"""BentoML with a model that does nothing: `bentoml serve bentoml_null:Null --port PORT`."""

from __future__ import annotations

from typing import Any

import bentoml


@bentoml.service(workers=1)
class Null:
    """Answers at once."""

    @bentoml.api
    def predict(self, image_url: str, edit_instruction: str, num_inference_steps: int, seed: int) -> dict[str, Any]:
        """Nothing is edited."""
        del image_url, edit_instruction, num_inference_steps
        return {"images": [], "seed": seed}
