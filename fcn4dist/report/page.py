"""report.html of one run: its parts put into the template, checked for size and written whole."""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fcn4dist import __version__
from fcn4dist.errors import ConfigError
from fcn4dist.files import save_text
from fcn4dist.report.chart import clean
from fcn4dist.report.evaluated import (
    Macro,
    describe_evaluation,
    describe_other,
    format_figure,
    format_percent,
    list_figures,
    list_warnings,
    macro_of,
    name_checkpoint,
)
from fcn4dist.report.per_tag import TagRow, describe_tags
from fcn4dist.report.ranks import RankPart, describe_ranks
from fcn4dist.report.run_files import RunFiles, load_run, number
from fcn4dist.report.story import (
    KINDS,
    differing_config,
    duration_of,
    list_attempts,
    list_environment,
    list_events,
    list_failures,
    list_profiles,
)
from fcn4dist.report.training import draw_progress, median_speed
from fcn4dist.run.figures import Figures
from fcn4dist.run.terminal import format_duration

SECTIONS = (
    ("training", "Training"),
    ("tags", "Tags"),
    ("ranks", "Ranks and speed"),
    ("events", "What happened"),
    ("config", "Config"),
    ("environment", "Environment"),
)


@dataclass(frozen=True)
class Tile:
    """One of the large numbers at the top."""

    name: str
    value: str
    detail: str = ""


def write_report(path: Path, output: Path | None = None, *, is_over: bool = False, last: bool = False) -> Path:
    """Write the page of the run in `path` to RUN/report.html, or to `output`, and return where it is.

    `is_over`: the run's own launcher asks; `last`: the last checkpoint's figures instead of the best one's.
    Raises ConfigError where there is no run, or the page cannot be written.
    """
    files = load_run(path, is_over=is_over, last=last)
    files.page = output or files.run.report
    return save_page(render_run(files), files.page)


def save_page(text: str, target: Path) -> Path:
    """Write a page whole, or raise ConfigError."""
    try:
        save_text(target, text)
    except OSError as error:
        raise ConfigError(f"{target}: the report cannot be written: {error.strerror or error}") from None
    return target


def render_run(files: RunFiles) -> str:
    """Return the page of one run."""
    tags, ranks, macro = describe_tags(files), describe_ranks(files), macro_of(files.evaluation)
    return render(
        "page.html",
        title=f"{clean(files.name, 60)} · fcn4dist",
        name=clean(files.name, 120),
        state=files.state.kind,
        state_text=KINDS[files.state.kind],
        sections=SECTIONS,
        summary=summarise(files, macro),
        tiles=list_tiles(files, macro, ranks),
        failures=list_failures(files),
        notes=[clean(note, 300) for note in files.notes[:50]],
        progress=draw_progress(files),
        tags=tags,
        macro=macro,
        evaluation_text=f"{describe_evaluation(files, macro)} {describe_other(files)}".strip(),
        evaluation_warnings=list_warnings(files.evaluation),
        more_figures=list_figures(files.evaluation),
        ranks=ranks,
        profiles=list_profiles(files),
        attempts=list_attempts(files),
        events=list_events(files),
        config=differing_config(files),
        environment=list_environment(files),
    )


def render(template: str, **values: Any) -> str:
    """Fill a template; style, script and the policy that allows nothing else are added here."""
    style, script = _asset("style.css"), _asset("sort.js")
    policy = "default-src 'none'; img-src data:; media-src 'self' file:"  # pictures within the page, audio beside it
    policy += f"; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")
    text = (
        _templates()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),
            script=Markup(script),
            policy=f"{policy}; base-uri 'none'; form-action 'none'",
            version=__version__,
            written=now,
        )
    )
    return text.encode("utf-8", "replace").decode()  # names may hold half of a surrogate pair


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("fcn4dist", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": format_figure,
        "percent": format_percent,
        "signed": _signed,
        "interval": _interval,
    }
    return environment


def _asset(name: str) -> str:
    return resources.files("fcn4dist.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}"


def _interval(row: TagRow, lowest: float) -> Markup:
    """Return a small picture of a ROC-AUC and its interval between `lowest` and 1, with a mark at 0.5, which is chance."""
    if row.roc_auc is None:
        return Markup("")
    low, high = row.roc_ci or (row.roc_auc, row.roc_auc)
    places = ((v - lowest) / (1 - lowest) for v in (row.roc_auc, low, high, 0.5))
    x, start, end, chance = (4 + 112 * min(max(place, 0.0), 1.0) for place in places)
    picture = (
        '<svg viewBox="0 0 120 14"><title>{}</title><path class="grid" d="M4 7H116"/><path class="grid" d="M{:.1f} 2V12"/>'
        '<path class="span" d="M{:.1f} 7H{:.1f}"/><circle class="mid" cx="{:.1f}" cy="7" r="3.2"/></svg>'
    )
    text = f"{row.roc_auc:.4f}" + (f", {low:.3f} to {high:.3f}" if row.roc_ci else "")
    return Markup(picture).format(text, chance, start, end, x)


def summarise(files: RunFiles, macro: Macro) -> str:
    """Return the run in one or two sentences."""
    last = files.chief[-1] if files.chief else {}
    step, total = number(last, "step"), number(last, "num_steps")
    world_size, target = number(files.plan, "world_size"), files.plan.get("target")
    words = [f"{step:.0f} of {total:.0f} steps" if step is not None and total is not None else "No step was recorded"]
    if world_size is not None:
        words.append(f"on {world_size:.0f} {'rank' if world_size == 1 else 'ranks'} ({clean(target, 20)})")
    if (seconds := duration_of(files)) is not None:
        words.append(f"in {format_duration(seconds)}")
    text = " ".join(words) + "."
    if (end := files.state.end) is not None and end.early:
        text += f" {clean(end.early[:1].upper() + end.early[1:], 300)}."
    if macro.roc is not None:
        caution = f" ({caution})" if (caution := Figures(files.evaluation).caution) else ""
        text += (
            f" ROC-AUC {macro.roc:.4f} on {macro.clips}{clean(caution, 300)}, of {clean(name_checkpoint(files), 200)}."
        )
    return f"{text} {describe_other(files)}".strip()


def list_tiles(files: RunFiles, macro: Macro, ranks: RankPart) -> list[Tile]:
    """Return the large numbers."""
    last = files.chief[-1] if files.chief else {}
    loss = next((v for record in reversed(files.chief) if (v := number(record, "loss")) is not None), None)
    restarts = sum(event.get("event") == "restart" for event in files.events)
    memory = [peak for name, peak, _ in ranks.peaks if peak is not None and name.startswith("rank")]
    overflows, failures = number(last, "num_overflows"), len(files.failures)
    tiles = [
        Tile("ROC-AUC", format_figure(macro.roc, 4), macro.roc_ci),
        Tile("PR-AUC", format_figure(macro.pr, 4), macro.pr_ci),
        Tile("top tag right", format_percent(macro.accuracy)) if macro.accuracy is not None else None,
        Tile("last loss", format_figure(loss, 4), f"epoch {number(last, 'epoch') or 0:.0f}"),
        Tile("clips a second", format_figure(median_speed(files), 1), "median, whole job"),
        Tile("overflows", format_figure(overflows, 0), "steps skipped"),
        Tile(
            "restarts",
            str(restarts),
            "no failure" if not failures else "1 failure" if failures == 1 else f"{failures} failures",
        ),
        Tile("memory", f"{max(memory):.2f} GB", "most of any rank") if memory else None,
    ]
    return [tile for tile in tiles if tile is not None]
