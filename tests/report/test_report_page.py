from __future__ import annotations

import base64
import io
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from made_run import HOSTILE, add_failure, make_heard_run, make_run
from PIL import Image
from sklearn.metrics import log_loss

from fcn4dist.errors import ConfigError
from fcn4dist.report.chart import Axis, Series, format_tick, line_chart, smooth, thin
from fcn4dist.report.comparison import write_comparison
from fcn4dist.report.page import write_report
from fcn4dist.report.published import find_published
from fcn4dist.report.ranks import describe_ranks
from fcn4dist.report.run_files import load_run
from fcn4dist.run.folder import RunDir

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements, attributes and texts of a page, as a browser would take them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def check_inert(page: Page) -> None:
    """No element, attribute or address but those of the template."""
    names = [tag for tag, _ in page.elements]
    assert names.count("script") == 1
    assert not {"iframe", "object", "embed", "form", "base", "foreignobject", "use", "image"} & set(names)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,"), attributes
        elif tag == "audio":  # a file of this machine, which the browser reads when it is played
            assert re.fullmatch(r"[\w./~%-]+", attributes["src"] or "")
            assert not (attributes["src"] or "").startswith("//")
            assert attributes["preload"] == "none"
        else:
            for name in ("href", "src", "xlink:href"):
                assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
    assert page.open == []


def test_unknown_labels_have_a_column_only_where_there_are_any(tmp_path: Path) -> None:
    head = '<th class="num">unknown</th>'
    assert head not in write_report(make_run(tmp_path / "known").path).read_text()
    run = make_run(tmp_path / "unknown", unknown=0.4)
    text = write_report(run.path).read_text()
    check_inert(Page(text))
    assert head in text
    for tag in json.loads(run.evaluation.read_text())["tags"]:
        assert f'<td class="num" data-value="{tag["unknown"]}">{tag["unknown"]}</td>' in text
    rows = [
        row.count("<td")
        for row in re.findall(r"<tr>(.*?)</tr>", text[text.index("tag-table") :].split("</table>")[0], re.S)
    ]
    assert set(rows[1:]) == {8}  # as many cells in each row, the foot's too


def test_a_page_holds_all_parts_and_needs_nothing_else(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", settings=["train.lr=0.002"])
    file = write_report(run.path)
    assert file == run.report
    text = file.read_text()
    page = Page(text)
    check_inert(page)
    assert "url(" not in text
    assert "@import" not in text
    for part in (
        "30 of 30 steps on 2 ranks (CPU)",
        "finished",
        "Learning rate",
        "Loss scale and overflows",
        "ROC curves",
    ):
        assert part in page.text, part
    for part in ("Hardest clips", "Memory of each process", "What is taken for what", "train.lr", "guitar", "numpy"):
        assert part in page.text, part
    evaluation = json.loads(run.evaluation.read_text())
    for tag in evaluation["tags"]:
        assert f"{tag['roc_auc']:.4f}" in page.text
    assert f"{evaluation['roc_auc_ci95'][0]:.3f} to {evaluation['roc_auc_ci95'][1]:.3f}" in page.text


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "<b>run & 'co\"", tags=HOSTILE, settings=["checkpoint.prefix=<script>alert(9)</script>"])
    add_failure(run, "\n".join(HOSTILE))
    page = Page(write_report(run.path).read_text())
    check_inert(page)
    assert "<script>alert(1)</script>" in page.text
    assert "<script>alert(9)</script>" in page.text
    assert "../../etc/passwd" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "<b>run & 'co\"" in page.text
    assert "\x1b" not in page.text
    assert run.report.stat().st_size < 1 << 20


def test_the_hardest_clips_have_pictures_and_players_where_there_are_any(tmp_path: Path) -> None:
    run = make_heard_run(tmp_path / "run")
    page = Page(write_report(run.path, tmp_path / "elsewhere.html").read_text())
    check_inert(page)
    with np.load(run.scores) as arrays:
        losses = [log_loss(a, p, labels=[0, 1]) for a, p in zip(arrays["labels"], arrays["scores"], strict=True)]
        hardest = arrays["clip_ids"][np.argsort(losses)[::-1][:20]].tolist()
    links = [unquote(attributes["src"] or "") for tag, attributes in page.elements if tag == "audio"]
    assert [(tmp_path / link).resolve() for link in links] == [tmp_path / f"run data/song é {i}.wav" for i in hardest]
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [f"mel of clip {i}" for i in hardest]
    image = Image.open(io.BytesIO(base64.b64decode((pictures[0]["src"] or "").split(",")[1])))
    grey = np.asarray(image.convert("L"))
    assert grey.shape == (48, 192)  # of (96, 400)
    assert grey[47, 0] == grey.max() > 200  # the lowest band is at the bottom
    assert (grey.argmax(), grey[:47].max(), grey[:, 2:].max()) == (47 * 192, grey.min(), grey.min())
    for file in (tmp_path / "run data").glob("*.wav"):
        file.unlink()
    run.hardest.write_bytes(run.hardest.read_bytes()[:-40])
    page = Page(write_report(run.path).read_text())
    assert not {"img", "audio"} & {tag for tag, _ in page.elements}
    assert f"song é {hardest[0]}.wav" in page.text  # the table stands


def test_spikes_do_not_flatten_the_loss_and_are_seen(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", num_steps=300)
    lines = [json.loads(line) for line in run.metrics(0).read_text().splitlines()]

    def loss_chart(spikes: dict[int, float]) -> str:
        for line in lines:
            line["loss"] = spikes.get(line["step"], 0.2 + 0.5 * 0.98 ** line["step"])
        run.metrics(0).write_text("".join(json.dumps(line) + "\n" for line in lines))
        text = write_report(run.path).read_text()
        return text[text.index("<h3>Loss</h3>") :].split("</figure>")[0]

    def highest_tick(chart: str) -> float:
        beside_the_axis = r'class="t" x="48\.0" y="[\d.]+" text-anchor="end">([\d.]+)</text>'
        return max(float(label) for label in re.findall(beside_the_axis, chart))

    calm = loss_chart({})
    assert "beyond" not in calm.lower()
    spiky = loss_chart({120: 50.0, 121: 8.0, 250: 120.5})
    assert 0.7 <= highest_tick(calm) <= highest_tick(spiky) <= 1.5
    for step, value in ((120, "50"), (250, "120.5")):
        assert f"<title>Loss at step {step}: {value}</title>" in spiky
        assert f">{value}</text>" in spiky
    assert "Beyond the axis, marked by triangles: 3 steps, the highest 120.5 at step 250." in spiky
    average = re.findall(r'class="line c0" d="([^"]+)"', spiky)[0]
    assert (
        min(float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", average)) > 100
    )  # below half of the height: without spikes
    pair = loss_chart({1: 1.3})
    assert "beyond" not in pair.lower()  # not twice as high: the axis holds it


def test_nan_scores_and_a_tag_without_positives(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with np.load(run.scores) as arrays:
        values = dict(arrays)
    values["scores"][3, 0], values["scores"][5, 1] = np.nan, np.inf
    values["labels"][:, 2] = 0
    np.savez(run.scores.open("wb"), **values)
    document = json.loads(run.evaluation.read_text())
    document["tags"][2] |= {"positives": 0, "roc_auc": None, "pr_auc": None}
    document["roc_auc_macro"] = float("nan")
    run.evaluation.write_text(json.dumps(document))
    page = Page(write_report(run.path).read_text())
    assert "2 of 80 clips have a NaN or infinite score" in page.text
    assert "undefined and in no mean: drums" in page.text
    words = page.text.lower().replace("a nan or", "")
    assert not re.search(r"\bnan\b", words)  # a word: test_provenance.py may stand in the command


@pytest.mark.parametrize(
    "name", ["config.yaml", "plan.json", "environment.json", "evaluation.json", "scores.npz", "events.jsonl", "metrics"]
)
def test_a_missing_file_leaves_the_rest(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    for file in [run.path / name, *(run.path / name).glob("*")][::-1]:
        file.unlink() if file.is_file() else file.rmdir()
    page = Page(write_report(run.path).read_text())
    check_inert(page)
    assert "ROC-AUC" in page.text


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.97])
@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "plan.json", "environment.json", "evaluation.json", "scores.npz", "events.jsonl"),
        *("failure.json", "metrics/rank-1.jsonl", "metrics/evaluations.jsonl", "metrics/usage.jsonl"),
    ],
)
def test_a_half_written_file_leaves_the_rest(tmp_path: Path, name: str, keep: float) -> None:
    run = make_run(tmp_path / "run")
    add_failure(run)
    file = run.path / name
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * keep)])
    check_inert(Page(write_report(run.path).read_text()))


@pytest.mark.parametrize(
    "value", ["[]", "7", '"text"', '{"tags": 3, "processes": 4, "culprit": "x", "step": "y"}', "null"]
)
def test_json_of_another_shape_is_no_error(tmp_path: Path, value: str) -> None:
    run = make_run(tmp_path / "run")
    add_failure(run)
    names = ["plan.json", "environment.json", "evaluation.json", "failure.json", "events.jsonl", "config.yaml"]
    for name in [*names, "metrics/rank-0.jsonl", "metrics/evaluations.jsonl", "metrics/usage.jsonl"]:
        (run.path / name).write_text(value + "\n")
    check_inert(Page(write_report(run.path).read_text()))


def test_many_tags_ranks_and_steps_stay_small(tmp_path: Path) -> None:
    tags = [f"tag number {i}" for i in range(188)]
    run = make_run(tmp_path / "run", tags=tags, num_ranks=40, num_steps=300, num_clips=1500)
    assert write_report(run.path).stat().st_size < 3_000_000


def test_a_step_is_split_into_what_a_rank_has_to_itself_and_the_rest(tmp_path: Path) -> None:
    """As `write_steps` has it: all steps take 130 ms, rank r waits 2 + 10 r ms of them for data."""
    part = describe_ranks(load_run(make_run(tmp_path / "run", num_ranks=3).path))
    assert [row.step_ms for row in part.rows] == pytest.approx([130, 130, 130])
    assert [row.data_ms for row in part.rows] == pytest.approx([2, 12, 22])
    assert [row.compute_ms for row in part.rows] == pytest.approx([128, 118, 108])


def test_of_many_ranks_those_that_wait_for_data_are_shown(tmp_path: Path) -> None:
    part = describe_ranks(load_run(make_run(tmp_path / "run", num_ranks=40, num_steps=3).path))
    assert (part.num_ranks, [row.rank for row in part.rows]) == (40, list(range(8, 40)))


def test_runs_are_compared(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", settings=["train.lr=0.002"])
    other = make_run(tmp_path / "<i>other", seed=1, num_ranks=1)
    page = Page(write_comparison([one.path, other.path], tmp_path / "both.html").read_text())
    check_inert(page)
    a, b = (json.loads(run.evaluation.read_text())["tags"][0]["roc_auc"] for run in (one, other))
    assert f"{a:.4f}" in page.text
    assert f"{b - a:+.4f}" in page.text
    assert "train.lr 0.002 0.0005" in page.text
    assert "<i>other" in page.text
    assert "train.seed" not in page.text


def test_an_evaluation_with_more_figures_shows_them(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    document = json.loads(run.evaluation.read_text())
    for tag in document["tags"]:
        del tag["roc_auc_ci95"]
    run.evaluation.write_text(json.dumps(document))
    assert "DeLong" in Page(write_report(run.path).read_text()).text
    for tag in document["tags"]:
        tag |= {"roc_auc_ci95": [0.61, 0.72], "f1": 0.345}
    document |= {"split_checksum": "0123456789abcdef", "warnings": ["3 tracks are shared with train"]}
    document |= {"f1_macro": 0.456, "precision_at_k": {"5": 0.321}}
    document["thresholds"] = {"chosen_on": "val of folds", "on_these_clips": True}
    run.evaluation.write_text(json.dumps(document))
    text = Page(write_report(run.path).read_text()).text
    for part in ("0.610 to 0.720", "0.3450", "0.4560", "precision at 5 0.3210", "0123456789ab", "3 tracks are shared"):
        assert part in text, part
    assert "so F1 is flattered" in text
    assert "DeLong" not in text


def test_it_needs_neither_mindspore_nor_a_second_of_imports(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    code = (
        "import sys; sys.modules['mindspore'] = None\n"
        "from fcn4dist.cli.main import cli\n"
        f"for command in ('report', 'watch'): cli([command, {str(run.path)!r}], standalone_mode=False)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.report.is_file()
    assert not {"sklearn", "librosa", "matplotlib"} & set(done.stdout.split())


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        write_report(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="no run here"):
        write_report(tmp_path)
    run = make_run(tmp_path / "run")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(run.path, tmp_path / "nowhere" / "report.html")
    with pytest.raises(ConfigError, match="41 runs; a page compares at most 40"):
        write_comparison([run.path] * 41, tmp_path / "all.html")


def test_published_figures_are_found_by_the_tags() -> None:
    """The ten classes of ESC-10 as Piczak names them (2015)."""
    animals = ["dog", "rooster", "crying baby", "sneezing"]
    tags = ["chainsaw", "clock tick", "crackling fire", *animals, "helicopter", "rain", "sea waves"]
    assert [one.accuracy for one in find_published(tags)] == [0.80, 0.727, 0.957]
    assert find_published(["guitar"]) == ()


def test_lines_keep_their_spikes_and_axes_round_numbers() -> None:
    points = [(float(i), 1.0) for i in range(10_000)]
    points[1234] = (1234.0, 9.0)
    kept = thin(points)
    assert len(kept) <= 402
    assert {(0.0, 1.0), (1234.0, 9.0), (9999.0, 1.0)} <= set(kept)
    assert all(y == pytest.approx(1.0) for x, y in smooth([(float(i), 1.0) for i in range(50)]))
    assert [format_tick(v) for v in (0, 0.25, 1500, 20_000, 3e6, 1e-5)] == ["0", "0.25", "1500", "20k", "3M", "1e-05"]
    assert line_chart("empty", [Series("a", [])], "x") is None
    for same in (0.0, 1.0, -3.0, 1e-9, 1e12):
        chart = line_chart("flat", [Series("a", [(1.0, same)])], "x", zero=True)
        assert chart is not None
        assert "nan" not in chart.svg


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.98765, 0.98768), (1_000_000, 1_000_100), (12_340, 12_346), (1e-7, 1.0003e-7), (-2.00001, -2.0), (1e9, 1e9 + 7)],
)
def test_numbers_beside_an_axis_differ_and_are_where_they_say(low: float, high: float) -> None:
    axis = Axis.over([low, high])
    sizes = {"k": 1e3, "M": 1e6, "G": 1e9}
    values = [float(label.rstrip("kMG")) * sizes.get(label[-1], 1) for label in axis.labels]
    assert len(set(axis.labels)) == len(axis.ticks) > 2
    assert values == pytest.approx(axis.ticks, abs=(high - low) / 100)


def test_there_is_no_step_between_two_steps() -> None:
    for last in (1, 2, 3, 7, 10):
        chart = line_chart("few", [Series("a", [(float(i), 0.5) for i in range(1, last + 1)])], "step", y_limits=(0, 1))
        assert chart is not None
        below = re.findall(r'y="212\.0" text-anchor="\w+">([^<]+)<', chart.svg)
        assert below
        assert all(float(label) == int(float(label)) for label in below), below


def test_values_are_under_the_mouse_everywhere() -> None:
    spiky = [(float(i), 50.0 if i == 777 else 1.0) for i in range(1000)]
    lines = [Series("loss", spiky), Series("", spiky, 1), Series("skipped", [(3.0, 1.5), (777.0, 2.0)], 3, "dots")]
    chart = line_chart("Loss", lines, "step")
    assert chart is not None
    columns = re.findall(
        r'class="hover" x="([\d.]+)" y="10" width="([\d.]+)" height="186"><title>(.*?)</title>', chart.svg, re.S
    )
    places = [(float(x), float(x) + float(width)) for x, width, _ in columns]
    assert (places[0][0], places[-1][1]) == pytest.approx((54, 510), abs=0.2)
    assert all(a[1] == pytest.approx(b[0], abs=0.2) for a, b in itertools.pairwise(places))
    (text,) = (text for x, width, text in columns if "loss: 1 to 50" in text)
    low, high = map(float, re.findall(r"step ([\d.]+) to ([\d.]+)", text)[0])
    assert low <= 777 <= high
    assert "<title>skipped, step 777: 2</title></circle>" in chart.svg
    one = line_chart("Rate", [Series("", [(1.0, 0.25), (9.0, 0.5)])], "step")
    assert one is not None
    assert "step 1\nRate: 0.25</title>" in one.svg
    assert "step 9\nRate: 0.5</title>" in one.svg


@pytest.mark.parametrize(("auc", "interval", "head"), [(0.29, [0.2, 0.4], "0 to 1"), (0.8, [0.7, 0.9], "0.5 to 1")])
def test_an_auc_below_chance_stands_where_it_is(tmp_path: Path, auc: float, interval: list[float], head: str) -> None:
    run = make_run(tmp_path / "run")
    document = json.loads(run.evaluation.read_text())
    for tag in document["tags"]:
        tag |= {"roc_auc": auc, "roc_auc_ci95": interval}
    run.evaluation.write_text(json.dumps(document))
    text = write_report(run.path).read_text()
    assert f">{head}</th>" in text
    low, high = map(float, head.split(" to "))
    start, end, middle = re.findall(r'class="span" d="M([\d.]+) 7H([\d.]+)"/><circle class="mid" cx="([\d.]+)"', text)[
        0
    ]
    drawn = [low + (float(x) - 4) / 112 * (high - low) for x in (middle, start, end)]
    assert drawn == pytest.approx([auc, *interval], abs=0.002)


def write_best(run: RunDir, text: str) -> None:
    run.checkpoints.mkdir(exist_ok=True)
    (run.checkpoints / "best").write_text(text)


def test_the_best_checkpoint_is_named_where_it_is_not_the_last(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write_best(run, "step-00000030\n")
    assert "Best:" not in Page(write_report(run.path).read_text()).text
    write_best(run, "step-00000020\n")
    figures = {"roc_auc_macro": 0.98765, "pr_auc_macro": 0.87654}
    run.best_evaluation.write_text(json.dumps({"checkpoint": "checkpoints/step-00000020", **figures}))
    text = Page(write_report(run.path).read_text()).text
    assert text.count("Best: step-00000020, ROC-AUC 0.9877, PR-AUC 0.8765.") == 2  # at the top, and with the tags
    run.best_evaluation.write_text(json.dumps({"checkpoint": "checkpoints/step-00000010", **figures}))
    (line,) = (line for line in map(json.loads, run.evaluations.read_text().splitlines()) if line["step"] == 20)
    expected = f"Best: step-00000020, ROC-AUC {line['roc_auc_macro']:.4f}, PR-AUC {line['pr_auc_macro']:.4f}."
    assert expected in Page(write_report(run.path).read_text()).text
    run.evaluations.unlink()
    assert "Best: step-00000020." in Page(write_report(run.path).read_text()).text


@pytest.mark.parametrize("text", ["", "<script>alert(1)</script>", "\0" * 9000, "../../x"])
def test_a_damaged_note_of_the_best_harms_nothing(tmp_path: Path, text: str) -> None:
    run = make_run(tmp_path / "run")
    write_best(run, text)
    page = Page(write_report(run.path).read_text())
    check_inert(page)
    assert "Best:" not in page.text
