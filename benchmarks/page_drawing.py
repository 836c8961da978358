"""How long the page of ``inspect --html`` takes: to be made, and to be loaded and drawn in headless Chromium.

    python -m benchmarks.page_drawing MODEL...       # needs playwright and a chromium

For each network: layers, size of the page, seconds of making it, milliseconds from the address to the drawn graph
(median and largest of seven fresh pages), and what the console said (which ends it with exit code 1).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from netferry import api
from tests.netferry.browser import Opened, chromium

_READY = (
    "document.documentElement.dataset.drawn !== undefined && new Promise(r => requestAnimationFrame(() => r(true)))"
)


def main() -> int:
    """Print a line per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--pages", type=int, default=7)
    asked = parser.parse_args()
    noise = 0
    print(f"{'network':24} {'layers':>6} {'page kB':>8} {'made s':>7} {'drawn ms':>9} {'largest':>8}")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for path in asked.models:
            page = Path(folder) / "page.html"
            started = time.process_time()
            layers = api.inspect(path, html=page)["totals"]["layers"]
            made = time.process_time() - started
            took: list[float] = []
            for _ in range(asked.pages):
                context = browser.new_context(viewport={"width": 1400, "height": 900}, offline=True)
                found = Opened(context.new_page())
                began = time.perf_counter()
                found.page.goto(page.as_uri())
                assert found.page.evaluate(_READY)
                took.append((time.perf_counter() - began) * 1000)
                for line in found.said:
                    noise += 1
                    print("   ", line)
                context.close()
            middle, size = statistics.median(took), page.stat().st_size / 1000
            print(f"{path.name[:24]:24} {layers:6} {size:8.0f} {made:7.2f} {middle:9.0f} {max(took):8.0f}")
    return 1 if noise else 0


if __name__ == "__main__":
    raise SystemExit(main())
