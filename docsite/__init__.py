"""Builds the documentation site from docs/, and the pages of docs/reference/ that are generated.

`make docs` builds the site. `python -m docsite` writes the generated pages again.
"""
