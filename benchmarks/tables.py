"""Draw the README's tables from results/: no number there is typed by hand.

    python -m benchmarks.tables [--check]

Each table stands between ``<!-- table:NAME -->`` and ``<!-- end -->``. With --check nothing is written and the exit
status is 1 where the README differs from what the results say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS
from workbench.files import write_text

README = Path(__file__).parent.parent / "README.md"


def main() -> None:
    """Fill in the README, or check that it is filled in."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    filled = fill(text)
    if filled == text:
        print("README.md agrees with results/")
    elif check:
        sys.exit("README.md differs from results/; run: python -m benchmarks.tables")
    else:
        print(f"wrote {write_text(README, filled)}")


def fill(text: str) -> str:
    """The text with every marked table drawn anew."""
    pattern = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return pattern.sub(lambda m: f"{m[1]}\n{TABLES[m[2]]()}\n\n{m[3]}", text)


def _read(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return record


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _estimate(mean: float, interval: Sequence[float]) -> str:
    return f"{mean:.3f} ({interval[0]:.3f}–{interval[1]:.3f})"


def _accuracy() -> str:
    record = _read("base_classifier")
    rows = [
        [
            style,
            found["role"],
            *(_estimate(found[k]["mean"], found[k]["interval"]) for k in ("drawings", "views")),
        ]
        for style, found in record["results"]["accuracy"].items()
    ]
    held = next(
        style for style, found in record["results"]["accuracy"].items() if found["role"] == "validation"
    )
    probe = record["results"]["label_levels"]["kinds"]["held_out"][held]
    tuned = record["results"]["accuracy"][held]["drawings"]["mean"]
    scores = f"a linear probe scores {probe:.3f} and the tuned blocks {tuned:.3f}"
    note = f"\n\nOn `{held}`, held out, {scores}: they were kept."
    return _table(["style", "part", "drawings", "new views"], rows) + note + _source(record)


def _levels() -> str:
    record = _read("base_classifier")
    shifts = ("openmoji", "emojione-monotone", "fluent-emoji-high-contrast")
    rows = [
        [
            name,
            str(found["classes"]),
            f"{found['held_out_mean']:.3f}",
            *(f"{found['shift'][s]:.3f}" for s in shifts),
        ]
        for name, found in record["results"]["label_levels"].items()
    ]
    return _table(["labels", "classes", "held-out colour style", *shifts], rows) + _source(record)


def _editing() -> str:
    record = _read("editing_quality")
    results = record["results"]
    rate = _main_rate(results["overall"])
    cells = [c for c in results["overall"] if c["rate"] == rate]
    rows = [
        [
            f"{cell['density']:g}",
            cell["method"],
            *(_estimate(cell[k], cell[f"{k}_interval"]) for k in ("sr", "gr", "lr")),
            f"{cell['steps']:.1f}",
        ]
        for cell in sorted(cells, key=lambda c: (-c["density"], c["method"]))
    ]
    protected = results["protected"]
    note = (
        f"\n\n{results['edits']} edits in {results['groups']} failure groups, learning rate {rate:g}; LR on "
        f"{protected['images']} sensitive images (gap below {protected['gap']:g}, widened from 0.05 to hold 300)."
    )
    return _table(["density", "mask", "SR", "GR", "LR", "steps"], rows) + note + _source(record)


def _difference() -> str:
    record = _read("editing_quality")
    rows = [
        [f"{d['density']:g}", f"{d['rate']:g}", *(_estimate(d[k], d[f"{k}_interval"]) for k in ("gr", "lr"))]
        for d in sorted(record["results"]["learned_minus_random"], key=lambda d: (-d["rate"], -d["density"]))
    ]
    return _table(["density", "learning rate", "GR gained", "LR gained"], rows) + _source(record)


#: Method's name in the README, and where it stands in results/spine_quality.json.
_DETECTORS = {
    "mean shape": ("methods", "mean-shape"),
    "ridge cascade": ("methods", "ridge"),
    "direct regression": ("methods", "direct"),
    "heat maps": ("methods", "heatmap"),
    "cascade, one step (68 corners at once)": ("ablations", "one-step"),
    "cascade, no PCA": ("ablations", "no-pca"),
    "cascade, PCA of offsets": ("ablations", "offset-pca"),
    "cascade, joint PCA of corners": ("ablations", "joint-corners"),
    **{f"cascade, {n} of 4 centre stages": ("ablations", f"centre-stages-{n}") for n in (1, 2, 3)},
    "**cascade**": ("cascade",),
    "*oracle:* cascade told where to start": ("oracles", "oracle-start"),
}


def _spine() -> str:
    record = _read("spine_quality")
    rows = []
    for name, path in _DETECTORS.items():
        for level in ("clean", "hard"):
            found = _at(record["results"][level], path)
            if found is not None:
                rows.append([name, level, *_spine_cells(found)])
    note = (
        "\n\nNMSE in 1e-4, OR in per cent of landmarks, distances in frame pixels, angle errors in per cent "
        "and degrees; 95 % intervals over 200 phantoms each; the cascade is the mean of three training seeds."
    )
    header = ["detector", "phantoms", "NMSE", "OR20", "OR40", "mean px", "SMAPE", "CMAE"]
    return _table(header, rows) + note + _source(record)


def _spine_stages() -> str:
    record = _read("spine_quality")
    stages = record["results"]["clean"]["stages"]
    rows = [
        [
            name,
            *(_nmse(record["results"][level]["stages"][name]["nmse"]) for level in ("clean", "hard")),
            *(
                f"{record['results'][level]['stages'][name][figure]['mean']:.2f}"
                for level in ("clean", "hard")
                for figure in ("mean_frame_px", "smape")
            ),
        ]
        for name in stages
    ]
    header = ["after", "NMSE clean", "NMSE hard", "px clean", "SMAPE clean", "px hard", "SMAPE hard"]
    return _table(header, rows) + _source(record)


def _spine_ct() -> str:
    record = _read("spine_quality")
    found = record["results"]["ct"]
    names = (
        "heat maps",
        "direct regression",
        "ridge cascade",
        "**cascade**",
        "*oracle:* cascade told where to start",
    )
    rows = []
    for name in names:
        one = _at(found, _DETECTORS[name])
        if one is None:
            continue
        rows.append(
            [
                name,
                f"{one['centres_within_half_a_body']:.1f}",
                f"{100 * one['level_shift_rate']:.1f}",
                f"{one['mean_frame_px']['mean']:.1f}",
                f"{one['smape']['mean']:.1f}",
            ]
        )
    header = ["detector", "centres within ½ body, %", "level shifts, %", "mean px", "SMAPE"]
    return _table(header, rows) + _source(record)


def _at(found: dict[str, Any] | None, path: Sequence[str]) -> dict[str, Any] | None:
    """What stands at the end of a path of keys, or None where it was left out."""
    for part in path:
        found = None if found is None else found.get(part)
    return found


def _spine_speed() -> str:
    record = _read("spine_speed")
    results = record["results"]
    plain = results["times_faster"]
    rows = []
    for name, found in results["milliseconds"].items():
        faster = plain.get(f"cascade against {name}")
        memory = results["memory_mib"][name]
        rows.append(
            [
                name,
                f"{found['median']:.0f} ({found['p5']:.0f}–{found['p95']:.0f})",
                "" if faster is None else f"{faster['median']:.1f}",
                f"{memory['peak'] - memory['libraries']:.0f}",
            ]
        )
    shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in results["share_of_time"].items())
    note = (
        f"\n\nMilliseconds for a 704 x 384 image, median (5th–95th percentile) of {results['rounds']} turns, "
        f"{results['threads']} threads. Of the cascade's time: {shares}. The heat-map network has random weights."
    )
    header = ["detector", "ms", "times as long as the cascade", "MiB beside the libraries"]
    return _table(header, rows) + note + _source(record)


def _editing_benchmark() -> str:
    record = _read("editing_benchmark")
    front = record["results"]["front"]
    styles = {name: found for name, found in front["styles"].items() if found["groups"]}
    by_style = {name: {a["editor"]: a["area"] for a in found["areas"]} for name, found in styles.items()}
    best = {name: max(areas.values()) for name, areas in by_style.items()}
    rows = []
    for found in front["overall"]["areas"]:
        editor = front["editors"][found["editor"]]
        own = [(areas[found["editor"]], best[name]) for name, areas in by_style.items()]
        gap = (found["difference_low"], found["difference_high"])
        rows.append(
            [
                editor["title"],
                editor["origin"],
                _estimate(found["area"], (found["area_low"], found["area_high"])),
                "" if found["editor"] == front["reference"] else _estimate(found["difference"], gap),
                *(f"**{area:.3f}**" if area == largest else f"{area:.3f}" for area, largest in own),
            ]
        )
    protected, leads = front["protected"], front["leads"]
    groups = ", ".join(str(found["groups"]) for found in styles.values())
    note = (
        f"\n\nArea under the front of GR against LR, an edit a setting in each of {front['overall']['groups']} failure "
        f"groups (by style: {groups}); the largest is bold, 0.5 is free. LR on {protected['an_edit']} of "
        f"{protected['images']} sensitive images an edit. Among masks and fine-tuning the learned mask has the largest "
        f"area in {sum(map(bool, leads.values()))} of {len(leads)} styles."
    )
    header = ["editor", "origin", "area, all drawings", "learned mask ahead by", *styles]
    return _table(header, rows) + note + _source(record)


def _editing_windows() -> str:
    record = _read("editing_benchmark")
    found = record["results"]["windows"]
    areas = {(area["kind"], tuple(area["blocks"])): area["area"] for area in found["areas"]}
    windows = sorted({blocks for _, blocks in areas})
    rows = [
        [kind, *(f"{areas[kind, blocks]:.3f}" for blocks in windows)]
        for kind in ("feed-forward", "attention")
    ]
    default = found["default"]
    note = (
        f"\n\nPlain fine-tuning of three blocks, area over its learning rates, {found['groups']} held-out groups. The "
        f"default, {default['blocks'][0]}–{default['blocks'][-1]}, is number {default['rank']} of {default['of']} "
        "feed-forward windows."
    )
    header = ["blocks, 0-based", *(f"{blocks[0]}–{blocks[-1]}" for blocks in windows)]
    return _table(header, rows) + note + _source(record)


def _editing_many() -> str:
    record = _read("editing_benchmark")
    found, editors = record["results"]["many"], record["results"]["front"]["editors"]
    ways = {"sequence": "in a row", "sum": "separately, added up", "batch": "in one request"}
    cells = {(c["editor"], c["way"], c["count"]): c for c in found["cells"]}
    counts = sorted({min(10, found["length"]), max(count for _, _, count in cells)})
    rows = [
        [
            editors[editor]["title"],
            text,
            *(f"{cells[editor, way, n][q]:.3f}" for n in counts for q in ("earlier", "gr", "lr")),
        ]
        for editor in dict.fromkeys(editor for editor, _, _ in cells)
        for way, text in ways.items()
        if all((editor, way, n) in cells for n in counts)
    ]
    header = ["editor", "edits", *(f"{q}, {n} edits" for n in counts for q in ("earlier", "GR", "LR"))]
    note = f"\n\n*Earlier*: share of all edits but the newest that still hold; means of {found['orders']} orders."
    return _table(header, rows) + note + _source(record)


def _editing_speed() -> str:
    record = _read("editing_speed")
    results = record["results"]
    edit, many, search = results["edit"], results["many"], results["search"]
    tasks = {
        "one edit, a tenth of the units": (edit["density 0.1"], "edit"),
        "one edit, a twentieth": (edit["density 0.05"], None),
        "one edit, all units": (edit["density 1"], None),
        "one edit, a tenth, exact": (edit["density 0.1, exact"], None),
        "one edit evaluated, tokens known": (results["evaluate"], "evaluate"),
        f"{many['edits']} edits evaluated, from nothing": (many, None),
        f"masks searched for {search['pairs']} pairs": (search, "search"),
    }
    sides = ("reference", "workbench")
    rows = [
        [
            task,
            *(f"{found[f'{side}_seconds']['median']:.1f}" for side in sides),
            f"{found['times_faster']['median']:.1f}",
            f"{100 * found['share_of_floor']:.0f} %",
            *(f"{results['memory_mib'][memory][side]:.0f}" if memory else "" for side in sides),
        ]
        for task, (found, memory) in tasks.items()
    ]
    steps = f"{search['inner_steps']} inner and {search['outer_steps']} outer steps"
    note = (
        f"\n\n{results['model']}, {results['threads']} threads, medians of {results['rounds']} turns. An edit has "
        f"{edit['density 0.1']['steps']['workbench']} steps and is evaluated on {results['evaluate']['images']} images "
        f"(published: {results['evaluate']['reference']}); a search has {steps}. The floor is what the needed matrix "
        "products take at this machine's rate; memory is what a process needs beside the libraries, the model included."
    )
    units = [f"{side}, {unit}" for unit in ("s", "MiB") for side in ("published", "workbench")]
    header = ["task", *units[:2], "times faster", "of the floor", *units[2:]]
    return _table(header, rows) + note + _source(record)


def _spine_cells(found: dict[str, Any]) -> list[str]:
    plain = [f"{found[k]['mean']:.2f}" for k in ("or20", "or40", "mean_frame_px", "smape", "cmae")]
    return [_nmse(found["nmse"]), *plain]


def _nmse(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{1e4 * found['mean']:.2f} ({1e4 * low:.2f}–{1e4 * high:.2f})"


def _main_rate(cells: Sequence[dict[str, Any]]) -> float:
    """The published learning rate where it was measured, else the largest."""
    rates = {c["rate"] for c in cells}
    return 2e-5 if 2e-5 in rates else max(rates)


def _source(record: dict[str, Any]) -> str:
    origin = f"seed {record['seed']}, {record['date']}, torch {record['versions']['torch']}"
    return f"\n\n<sub>`{record['command']}`, {origin}</sub>"


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": _accuracy,
    "levels": _levels,
    "editing": _editing,
    "difference": _difference,
    "spine": _spine,
    "spine_stages": _spine_stages,
    "spine_ct": _spine_ct,
    "spine_speed": _spine_speed,
}


if __name__ == "__main__":
    main()
