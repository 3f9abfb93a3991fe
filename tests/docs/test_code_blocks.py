"""The Python blocks of the pages run with the stand-ins for RASR."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from support.packages import import_or_skip

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RECOGNITION = DOCS / "ways" / "recognition.md"
WAYS = sorted(set((DOCS / "ways").glob("*.md")) - {RECOGNITION})  # those with a loss

# The parts that README does not show.
CONFIG = """
[*.corpus]
file = corpus.xml
[*.lexicon]
file = lexicon.xml
[*]
input-in-log-space = true
"""
READER = """
import types
import numpy as np
frames, labels = 20, 6
seq_lengths, segment_names = [20], ["corpus/recording/one"]
log_posteriors = np.full((frames, 1, labels), -np.log(labels))
network = types.SimpleNamespace(forward=lambda out: np.copyto(out, log_posteriors[:, 0]))
trained = []
train = lambda loss, error_signal: trained.append((loss, error_signal.sum()))
"""
TORCH_READER = """
import torch
frames, labels = 20, 6
network = torch.nn.Linear(3, labels)
features = torch.randn(frames, 3)
loader = [(features[:, None], torch.tensor([frames]), ["corpus/recording/one"])]
"""
OPTIONS = """sprint_exec_path="refsprint", sprint_config="--config=sprint.config --*.action=python-control "
    "--*.python-control-loop-type=iterate-corpus --*.extract-features=false" """


def fenced(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def files_of_quick_start() -> str:
    return fenced(DOCS / "quickstart.md")[0]


def run(code: str, folder: Path) -> str:
    script = folder / "blocks.py"
    script.write_text(code, encoding="utf-8")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_quick_start_runs(tmp_path):
    blocks = fenced(DOCS / "quickstart.md")
    assert len(blocks) == 7
    said = run("\n".join(blocks), tmp_path)
    assert "(30, 2, 6)" in said
    assert "5 labels; the option num_labels is 6" in said


@pytest.mark.parametrize("page", WAYS, ids=lambda page: page.stem)
def test_the_page_of_each_way_runs_with_the_files_of_the_quick_start(page, tmp_path):
    (block,) = fenced(page)
    out = run(files_of_quick_start() + block + "print(loss, error_signal.shape)", tmp_path)
    loss = float(out.split("]")[0].strip("["))
    assert (loss == float("inf")) == (page.stem == "segment-order")
    assert "(20, 1, 6)" in out


def test_the_page_of_the_recogniser_runs_with_the_files_of_the_quick_start(tmp_path):
    (block,) = fenced(RECOGNITION)
    asked = "scores = np.load('scores.npz')\nprint(sorted(scores), scores[names[0]].shape)"
    out = run(files_of_quick_start() + block + asked, tmp_path)
    assert out == "['corpus/recording/one', 'corpus/recording/two'] (20, 6)\n"


def test_the_blocks_of_the_readme_run_with_refsprint_instead_of_rasr(tmp_path):
    batch, in_place = fenced(ROOT / "README.md")
    assert '"/path/to/nn-trainer"' in batch
    (tmp_path / "sprint.config").write_text(CONFIG)
    in_place = in_place.replace("corpus/recording/segment", "corpus/recording/one")
    code = batch.replace("/path/to/nn-trainer", "refsprint") + textwrap.indent(in_place, "    ")
    out = run(files_of_quick_start() + READER + code + "print(float(loss[0]), *trained[0])", tmp_path)
    loss, loss_in_place, error_signal = map(float, out.split())
    assert loss == loss_in_place > 0
    assert abs(error_signal) < 1e-4  # y and y_hat sum to one each


def test_the_blocks_of_the_torch_page_run(tmp_path):
    import_or_skip("torch")
    batch, full_sum, in_place = fenced(DOCS / "torch.md")
    (tmp_path / "sprint.config").write_text(CONFIG)
    code = batch.replace("sprint_exec_path=…, sprint_config=…", OPTIONS)
    assert code != batch
    in_place = in_place.replace("corpus/recording/segment", "corpus/recording/one")
    between = "    before, features = network.weight.grad.clone(), features[:, 0]\n"
    blocks = code + between + textwrap.indent(in_place, "    ")
    out = run(files_of_quick_start() + TORCH_READER + blocks + "print(bool(before.any()))", tmp_path)
    assert out.strip() == "True"
    code = full_sum.replace("sprint_exec_path=…, sprint_config=…", OPTIONS)
    show = "print(loss.item() > 0, network.weight.grad.any().item(), labels.shape, scores.item() < 0)"
    out = run(files_of_quick_start() + TORCH_READER + "import shmbridge\n" + code + show, tmp_path)
    assert out.strip() == "True True torch.Size([20, 1]) True"


def test_the_blocks_of_the_page_on_lattices_run(tmp_path):
    criterion, n_best, check, *_ = fenced(DOCS / "lattices.md")
    folder = tmp_path / "files"
    subprocess.run([sys.executable, "-m", "examples.rasr", folder], cwd=ROOT, check=True, capture_output=True)
    out = run(criterion.replace("FOLDER", str(folder)) + "print(loss, error_signal.shape)", tmp_path)
    assert "inf" not in out
    assert "(40, 2, 8)" in out
    out = run(check.replace("FOLDER", str(folder)), tmp_path)
    assert "example/recording/too-short.lat: line" in out
    assert "segment-1" not in out
    run(n_best, tmp_path)
    assert "W=yellow" in (tmp_path / "segment.lat").read_text()


LATTICE_READER = """
import torch
torch.manual_seed(1)
lengths = {"example/recording/segment-1": 40, "example/recording/segment-2": 25}
alignments = torch.randint(0, 6, (40, 2))
alignments[25:, 1] = -1
targets, target_lengths, blank = torch.tensor([[1, 2, 3], [3, 1, 0]]), torch.tensor([3, 2]), 7
network = torch.nn.Linear(3, 8)
optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
batch = (torch.randn(40, 2, 3), torch.tensor(list(lengths.values())), list(lengths), alignments)
loader = [batch] * 8
losses = []
"""


@pytest.mark.parametrize("smoothed_with", ["cross-entropy", "CTC"])
def test_the_recipe_for_smoothing_trains_with_a_loss_below_zero(tmp_path, smoothed_with):
    import_or_skip("torch")
    *_, training, ctc = fenced(DOCS / "lattices.md")
    folder = tmp_path / "files"
    subprocess.run([sys.executable, "-m", "examples.rasr", folder], cwd=ROOT, check=True, capture_output=True)
    if smoothed_with == "CTC":
        replaced = re.sub(r" *frame_loss = .*?\n        \)\n", lambda _: ctc, training, flags=re.DOTALL)
        assert replaced != training
        training = replaced
    noted = "        losses.append((sequence_loss.item(), frame_loss.item(), loss.item()))\n"
    code = LATTICE_READER + training.replace("FOLDER", str(folder)) + noted + "print(losses)"
    losses = ast.literal_eval(run(code, tmp_path))
    assert len(losses) == 8
    assert min(sequence_loss for sequence_loss, _, _ in losses) < 0
    for first, last in zip(losses[0], losses[-1]):  # the criterion, the smoothing, and their sum
        assert last < first
