"""The evaluation as documents: table and sheets of ``docs/mini-model.md``, and the model card beside the weights."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from hidream_edit.engine.known_models import BUNDLED
from training.edits import GROUPS
from training.evaluation import GAIN_DB, MEAN_DB, NEAR_BOUND_DB, WORDING_DB

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "mini-model.md"
SHEETS = ROOT / "docs" / "images" / "mini"
BEGIN, END = "<!-- measured: written by training/report.py -->", "<!-- end of measured -->"


def supported_in(report: dict[str, Any]) -> set[str]:
    """Names of the families that passed the gate."""
    return {row["family"] for row in report["families"] if row["supported"]}


def write_documents(model: Path, evaluation: Path, hosted: Path | None = None, beside: Path | None = None) -> None:
    """Put the model into the package, and its evaluation into the documents.

    ``hosted``: an evaluation with the hosted page's settings; ``beside``: one with the model's own settings on the same
    pictures.
    """
    if model.resolve() != BUNDLED.resolve():
        shutil.rmtree(BUNDLED, ignore_errors=True)
        shutil.copytree(model, BUNDLED)
    report = json.loads((evaluation / "report.json").read_text())
    against = json.loads((hosted / "report.json").read_text()) if hosted else None
    own = json.loads(((beside or evaluation) / "report.json").read_text())
    SHEETS.mkdir(parents=True, exist_ok=True)
    for sheet in evaluation.glob("*.jpg"):
        shutil.copy(sheet, SHEETS / sheet.name)
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{measured(report, against, own)}\n{END}{after}")
    (BUNDLED / "README.md").write_text(model_card(report))


def measured(report: dict[str, Any], hosted: dict[str, Any] | None, own: dict[str, Any]) -> str:
    """The part of the document that only numbers decide."""
    rows, outside = report["families"], report["outside"]
    summary = (
        f"**{report['supported']} of {len(rows)} families pass the gate**, with a mean of {report['mean_supported']} "
        f"dB over those that do ({report['mean_all']} dB over all). Instructions from outside the vocabulary give the "
        f"source back at {outside['mean']} dB on average, {outside['worst']} dB at worst, and are recognised as such "
        f"in {outside['noticed']:.0%} of the cases; {outside['misses']} of the pictures are both under 35 dB and under "
        "what the autoencoder alone reaches on them."
    )
    lines = [summary, ""]
    if hosted is not None:
        lines += [_against_hosted(own, hosted), ""]
    if report.get("two_edits"):
        lines += [_two_edits(report["two_edits"]), ""]
    legend = (
        "PSNR in dB to the true edit, means over the held-out pictures. *copy*: the source itself; *bound*: the "
        "autoencoder's own picture of the true edit; *ours* and *unseen*: the model, in wordings that training drew "
        "and in wordings that it never saw."
    )
    lines += [legend, ""]
    for group, members in GROUPS.items():
        lines += [
            f"### {group.capitalize()}",
            "",
            f"![{group}: source, truth, ours](images/mini/{group}.jpg)",
            "",
            "| family | passes | copy | bound | ours | unseen | SSIM copy | SSIM ours |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            if row["family"] in members:
                passes = "yes" if row["supported"] else "**no**"
                numbers = (row[key] for key in ("copy", "bound", "ours", "unseen", "copy_ssim", "ssim"))
                cells = " | ".join(f"{number:.2f}" if number < 1 else f"{number:.1f}" for number in numbers)
                lines.append(f"| {row['family'].replace('_', ' ')} | {passes} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def _two_edits(scores: dict[str, Any]) -> str:
    return (
        f"Two edits in one instruction ({scores['cases']} cases from the families that pass): {scores['ours']} dB, "
        f"where the source itself is at {scores['copy']} dB, the better one of the two true edits alone at "
        f"{scores['one of two']} dB, and the autoencoder's bound {scores['bound']} dB."
    )


def _against_hosted(report: dict[str, Any], hosted: dict[str, Any]) -> str:
    """How the hosted page's settings compare, over the families and pictures that both evaluations share."""
    ours = {row["family"]: row["ours"] for row in report["families"]}
    theirs = {row["family"]: row["ours"] for row in hosted["families"]}
    shared = sorted(ours.keys() & theirs.keys())
    loss = sum(ours[family] - theirs[family] for family in shared) / len(shared)
    worst = max(shared, key=lambda family: ours[family] - theirs[family])
    cases = min(row["cases"] for row in hosted["families"])
    pictures = "one held-out picture" if cases == 1 else f"{cases} held-out pictures"
    return (
        f"With the hosted page's settings (50 steps, guidance 3.5, image guidance 2) the mean over {len(shared)} "
        f"families is {loss:.2f} dB below that of the model's own defaults ({pictures} per family; most in "
        f"{worst.replace('_', ' ')}: {ours[worst] - theirs[worst]:.1f} dB)."
    )


def model_card(report: dict[str, Any]) -> str:
    """The card that lies beside the weights."""
    passed = sorted(name.replace("_", " ") for name in supported_in(report))
    failed = sorted(row["family"].replace("_", " ") for row in report["families"] if not row["supported"])
    return f"""# mini: the model that ships with hidream-edit

A model of HiDream-E1's architecture, small enough for any CPU, trained from scratch by this project on pictures that it
draws itself and on the photographs that come with scikit-image and scipy. No weights or data of anybody else are in it.
Licence: Apache-2.0, as the project.

- **For**: first steps, demos, and tests of programs that will talk to the real model. It carries out a documented list
  of edits at {report["size"]}x{report["size"]} pixels; `--detail` (on by default) brings the source's own detail back.
- **Not for**: anything outside its list. It then returns the source and says that the instruction was not recognised.
- **Measured** on pictures that training never saw: {report["supported"]} of {len(report["families"])} families pass
  the gate (at least {GAIN_DB:g} dB above copying, or within {NEAR_BOUND_DB:g} dB of the autoencoder; unseen wordings
  within {WORDING_DB:g} dB of seen ones; mean over those that pass at least {MEAN_DB:g} dB). Their mean is
  {report["mean_supported"]} dB.

Passes: {", ".join(passed)}.

Does not pass: {", ".join(failed) or "none"}.
"""


def main() -> None:
    """Put a trained model and its evaluation into their places."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--hosted", type=Path, help="evaluation with the hosted page's settings")
    parser.add_argument("--beside", type=Path, help="evaluation with the model's own settings on the same pictures")
    options = parser.parse_args()
    write_documents(options.model, options.evaluation, options.hosted, options.beside)


if __name__ == "__main__":
    main()
