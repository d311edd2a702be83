"""Several runs on one page: groups of seeds and folds with mean and spread, against NumPy."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_run import make_run

from fcn4dist.cli.main import main
from fcn4dist.errors import ConfigError
from fcn4dist.report.comparison import write_comparison


def figures_of(folder: Path, key: str) -> float:
    return float(json.loads((folder / "evaluation.json").read_text())[key])


def make_group(folder: Path, *settings: str, num: int = 3, offset: int = 0) -> list[Path]:
    paths = []
    for seed in range(1, num + 1):
        run = make_run(folder / f"seed-{seed}", seed=seed + offset, settings=[f"train.seed={seed}", *settings])
        paths.append(run.path)
    return paths


def rows_of(page: str) -> list[list[str]]:
    table = page[page.index('id="group-table"') :].split("</table>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)[1:]]


def test_runs_that_differ_in_their_seed_alone_are_a_group_with_mean_and_spread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make_group(tmp_path / "adam"), make_group(tmp_path / "slow", "train.lr=0.0001", num=2, offset=9)
    main(["report", str(tmp_path)])  # a folder of folders of runs
    target = tmp_path / "report.html"
    assert capsys.readouterr().out.strip() == str(target)
    page = target.read_text()
    rows = rows_of(page)
    assert len(rows) == 2
    for row, name, paths in zip(rows, ("<b>A</b> adam", "<b>B</b> slow"), (first, second), strict=True):
        assert row[:2] == [name, str(len(paths))]
        for cell, key in zip(row[2:4], ("roc_auc_macro", "pr_auc_macro"), strict=True):
            values = [figures_of(path, key) for path in paths]
            assert cell == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
        assert [f"seed {seed}, folder-12-1-3" in row[5] for seed in (1, 2, 3)] == [True, True, len(paths) == 3]
    # tag by tag, the mean of each group
    tags = page[page.index('id="tag-table"') :].split("</table>")[0]
    means = [
        np.mean([json.loads((path / "evaluation.json").read_text())["tags"][0]["roc_auc"] for path in paths])
        for paths in (first, second)
    ]
    assert f">{means[0]:.4f}</td>" in tags
    assert f">{means[1]:.4f}</td>" in tags
    assert f">{means[1] - means[0]:+.4f}</td>" in tags
    assert "<td>train.seed</td><td>1, 2, 3</td><td>1, 2</td>" in page
    assert "not scored on the same clips" not in page


def test_runs_that_differ_in_more_are_no_group(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(i), settings=[f"train.lr=0.00{i}"]).path for i in range(1, 10)]
    page = write_comparison(runs[:3], tmp_path / "three.html").read_text()
    assert "group-table" not in page.split("</style>")[1].split("<script>")[0]
    assert "<b>C</b> 3" in page
    with pytest.raises(ConfigError, match=r"9 runs that differ in more than seed and fold; a page has 8"):
        write_comparison(runs, tmp_path / "nine.html")
