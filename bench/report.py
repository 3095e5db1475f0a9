"""Writes a run of the echo benchmark into bench/README.md, so that its tables are never typed.

    python -m bench.report RESULTS.json        # what `python -m bench.echo --json` wrote
    python -m bench.report RESULTS.json --readme OTHER.md

Replaces what stands between the two marker lines, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.echo import FORMAT
from bench.errors import BenchError
from bench.tables import report_markdown

BEGIN = "<!-- figures: begin (written by python -m bench.report) -->"
END = "<!-- figures: end -->"
README = Path(__file__).parent / "README.md"


def with_figures(readme: str, figures: str) -> str:
    """The text with `figures` between the markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"the lines {BEGIN} and {END} are not both there")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser("bench.report", description=(__doc__ or "").splitlines()[0])
    options.add_argument("results", type=Path)
    options.add_argument("--readme", type=Path, default=README)
    chosen = options.parse_args(arguments)
    report = json.loads(chosen.results.read_text())
    try:
        if report["format"] != FORMAT:
            raise BenchError(f"{chosen.results} has format {report['format']}, not {FORMAT}")
        text = with_figures(chosen.readme.read_text(), report_markdown(report))
    except BenchError as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 1
    chosen.readme.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
