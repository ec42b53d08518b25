"""What is done before a runner says that it is ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.edit_request import ImageMade, Progress, StepDone
from hidream_edit.domain.picture import Picture
from hidream_edit.pictures.isolated import PicturesHere
from hidream_edit.testing import NullEngine
from hidream_edit.wiring.runner import warm_up


def test_everything_that_a_request_will_need_was_used_once() -> None:
    used: list[str] = []

    class Engine(NullEngine):
        def edit(self, source: Picture, edit_input: EditInput) -> Iterator[Progress]:
            used.append(f"engine, {edit_input.num_inference_steps} step")
            for progress in super().edit(source, edit_input):
                if isinstance(progress, StepDone):
                    progress = StepDone(1, 1, lambda: used.append("preview"))  # type: ignore[func-returns-value, arg-type, return-value]
                elif isinstance(progress, ImageMade):
                    progress = ImageMade(lambda: used.append("finish"))  # type: ignore[func-returns-value, arg-type, return-value]
                yield progress

    class Children(PicturesHere):
        def decode(self, data: bytes) -> Picture:
            used.append("decode")
            return super().decode(data)

    class Checker:
        name = "checker"

        def flagged(self, pictures: Sequence[Picture]) -> list[bool]:
            used.append("checker")
            return [False for _ in pictures]

    warm_up(Engine(), Children(), Checker())
    assert used == ["decode", "engine, 1 step", "preview", "finish", "checker"]
    used.clear()
    warm_up(Engine(), Children(), None)
    assert used == ["decode", "engine, 1 step", "preview", "finish"]
