"""The bundled model on a CPU: from process start to the first picture, loading, an edit, and a 12-megapixel photo.

    python benchmarks/mini_edit.py [--threads 2]

Prints one JSON object; whoever runs it puts the numbers into benchmarks/LOG.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from hidream_edit.domain.edit import EditInput
from hidream_edit.engine.detail import restore_detail
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.fitting import tensor_of
from hidream_edit.pictures.convert import picture_of

PHOTO = Path(__file__).parents[1] / "examples" / "photo.jpg"
TWELVE_MEGAPIXELS = (4000, 3000)
REPEATS = 5


def median_seconds(work: object) -> float:
    """Of five runs, after one to warm up."""
    assert callable(work)
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return round(sorted(seconds)[REPEATS // 2], 3)


def first_picture_seconds() -> float:
    """A new process: everything from its start to the written file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "ignore", "-m", "hidream_edit", "edit", str(PHOTO), "make it night", "-q"]
        began = time.perf_counter()
        subprocess.run([*command, "-o", f"{folder}/out.png"], check=True, capture_output=True)
        return round(time.perf_counter() - began, 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, object] = {"threads": options.threads, "torch": torch.__version__}
    report["seconds from process start to the first picture"] = [first_picture_seconds() for _ in range(3)]
    report["seconds to load"] = median_seconds(lambda: Engine.load(device="cpu"))

    engine = Engine.load(device="cpu")
    with Image.open(PHOTO) as opened:
        photo = opened.convert("RGB")
    small, large = picture_of(photo), picture_of(photo.resize(TWELVE_MEGAPIXELS, Image.Resampling.BICUBIC))

    def edit(picture: object, **fields: object) -> None:
        settings = engine.settle(EditInput(edit_instruction="make it warm", seed=1, **fields))
        *_, _ = engine.steps(engine.begin(picture, settings))

    report["default steps"] = engine.model.defaults.num_inference_steps
    report["seconds per edit of 600x400, defaults"] = median_seconds(lambda: edit(small))
    report["seconds per edit of 12 megapixels, defaults"] = median_seconds(lambda: edit(large))
    hosted = {"num_inference_steps": 50, "guidance_scale": 3.5, "image_guidance_scale": 2.0}
    began = time.perf_counter()
    edit(small, **hosted)
    report["seconds per edit of 600x400, hosted settings"] = round(time.perf_counter() - began, 2)

    source = tensor_of(large)
    seen = tensor_of(picture_of(photo.resize((256, 256), Image.Resampling.LANCZOS))).float() / 255
    made = (seen * torch.tensor([1.15, 1.0, 0.7])).clamp(0, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report["seconds of detail alone, 12 megapixels"] = median_seconds(lambda: restore_detail(source, seen, made))
    report["MiB that its peak adds"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
