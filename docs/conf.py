"""Configuration of the documentation site: `sphinx-build -W docs docs/_build`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "timm-ablate"
author = "the timm-ablate authors"
release = version = installed_version("timm-ablate")
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "timm-ablate"
html_show_copyright = False
smartquotes_action = "qe"  # quotes and ellipses, but not dashes: `--` begins an option
html_static_path = ["_static"]
html_css_files = ["site.css"]
