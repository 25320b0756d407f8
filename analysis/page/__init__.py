"""The report: one self-contained HTML page."""

from analysis.page.build import page, write_page

__all__ = ["page", "write_page"]
