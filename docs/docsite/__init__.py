"""Builds the documentation site from docs/, and the pages of docs/reference/ that are generated.

`make docs` builds the site. `make reference` writes the generated pages again.
"""
