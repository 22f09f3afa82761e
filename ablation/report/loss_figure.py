"""The figure of training and test loss against epoch."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ablation.analysis.records import RecordedPlan
from ablation.report.curves_figure import Curve, draw_end_labels, draw_lines, fit_names, read_curves
from ablation.report.figure_style import FigureSize, new_figure, seeds_legend

TEST_LINE_WIDTH, TRAINING_LINE_WIDTH = 1.0, 0.4  # relative to the lines of other figures
MIN_LOG_RATIO = 10  # the axis is logarithmic above this ratio of largest to smallest loss


def draw_losses(recorded: RecordedPlan, size: FigureSize, title: str = "") -> Figure:
    """Draw the test and training loss of each row against epoch, in the color of the row.

    The training loss is what the optimizer minimizes on augmented images, with label smoothing and distillation losses,
    if there are any. It may therefore be larger than the test loss, which is the cross-entropy on the test images.

    Args:
        recorded: The rows and their records, with training curves.
        size: The size of the figure.
        title: The title of the figure.
    """
    names, label_width = fit_names(recorded.rows, size)
    lines = f"thick: {recorded.split_name}, thin: training{_training_remark(recorded)}"
    test, train = read_curves(recorded, names, "loss"), read_curves(recorded, names, "train_loss")
    legend = f"{seeds_legend(len(curve.values) for curve in test)}; {lines}"
    figure, axes = new_figure(size, title, legend, right_margin=label_width)
    axes.set(xlabel="epoch", ylabel="loss")
    draw_lines(axes, test, TEST_LINE_WIDTH * size.line)
    draw_lines(axes, train, TRAINING_LINE_WIDTH * size.line)
    if test:
        _set_limits(axes, [*test, *train])
        draw_end_labels(axes, size, test)
    return figure


def _training_remark(recorded: RecordedPlan) -> str:
    """Return what the training loss contains besides the cross-entropy of the labels."""
    terms = ["label smoothing"] if recorded.benchmark.recipe.label_smoothing else []
    if any(row.overrides.distillation for row in recorded.rows):
        terms.append("distillation loss")
    return f" (with {' and '.join(terms)})" if terms else ""


def _set_limits(axes: Axes, curves: Sequence[Curve]) -> None:
    means = [value for curve in curves for value in curve.values.mean(0)]
    low, high = min(means), max(means)
    if high > MIN_LOG_RATIO * low > 0:
        axes.set_yscale("log")
        axes.set_ylabel("loss (log scale)")
        axes.set_ylim(low / 1.15, high * 1.15)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.06 * max(high - low, 0.01)
        axes.set_ylim(low - margin, high + margin)
