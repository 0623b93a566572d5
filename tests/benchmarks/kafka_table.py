"""What `tests/bench kafka` has measured, as markdown: goals first."""

import math
import textwrap

from kafka_brokers import SYNCED, SYSTEMS, TIDEGATE, UNSYNCED
from log_table import aligned, number
from mqtt_table import WIDTH, median

MIB = 1 << 20
QUIET_MAX = 0.03
CPU, RATE = "cpu_s_per_gb", "mb_per_s"
KAFKA = "Kafka"

# Goal, part, figure, beside whom, bound, whether it is a floor.
GOALS = [
    ("CPU per GB, produce, the same promise", "produce", CPU, SYNCED, 1 / 3, False),
    ("CPU per GB, produce, Kafka without fsync", "produce", CPU, UNSYNCED, 1 / 3, False),
    ("CPU per GB, produced and packed later, the same promise", "produced and packed", CPU, SYNCED, 1 / 3, False),
    ("CPU per GB, catch-up", "catch-up", CPU, UNSYNCED, 1 / 2, False),
    ("CPU per GB, catch-up, packed", "catch-up, packed, again", CPU, UNSYNCED, 1 / 2, False),
    ("CPU per GB, at the tail", "tail", CPU, UNSYNCED, 1 / 2, False),
    ("produce, MB/s, the same promise", "produce", RATE, SYNCED, 2, True),
    ("produce, MB/s, Kafka without fsync", "produce", RATE, UNSYNCED, 2, True),
    ("catch-up, MB/s", "catch-up", RATE, UNSYNCED, 2, True),
]


class Measured:
    def __init__(self, results):
        self.results = results

    def of(self, part, scenario, system):
        return median(self.results.get((part, scenario, system)))

    def scenarios(self, part):
        return list(dict.fromkeys(scenario for of, scenario, _ in self.results if of == part))

    def ratios(self, part, figure, base):
        """Ours to theirs, in each scenario where both are."""
        rows = ((self.of(part, scenario, TIDEGATE), self.of(part, scenario, base)) for scenario in self.scenarios(part))
        return [ours[figure] / theirs[figure] for ours, theirs in rows if ours and theirs and theirs[figure] > 0]


def bound_text(bound, is_floor):
    return f"≥ {bound}×" if is_floor else f"≤ 1/{round(1 / bound)}"


def goals(measured):
    rows = []
    for name, part, figure, base, bound, is_floor in GOALS:
        ratios = measured.ratios(part, figure, base)
        if not ratios:
            rows.append((name, bound_text(bound, is_floor), "not measured", "not known"))
            continue
        held = sum(ratio >= bound if is_floor else ratio <= bound for ratio in ratios)
        middle = math.exp(sum(math.log(max(ratio, 1e-3)) for ratio in ratios) / len(ratios))
        spread = f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else ""
        verdict = "yes" if held == len(ratios) else "**no**" if held == 0 else f"in {held} of {len(ratios)}"
        rows.append((name, bound_text(bound, is_floor), f"{middle:.2f}×{spread}", verdict))
    rows += resting_goals(measured)
    titles = ["goal, beside Kafka", "wanted", "measured: mean of scenarios (least–most)", "held"]
    return aligned(titles, rows)


def resting_goals(measured):
    rows = []
    pairs = [("memory under load", "memory", "peak", "bytes")]
    pairs += [("memory at rest", "start", "start", "rest_bytes")]
    pairs += [("memory at rest, 1,000 partitions", "start", "start", "partitions_rest_bytes")]
    for name, part, scenario, figure in pairs:
        ours, theirs = (measured.of(part, scenario, system) for system in (TIDEGATE, KAFKA))
        if ours and theirs:
            ratio = ours[figure] / theirs[figure]
            rows.append((name, "≤ 1/10", f"{ratio:.2f}×", "yes" if ratio <= 0.1 else "**no**"))
        else:
            rows.append((name, "≤ 1/10", "not measured", "not known"))
    ours = measured.of("start", "start", TIDEGATE)
    for figure, name in STARTS:
        measured_ms, verdict = "not measured", "not known"
        if ours:
            measured_ms, verdict = f"{ours[figure] * 1000:,.0f} ms", "yes" if ours[figure] < 0.2 else "**no**"
        rows.append((f"ready: {name}", "< 200 ms", measured_ms, verdict))
    return rows


STARTS = [("empty_s", "empty"), ("partitions_s", "1,000 partitions"), ("killed_s", "1,000 partitions, after kill -9")]


def known(row, figure):
    """A difference that is not above zero is within the noise, and says nothing."""
    value = row.get(figure) if row else None
    return value if value is None or value > 0 else None


def cells(rows, figure, form):
    return [number(known(row, figure), form) for row in rows]


def ratio_cell(ours, theirs, figure):
    of_ours, of_theirs = known(ours, figure), known(theirs, figure)
    return f"{of_ours / of_theirs:.2f}×" if of_ours and of_theirs else "–"


def by_partitions(scenario):
    return int(scenario.split(" ", 1)[0].replace(",", ""))


def short(system):
    return {TIDEGATE: "ours", SYNCED: "synced", UNSYNCED: "default"}.get(system, system)


def beside(measured, parts, figures=((CPU, "CPU s/GB", "{:.2f}"), (RATE, "MB/s", "{:,.0f}"))):
    """Both brokers' figures of some parts, and the ratios."""
    rows, titles = [], ["partitions × value"]
    for figure, name, _ in figures:
        titles += [f"{name}: {short(system)}" for system in SYSTEMS] + ["÷ synced", "÷ default"]
    for part, name in parts:
        for scenario in sorted(measured.scenarios(part), key=by_partitions):
            of = [measured.of(part, scenario, system) for system in SYSTEMS]
            row = [f"{scenario}{name}"]
            for figure, _, form in figures:
                row += cells(of, figure, form)
                row += [ratio_cell(of[0], theirs, figure) for theirs in of[1:]]
            rows.append(row)
    return aligned(titles, rows) if rows else ""


def latency(measured):
    titles, rows = ["partitions × value, rate: by"], []
    titles += [f"{short(system)}: p50 / p99 / p99.9 ms" for system in SYSTEMS]
    for scenario in measured.scenarios("latency"):
        row = [scenario]
        for system in SYSTEMS:
            of = measured.of("latency", scenario, system)
            row.append(" / ".join(number(of[name]) for name in ("p50_ms", "p99_ms", "p999_ms")) if of else "–")
        rows.append(row)
    return aligned(titles, rows) if rows else ""


def rest(measured):
    rows = []
    both = lambda part, scenario, figure, form, scale: [
        number(of[figure] / scale, form) if (of := measured.of(part, scenario, system)) else "–"
        for system in (TIDEGATE, KAFKA)
    ]
    for figure, name in STARTS:
        rows.append((f"ready, ms: {name}", *both("start", "start", figure, "{:,.0f}", 1e-3)))
    rows.append(("resident at rest, MiB: empty", *both("start", "start", "rest_bytes", "{:,.0f}", MIB)))
    resting = both("start", "start", "partitions_rest_bytes", "{:,.0f}", MIB)
    rows.append(("resident at rest, MiB: 1,000 partitions", *resting))
    rows.append(("resident at most, under all of the load above, MiB", *both("memory", "peak", "bytes", "{:,.0f}", MIB)))
    return aligned(["", "ours", "Kafka"], rows)


def plain(measured):
    row = measured.of("socket", "plain", "socket")
    if not row:
        return ""
    return textwrap.fill(
        f"The same bytes cost {row['write']:.2f} CPU seconds per GB where a process only writes them to a loopback socket from"
        f" memory, and {row['sendfile']:.2f} with sendfile from a file in the page cache, which is Kafka's way"
        " (a writer of 1 MiB at a time; the reader's time is not in it).",
        WIDTH,
    )


def head(run):
    processes, steal = run["others"]["processes"], run["others"]["steal"]
    share = f"other processes took {processes:.0%} of the cores' time, and the host {steal:.0%} (steal)"
    is_quiet = processes + steal <= QUIET_MAX
    quiet = f"The machine was quiet ({share})." if is_quiet else f"**The machine was not quiet**: {share}."
    rounds = "one round" if run["rounds"] == 1 else f"medians of {run['rounds']} rounds"
    if run["left_out"]:
        rounds += f" ({run['left_out']} times there was no time for a scenario)"
    text = (
        f"By `{run['command']}` on {run['date']}, in {run['minutes']:.0f} minutes: {run['machine']}, which broker and clients"
        f" share; {run['versions']}; {rounds}, in each of which every broker has every scenario in turn. {quiet}"
    )
    return textwrap.fill(text, WIDTH)


def report(run, results):
    measured = Measured(results)
    followed = [("tail", ", at the tail"), ("catch-up", ", catch-up"), ("catch-up, Kafka's tool", ", catch-up, Kafka's tool")]
    followed += [("catch-up, packed, first", ", ours packed, first"), ("catch-up, packed, again", ", ours packed, again")]
    produced = [("produce", ""), ("produce, Kafka's tool", ", Kafka's tool"), ("produced and packed", ", ours with packing")]
    sections = [
        ("## Goals", goals(measured)),
        ("## Produce", beside(measured, produced)),
        ("## Fetch", beside(measured, followed)),
        ("", plain(measured)),
        ("## Waits at fixed rates", latency(measured)),
        ("## Start and memory", rest(measured) if measured.scenarios("start") else ""),
    ]
    parts = [head(run)]
    for name, text in sections:
        if text:
            parts += [name, text] if name else [text]
    return "\n\n".join(parts) + "\n"
