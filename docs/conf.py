"""Sphinx configuration: `make docs` builds the site into build/docs."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "zoojax"
copyright = "the zoojax authors"
release = version = metadata.version("zoojax")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    # After autodoc, whose docstrings it changes.
    "reference_pages",
]
exclude_patterns = ["_extensions", "**.ipynb_checkpoints"]

# Notebooks are stored with their outputs; `make test-slow` runs them.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# They would turn "--out" into a dash.

# Docstrings write code in single backticks, as Markdown does.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "furo"
html_title = "zoojax"
html_show_copyright = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0072B2", "color-brand-content": "#0072B2"},
    "dark_css_variables": {"color-brand-primary": "#56B4E9", "color-brand-content": "#56B4E9"},
}
# Without a source repository, pages have no link to their source.
html_show_sourcelink = False
