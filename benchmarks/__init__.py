"""Speed as ratios within one run: against the peers that do the same, and against the limit.

One module a subject, whose `main()` prints a Markdown section; `python -m benchmarks` runs them all into reports/benchmarks.md.
"""
