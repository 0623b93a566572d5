"""What `tests/bench mqtt` has measured, as markdown: goals first, then every scenario, then what is
measured at rest or at a fixed rate; and where it stands in README."""

import re
import statistics
import textwrap

from mqtt_brokers import AT_ONCE_NAME, BASE_NAME, DURABLE_NAME, LIVE_NAME, SINK_NAME

MIB = 1 << 20
WIDTH = 120
CEILING_MIN = 3
CPU, RATE, TOOL_CPU = "broker_cpu_s_per_million", "messages_per_second", "tool_cpu_s_per_million"


def median(runs):
    """Of each figure, over the runs that held."""
    held = [run for run in runs or [] if "failed" not in run]
    if not held:
        return {"failed": runs[0]["failed"]} if runs else None
    return {key: statistics.median(run[key] for run in held) for key in held[0]}


def markdown(titles, rows):
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def title(scenario):
    sizes = {4096: "4 KiB"}
    size = sizes.get(scenario["payload_bytes"], f"{scenario['payload_bytes']} B")
    return f"{scenario['publishers']}→{scenario['subscribers']}, {size}, QoS {scenario['qos']}"


def ratio(results, key, name, figure):
    """To the base broker's, of medians."""
    row, base = median(results.get((key, name))), median(results.get((key, BASE_NAME)))
    if not row or not base or figure not in row or figure not in base:
        return None
    return row[figure] / base[figure]


def goals(results, goal_keys, edge_bytes):
    """Each goal, what was measured, and whether that holds."""
    qos_0, qos_1 = goal_keys
    idle = median(results.get(("idle", DURABLE_NAME))) or {}
    resident = idle.get("resident_before_bytes")
    wanted = [
        ("CPU per message, QoS 0, live", ratio(results, qos_0, LIVE_NAME, CPU), 0.2, False, "×"),
        ("CPU per message, QoS 1, live", ratio(results, qos_1, LIVE_NAME, CPU), 0.3, False, "×"),
        ("throughput, QoS 0, live", ratio(results, qos_0, LIVE_NAME, RATE), 3, True, "×"),
        ("throughput, QoS 1, live", ratio(results, qos_1, LIVE_NAME, RATE), 3, True, "×"),
        ("CPU, QoS 1, durable", ratio(results, qos_1, DURABLE_NAME, CPU), 1, False, "×"),
        ("throughput, QoS 1, durable", ratio(results, qos_1, DURABLE_NAME, RATE), 1, True, "×"),
        ("CPU, QoS 1, durable, linger 0", ratio(results, qos_1, AT_ONCE_NAME, CPU), 1, False, "×"),
        ("throughput, QoS 1, durable, linger 0", ratio(results, qos_1, AT_ONCE_NAME, RATE), 1, True, "×"),
        ("idle", resident and resident / MIB, 12, False, " MiB"),
        ("an idle connection", idle.get("bytes_per_connection"), 2048, False, " B"),
        ("stripped binary", edge_bytes / MIB, 15, False, " MiB"),
    ]
    rows = []
    for name, value, bound, at_least, unit in wanted:
        sign = "≥" if at_least else "≤"
        if value is None:
            rows.append((name, f"{sign} {bound}{unit}", "not measured", ""))
            continue
        held = value >= bound if at_least else value <= bound
        rows.append((name, f"{sign} {bound}{unit}", f"{value:,.2f}{unit}", "yes" if held else "**no**"))
    return markdown(["goal, beside mosquitto", "wanted", "measured", "held"], rows)


def cell(runs):
    row = median(runs)
    if row is None:
        return "–"
    if "failed" in row:
        return "failed"
    return f"{row[CPU]:.2f} · {row[RATE] / 1000:,.0f}k"


def throughput(results, keys, names):
    rows = []
    for key in keys:
        cells = [cell(results.get((key, name))) for name in names if name != SINK_NAME]
        sink = [sink_cell(results, key, names)] if SINK_NAME in names else []
        rows.append((key, *cells, *sink, tool_cell(results, key, names)))
    titles = [name for name in names if name != SINK_NAME] + [SINK_NAME] * (SINK_NAME in names)
    return markdown(["CPU s/M · messages/s", *titles, "load tool: CPU s/M · of the fastest's"], rows)


def fastest(results, key, names):
    """Of the brokers, by medians."""
    rows = [median(results.get((key, name))) for name in names if name != SINK_NAME]
    return max((row for row in rows if row and RATE in row), key=lambda row: row[RATE], default=None)


def times_fastest(results, key, names):
    """What the tool does against the sink, beside the fastest broker."""
    sink, broker = median(results.get((key, SINK_NAME))), fastest(results, key, names)
    return sink[RATE] / broker[RATE] if sink and broker and RATE in sink else None


def tool_share(row):
    """The tool's CPU time of the broker's beside which it ran: unlike a rate, it holds on a busy machine too."""
    return row[TOOL_CPU] / row[CPU] if row and row[CPU] else None


def sink_cell(results, key, names):
    """Without its CPU time: it does not sleep."""
    row, times = median(results.get((key, SINK_NAME))), times_fastest(results, key, names)
    if times is None:
        return "failed" if row and "failed" in row else "–"
    return f"{row[RATE] / 1000:,.0f}k ({times:.1f}×)"


def tool_cell(results, key, names):
    row = fastest(results, key, names)
    share = tool_share(row)
    return f"{row[TOOL_CPU]:.2f} · {share:.0%}" if share is not None else "–"


def ceiling(results, goal_keys, keys, names):
    """How far the tool is from being what bounds the fastest broker."""
    times = {key: value for key in goal_keys + keys if (value := times_fastest(results, key, names))}
    if not times:
        return "The null sink was not measured."
    shares = {key: share for key in times if (share := tool_share(fastest(results, key, names))) is not None}
    parts = []
    goals_there = [key for key in goal_keys if key in times]
    if goals_there:
        ratios = " and ".join(f"{times[key]:.1f}×" for key in goals_there)
        parts.append(f"Against the null sink the tool does {ratios} of the fastest broker in the goals' scenarios.")
    others = [key for key in keys if key in times]
    if others:
        high = sum(times[key] >= CEILING_MIN for key in others)
        least = min(others, key=times.get)
        parts.append(
            f"It does at least {CEILING_MIN}× in {high} of the {len(others)} other scenarios, and {times[least]:.1f}×"
            f" where it is least ({least})."
        )
    if shares:
        most = max(shares, key=shares.get)
        parts.append(
            f"The tool's CPU time is at most {shares[most]:.0%} of the fastest broker's ({most}; the last column has each):"
            " where that is well below the whole, the broker is what bounds."
        )
    if any(value < CEILING_MIN for value in times.values()):
        parts.append(
            "Tool and sink spend their time in the kernel: where each of many clients takes a write of its own"
            " (100→1), and in copies (4 KiB), a sink can't be far below a broker."
        )
    return textwrap.fill(" ".join(parts), WIDTH)


def figures(row, keys, form, scale):
    """Of one cell; a dash where nothing was measured."""
    if row is None:
        return "–"
    if "failed" in row:
        return "failed"
    return " / ".join(form.format(row[key] / scale) for key in keys)


def rest(results, names, binaries):
    rows = []
    for name in names:
        of = {kind: median(results.get((kind, name))) for kind in ("latency 0", "latency 1", "connects", "idle")}
        waits = ("p50_us", "p99_us", "p999_us")
        rows.append(
            (
                name,
                figures(of["latency 0"], waits, "{:.2f}", 1000),
                figures(of["latency 1"], waits, "{:.2f}", 1000),
                figures(of["connects"], ["connects_per_second"], "{:,.0f}", 1),
                figures(of["idle"], ["resident_before_bytes"], "{:.1f}", MIB),
                figures(of["idle"], ["resident_bytes"], "{:.0f}", MIB),
                figures(of["idle"], ["bytes_per_connection"], "{:.1f}", 1024),
                f"{binaries[name] / MIB:.1f}",
            )
        )
    idle = [row for name in names if (row := median(results.get(("idle", name)))) and "connections" in row]
    connections = f"{idle[0]['connections']:,.0f}" if idle else "all"
    titles = ["broker", "QoS 0: p50 / p99 / p99.9 ms", "QoS 1: the same", "connects/s"]
    titles += ["idle MiB", f"MiB with {connections} idle", "KiB for each", "binary MiB"]
    return markdown(titles, rows)


def idle(results, names):
    """What connections take that only stay, in bytes."""
    rows = []
    for name in names:
        row = median(results.get(("idle", name)))
        if row is not None:
            each = figures(row, ["bytes_per_connection"], "{:,.0f}", 1)
            before = figures(row, ["resident_before_bytes"], "{:.1f}", MIB)
            rows.append((name, before, figures(row, ["connections"], "{:,.0f}", 1), each))
    return markdown(["broker", "idle MiB", "connections", "bytes for each"], rows)


def failures(results):
    lines = []
    for (key, name), runs in results.items():
        failed = [run["failed"] for run in runs if "failed" in run]
        if failed:
            lines.append(f"- {name}, {key}: {len(failed)} of {len(runs)} runs: {failed[0]}")
    return "\n".join(lines)


def into_readme(path, text, run):
    """Between the markers; what stands behind the tables (`what bounds it`) stays."""
    head = (
        f"From `tests/bench mqtt` on {run['date']}: {run['machine']}, which brokers and load tool share;"
        f" medians of {run['rounds']} rounds, in each of which every broker has every scenario in turn. *Live*: no"
        " route, nothing is journalled, as the others keep nothing; *durable*: every message is in the journal,"
        " and PUBACK is sent after the fdatasync."
    )
    between_markers(path, "mqtt", textwrap.fill(head, WIDTH) + "\n\n" + text + "\n")


def between_markers(path, name, text):
    """What stands behind `bench:NAME:bounds` stays."""
    with open(path) as document:
        before = document.read()
    pattern = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- (?:bench:{name}:bounds|/bench:{name}) -->)", re.DOTALL)
    after, count = pattern.subn(lambda found: found[1] + text + found[2], before)
    if count != 1:
        raise SystemExit(f"{path} has no place for bench:{name}")
    with open(path, "w") as document:
        document.write(after)
