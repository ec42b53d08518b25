"""What each measure that trades quality brings and costs: against the exact edit of the same request, one by one and as
the presets have them.

    make bench-quality                              the mini model at two settings, and the recorded runs where they are
    python benchmarks/quality.py --recorded         the recorded runs alone, with 28 steps; their own are too few
    python benchmarks/quality.py --edits 2 --quick  a few edits, presets only
    python benchmarks/quality.py --strip out.jpg    one edit in all qualities, side by side
    python benchmarks/quality.py --quantizations    weights in fewer bits instead of less work
    python benchmarks/quality.py --float8 --model HiDream-ai/HiDream-E1-Full --photos *.jpg    on a GPU

Speed is the ratio of the process's CPU seconds (on a GPU: of seconds until the device is done), measured and exact edit
in turns, the median over the edits. Distance is PSNR and SSIM between the pictures of both. LPIPS is not measured: its
weights are part of no package. Prints tables; whoever runs it puts the numbers into benchmarks/LOG.md and
docs/concepts/quality.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from tests.engine.conftest import golden_cases
from training.evaluation import held_out_pictures

from hidream_edit.domain.edit import EditInput
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quality import Quality
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.quality.presets import TRADES, Trades
from hidream_edit.engine.state import EditState
from hidream_edit.pictures.compare import side_by_side
from hidream_edit.pictures.convert import picture_of
from hidream_edit.pictures.encode import encode

HOSTED = {"num_inference_steps": 28, "guidance_scale": 3.5, "image_guidance_scale": 2.0, "normed_guidance": True}
SAME = 99.0  # stands for two equal pictures, whose PSNR has no bound
MEASURES: dict[str, Trades] = {
    **{
        f"step cache, tolerance {tolerance:g}, up to {skips_max} in a row": Trades(tolerance, skips_max)
        for tolerance, skips_max in ((0.1, 3), (0.3, 3), (1.0, 5))
    },
    **{f"guidance every {every}. step": Trades(1.0, guided_every=every) for every in (2, 4)},
    "float8": Trades(float8=True),
}
# Without float8, which on a CPU is slower: what the presets are where a server does not ask for it.
PRESETS = {quality.value: replace(TRADES[quality], float8=False) for quality in (Quality.BALANCED, Quality.TURBO)}


@dataclass
class Column:
    """What was found for one measure."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    branches: list[float] = field(default_factory=list)

    def row(self, name: str) -> str:
        middle = statistics.median
        return (
            f"| {name} | {middle(self.steps):.0%} | {middle(self.branches):.0%} | {middle(self.speed):.2f} | "
            f"{self.distances()} |"
        )

    def distances(self) -> str:
        middle = statistics.median
        return f"{min(self.psnr):.1f} | {middle(self.psnr):.1f} | {min(self.ssim):.4f} | {middle(self.ssim):.4f}"


HEAD = (
    "| measure | steps computed | branches computed | times as fast | PSNR, worst | PSNR, median | SSIM, worst | "
    "SSIM, median |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Request:
    """One edit to make exactly and otherwise."""

    source: Picture
    edit_input: EditInput


def requests_of(engine: Engine, count: int, fields: dict[str, object], photos: list[Path]) -> Iterator[Request]:
    """Edits of held-out pictures in words that the model knows, spread over its vocabulary."""
    if photos:
        pictures = [picture_of(Image.open(path).convert("RGB")) for path in photos]
    else:
        pictures = [of_pixels(pixels) for pixels in held_out_pictures(engine.model.working_size)]
    examples = engine.model.examples
    for number in range(count):
        words = examples[number * len(examples) // count]
        edit_input = EditInput(edit_instruction=words, seed=100 + number, **fields)  # type: ignore[arg-type]
        yield Request(pictures[(5 * number) % len(pictures)], edit_input)


def of_pixels(pixels: np.ndarray) -> Picture:
    bytes_of = (pixels * 255).round().astype(np.uint8)
    return Picture(bytes_of.shape[1], bytes_of.shape[0], bytes_of.tobytes())


def edited(engine: Engine, request: Request, trades: Trades | None) -> tuple[EditState, float]:
    """The finished edit, and the seconds that its steps took."""
    quality = Quality.EXACT if trades is None else Quality.TURBO
    if trades is not None:
        engine.trades = {**TRADES, quality: trades}
    settings = engine.settle(request.edit_input)
    state = engine.begin(request.source, type(settings)(**{**settings.as_json(), "quality": quality}))
    on_gpu = engine.device.startswith("cuda")
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    *_, state = engine.steps(state)
    if on_gpu:
        torch.cuda.synchronize()
    return state, clock() - began


def pixels_of(state: EditState) -> np.ndarray:
    picture = state.pictures[0]
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)


def distances(ours: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """PSNR in dB and SSIM."""
    error = float(np.mean((ours.astype(float) - exact.astype(float)) ** 2))
    if error == 0:
        return SAME, 1.0
    smallest = min(7, *ours.shape[:2])
    similarity = structural_similarity(ours, exact, channel_axis=2, win_size=smallest - 1 + smallest % 2)
    return 10 * np.log10(255**2 / error), float(similarity)


Columns = dict[str, Column]


def compare(
    engine: Engine, requests: list[Request], measures: dict[str, Trades], columns: Columns | None = None
) -> Columns:
    """Each measure beside the exact edit, in turns; added to ``columns`` where there are some."""
    columns = {name: Column() for name in measures} if columns is None else columns
    edited(engine, requests[0], None)  # the first one builds what later ones find built
    for request in requests:
        exact, seconds = edited(engine, request, None)
        for number, (name, trades) in enumerate(measures.items()):
            if number % 4 == 3:  # the machine may have become slower or faster
                exact, seconds = edited(engine, request, None)
            state, taken = edited(engine, request, trades)
            traded, column = state.traded, columns[name]
            assert traded is not None
            psnr, ssim = distances(pixels_of(state), pixels_of(exact))
            column.psnr.append(psnr)
            column.ssim.append(ssim)
            column.speed.append(seconds / taken)
            column.steps.append(traded.steps_computed / traded.steps)
            column.branches.append(traded.branches_computed / traded.branches)
        print(f"measured {request.edit_input.edit_instruction!r}", file=sys.stderr, flush=True)
    return columns


def show_recorded_runs(measures: dict[str, Trades]) -> None:
    """Their weights, which are random, and their requests with so many steps that some can be left out."""
    columns: Columns = {name: Column() for name in measures}
    with tempfile.TemporaryDirectory() as folder:
        for case in golden_cases():
            engine = case.engine(Path(folder) / case.name, float8="emulated")
            edit_input = replace(case.edit_input(), num_inference_steps=HOSTED["num_inference_steps"])
            compare(engine, [Request(case.source(), edit_input)], measures, columns)
    if any(column.psnr for column in columns.values()):
        shown("the recorded runs, 28 steps", columns)


def shown(title: str, columns: Columns) -> None:
    print(f"\n## {title}\n\n{HEAD}", *(column.row(name) for name, column in columns.items()), sep="\n", flush=True)


WEIGHTS_HEAD = (
    "| weights | MB of the model | times as fast | PSNR, worst | PSNR, median | SSIM, worst | SSIM, median |\n"
    "|---|---|---|---|---|---|---|"
)


def show_quantizations(options: argparse.Namespace, exact_engine: Engine, fields: dict[str, object]) -> None:
    """A table of weights in fewer bits beside the exact edit, in turns."""
    print(f"\n{WEIGHTS_HEAD}\n| as they are | {exact_engine.plan.sizes.weights / 1e6:.1f} | | | | | |", flush=True)
    requests = list(requests_of(exact_engine, options.edits, fields, options.photos))
    for kept in (kept for kept in Quantization if kept is not Quantization.NONE):
        engine, column = Engine.load(options.model, quantization=kept.value), Column()
        for one in (exact_engine, engine):
            edited(one, requests[0], None)
        for request in requests:
            exact, seconds = edited(exact_engine, request, None)
            state, taken = edited(engine, request, None)
            psnr, ssim = distances(pixels_of(state), pixels_of(exact))
            column.psnr.append(psnr)
            column.ssim.append(ssim)
            column.speed.append(seconds / taken)
        size, speed = engine.plan.sizes.weights / 1e6, statistics.median(column.speed)
        print(f"| {kept.value} | {size:.1f} | {speed:.2f} | {column.distances()} |", flush=True)


def strip(engine: Engine, photo: Path, instruction: str, path: Path) -> None:
    """One edit in all qualities, side by side."""
    source = picture_of(Image.open(photo).convert("RGB"))
    pictures, captions = [source], ["source"]
    for quality in Quality:
        edit_input = EditInput(edit_instruction=instruction, seed=7, quality=quality, **HOSTED)  # type: ignore[arg-type]
        *_, state = engine.steps(engine.begin(source, engine.settle(edit_input)))
        traded, step_count = state.traded, state.step_count
        computed = step_count if traded is None else traded.steps_computed
        pictures.append(state.pictures[0])
        captions.append(f"{quality}, {computed} of {step_count} steps")
    path.write_bytes(encode(side_by_side(pictures, captions), "jpeg"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--edits", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the presets only")
    parser.add_argument("--model", help="a folder or hub id; the bundled mini model when left out")
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--float8", action="store_true", help="float8 on the GPU; on a CPU it is emulated")
    parser.add_argument("--quantizations", action="store_true", help="weights in fewer bits, and nothing else")
    parser.add_argument("--recorded", action="store_true", help="the recorded runs, and nothing else")
    parser.add_argument("--strip", type=Path)
    parser.add_argument("--instruction", default="make it look like a rainy night")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    on_gpu = torch.cuda.is_available()
    if options.recorded:
        show_recorded_runs(MEASURES | PRESETS)
        return
    if options.quantizations:
        exact_engine = Engine.load(options.model)
        for title, fields in (("28 steps, guidance 3.5 and 2", HOSTED), ("the model's own settings", {})):
            print(f"\n## {exact_engine.model.name} on {exact_engine.device}, {title}")
            show_quantizations(options, exact_engine, fields)
        return
    engine = Engine.load(options.model, float8=options.float8 if on_gpu else "emulated")
    if options.strip:
        strip(engine, Path(__file__).parents[1] / "examples" / "photo.jpg", options.instruction, options.strip)
        return
    measures = PRESETS if options.quick else MEASURES | PRESETS
    if on_gpu and options.float8:
        measures |= {f"{quality} and float8": TRADES[quality] for quality in (Quality.BALANCED, Quality.TURBO)}
    elif on_gpu:
        measures = {name: trades for name, trades in measures.items() if name != "float8"}
    print(json.dumps({"torch": torch.__version__, "device": engine.device, "edits": options.edits}), flush=True)
    for title, fields in (("28 steps, guidance 3.5 and 2", HOSTED), ("the model's own settings", {})):
        requests = list(requests_of(engine, options.edits, fields, options.photos))
        shown(f"{engine.model.name}, {title}", compare(engine, requests, measures))
    if options.model is None:
        show_recorded_runs(measures)


if __name__ == "__main__":
    main()
