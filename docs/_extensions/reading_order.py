"""The order of the gallery: from first steps to the paper."""

from pathlib import Path

SECTIONS = ["first_steps", "comparisons", "pipelines", "paper"]
EXAMPLES = [
    "plot_3_versus_7",
    "plot_raw_units",
    "plot_choosing_epsilon",
    "plot_trees",
    "plot_random_forest",
    "plot_adversarial_training",
    "plot_which_training",
    "plot_pipeline_stages",
    "fit_on_a_cluster",
    "plot_an_invisible_change",
    "plot_logits_and_transfer",
    "plot_path",
    "plot_which_pixels",
]


class ReadingOrder:
    """Sort the examples of a section as above; those that are not named come last."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __repr__(self):
        return "<ReadingOrder>"

    def __call__(self, filename):
        """A key to sort by."""
        name = Path(filename).stem
        place = EXAMPLES.index(name) if name in EXAMPLES else len(EXAMPLES)
        return place, name


def by_reading_order(path):
    """A key for the small galleries of the API pages."""
    return ReadingOrder("")(path)
