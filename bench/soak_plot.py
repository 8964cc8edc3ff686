"""Draws what `soak.py` recorded: python bench/soak_plot.py bench/results/soak.json docs/soak.svg"""

from __future__ import annotations

import json
import sys
from pathlib import Path

WIDTH, ROW, LEFT = 860, 90, 120
ROWS = (("memory", "memory, MB", 1e6), ("descriptors", "descriptors", 1), ("threads", "threads", 1),
        ("processes", "capture processes", 1), ("good", "frames/s, good", 1), ("bad", "frames/s, bad", 1))  # fmt: skip


def main() -> None:
    """One row a quantity, from 0 to its most; a grey line where a fault begins."""
    record = json.loads(Path(sys.argv[1]).read_text())
    samples, end = record["samples"], record["seconds"]
    height = ROW * len(ROWS) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    scale = (WIDTH - LEFT - 20) / end
    parts += [f'<path d="M{LEFT + t * scale:.1f} 8V{height - 28}" stroke="#ddd"><title>{name}</title></path>'
              for t, name in record["faults"]]  # fmt: skip
    for row, (key, label, unit) in enumerate(ROWS):
        top, most = row * ROW + 12, max(sample[key] for sample in samples) / unit
        points = " ".join(
            f"{LEFT + sample['t'] * scale:.1f},{top + (ROW - 24) * (1 - sample[key] / unit / most):.1f}"
            for sample in samples
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="#2457a7" stroke-width="1.3"/>')
        parts.append(f'<path d="M{LEFT} {top}V{top + ROW - 24}H{WIDTH - 20}" stroke="#888" fill="none"/>')
        parts.append(f'<text x="8" y="{top + 34}">{label}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + 8}" text-anchor="end">{most:.4g}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{top + ROW - 24}" text-anchor="end">0</text>')
    for minute in range(0, int(end / 60) + 1, 5):
        parts.append(
            f'<text x="{LEFT + minute * 60 * scale:.1f}" y="{height - 8}" text-anchor="middle">{minute} min</text>'
        )
    Path(sys.argv[2]).write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
