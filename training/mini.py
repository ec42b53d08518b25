"""The whole of ``make train-mini``: from nothing to a model folder with its evaluation.

Stages: text encoders, autoencoder, transformer, export, evaluation. Each leaves its outcome under ``--out`` and is
passed over when it is there; one that was interrupted goes on where it last saved. Minutes are of work, so that a run
may be spread over several sittings.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

from training import autoencoder, evaluation, text_encoders
from training import train as transformer
from training.export import export
from training.report import supported_in, write_documents
from training.transformer import CONFIG


def main() -> None:
    """Train the mini model, or go on with it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/mini"))
    parser.add_argument("--text-minutes", type=float, default=24)
    parser.add_argument("--decoder-minutes", type=float, default=9)
    parser.add_argument("--transformer-minutes", type=float, default=110)
    parser.add_argument("--start", type=Path, help="checkpoint or exported model whose transformer to begin with")
    parser.add_argument("--pictures", type=int, help="evaluate on fewer pictures than all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--install", action="store_true", help="put model and documents into their places here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    out: Path = options.out

    if not (out / "text" / "report.json").exists():
        text_encoders.train(out / "text", minutes=options.text_minutes, seed=options.seed)
    if not (out / "vae" / "config.json").exists():
        autoencoder.train(out / "vae", minutes=options.decoder_minutes, seed=options.seed)

    recipe = transformer.Recipe(options.transformer_minutes, options.seed)
    folder = out / "transformer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({**asdict(recipe), "config": asdict(CONFIG)}, indent=1) + "\n")
    gains = torch.load(out / "vae" / "gains.pt", weights_only=True)["gains"]
    transformer.train(recipe, folder, gains=gains, text_folder=out / "text", start=options.start)

    parts = {"transformer": folder / "transformer.pt", "vae": out / "vae", "text": out / "text"}
    export(**parts, out=out / "model")
    report = evaluation.run(out / "model", out / "evaluation", pictures_max=options.pictures)
    export(**parts, out=out / "model", supported=supported_in(report))
    if options.install:
        write_documents(out / "model", out / "evaluation")


if __name__ == "__main__":
    main()
