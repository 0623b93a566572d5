"""What `tests/bench log` has measured, as aligned tables."""

from log_landing import CLOUD, GOAL, KAFKA, LOG, SYSTEMS
from mqtt_table import median


def aligned(titles, rows):
    """A markdown table whose columns stand below each other: the first to the left, figures to the right."""
    cells = [[str(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    justify = lambda row: [
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths))
    ]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [justify(cells[0]), rule, *(justify(row) for row in cells[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value, form="{:,.2f}"):
    return "–" if value is None else form.format(value)


def times(row, base, figure):
    return f"{row[figure] / base[figure]:.2f}×" if row and base and base[figure] else "–"


LANDING = [
    ("batches_per_s", "batches/s", "{:,.0f}"),
    ("records_per_s", "records/s", "{:,.0f}"),
    ("bytes_per_s", "bytes/s", "{:,.0f}"),
    ("records_per_core_s", "records per core second", "{:,.0f}"),
    ("cpu_s_per_gb", "CPU s/GB", "{:,.2f}"),
    ("cpu_s_per_million_batches", "CPU s/M batches", "{:,.2f}"),
    ("cores", "cores", "{:.2f}"),
    ("p50_ms", "p50 ms", "{:.2f}"),
    ("p99_ms", "p99 ms", "{:.2f}"),
]


def landing(runs):
    kinds = list(dict.fromkeys((records, payload) for records, payload, _ in runs))
    rows = []
    for records, payload in kinds:
        base = median(runs.get((records, payload, KAFKA)))
        for system in SYSTEMS:
            row = median(runs.get((records, payload, system)))
            if row is None:
                continue
            name = f"{records:,} {payload}, {row['batch_bytes']:,.0f} B: {system}"
            cells = [number(row[figure], form) for figure, _, form in LANDING]
            beside = [times(row, base, "batches_per_s"), times(row, base, "cpu_s_per_million_batches")]
            rows.append((name, *cells, *beside))
    titles = [title for _, title, _ in LANDING]
    return aligned(["records in a batch, its bytes, where", *titles, "rate ÷ Kafka's", "CPU ÷ Kafka's"], rows)


def log_alone(runs):
    rows = []
    for (records, payload, system), of in runs.items():
        if system == LOG:
            row = median(of)
            rows.append((f"{records:,} {payload}", number(row["batches_per_sync"]), number(row["log_bytes_per_byte"])))
    return aligned(["records in a batch", "batches per sync", "log bytes ÷ batch bytes"], rows)


def goals(runs):
    rows = []
    for (records, payload, system), of in runs.items():
        if records == 1000 and system in (LOG, CLOUD):
            value = median(of)["records_per_core_s"]
            held = "yes" if value >= GOAL else "**no**"
            rows.append((f"messages/s per core, 1,000 {payload}, {system}", f"≥ {GOAL:,}", f"{value:,.0f}", held))
    return aligned(["goal", "wanted", "measured", "held"], rows)


STAGES = [
    ("mb_per_s", "MB/s", "{:,.0f}"),
    ("cpu_s_per_gb", "CPU s/GB", "{:,.2f}"),
    ("requests_per_gb", "requests/GB", "{:,.0f}"),
    ("store_bytes_per_byte", "store bytes ÷ bytes", "{:.3f}"),
    ("cached_bytes_per_byte", "kept in the cache ÷ bytes", "{:.3f}"),
]


def stages(runs):
    rows = []
    for stage, of in runs.items():
        row = median(of)
        rows.append((stage, *(number(row[figure], form) for figure, _, form in STAGES)))
    return aligned(["stage", *(title for _, title, _ in STAGES)], rows)


def columns(rows, titles):
    """A table with a column for each of `rows`."""
    lines = [[title, *(number(row.get(figure), form) for row in rows)] for figure, title, form in titles]
    return aligned(lines[0], lines[1:])


PARTITIONS = [
    ("partitions", "partitions", "{:,}"),
    ("bytes", "bytes of batches", "{:,}"),
    ("segments", "segments", "{:,.0f}"),
    ("pack_s", "packed within, s", "{:.1f}"),
    ("pack_cpu_s", "CPU s meanwhile", "{:.2f}"),
    ("puts_per_gb", "writing requests/GB, a folder", "{:,.0f}"),
    ("s3_puts_per_gb", "writing requests/GB, S3", "{:,.0f}"),
    ("gets_per_gb", "reading requests/GB, cold, a folder", "{:,.0f}"),
    ("s3_gets_per_gb", "reading requests/GB, cold, S3", "{:,.0f}"),
    ("got_bytes_per_byte", "bytes got ÷ bytes read, cold", "{:.3f}"),
    ("log_bytes_per_byte", "log bytes ÷ bytes", "{:.3f}"),
    ("object_bytes_per_byte", "object bytes ÷ bytes", "{:.3f}"),
    ("device_bytes_per_byte", "bytes to the device ÷ bytes, all", "{:.3f}"),
    ("kept_packed_per_byte", "kept ÷ bytes, packed", "{:.3f}"),
    ("kept_swept_per_byte", "kept ÷ bytes, after the window", "{:.3f}"),
]

START = [
    ("partitions", "partitions, a batch in each", "{:,}"),
    ("snapshot_bytes", "snapshot, bytes", "{:,}"),
    ("snapshot_start_s", "start from the snapshot, s", "{:.2f}"),
    ("snapshot_start_cpu_s", "CPU s", "{:.2f}"),
    ("resident_mib", "resident then, MiB", "{:,.0f}"),
    ("landed_resident_mib", "resident before, after landing, MiB", "{:,.0f}"),
    ("tail_batches", "batches behind it", "{:,}"),
    ("tail_bytes", "log behind it, bytes", "{:,.0f}"),
    ("tail_start_s", "start with that, s", "{:.2f}"),
    ("tail_start_cpu_s", "CPU s", "{:.2f}"),
]

MEMORY = [
    ("batches", "batches of one record", "{:,}"),
    ("in_log_mib_per_million", "resident per million in the log, MiB", "{:,.0f}"),
    ("snapshot_mib_per_million", "snapshot per million in the log, MiB", "{:,.1f}"),
    ("packed_snapshot_mib_per_million", "snapshot per million packed, MiB", "{:,.1f}"),
    ("packed_start_resident_mib", "resident after a start, all packed, MiB", "{:,.0f}"),
]


def report(measured):
    parts = []
    if "landing" in measured:
        runs = measured["landing"]
        parts += ["## Landing", goals(runs), landing(runs), log_alone(runs)]
    if "stages" in measured:
        parts += ["## CPU of each stage, and catch-up reading", stages(measured["stages"])]
    if "partitions" in measured:
        parts += ["## Requests and bytes", columns(measured["partitions"], PARTITIONS)]
    if "start" in measured:
        parts += ["## Start", columns([measured["start"]], START)]
    if "memory" in measured:
        parts += ["## Memory", columns([measured["memory"]], MEMORY)]
    return "\n\n".join(parts)
