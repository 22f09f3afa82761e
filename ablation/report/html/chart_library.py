"""The chart library of the HTML report: Vega, Vega-Lite and vega-embed as one script."""

from contextlib import suppress
from importlib.metadata import version

from platformdirs import user_cache_path

from benchmarks.records.atomic_write import replace_file


def chart_library() -> str:
    """Return the script, which sets `vega`, `vegaLite` and `vegaEmbed`.

    vl-convert contains the libraries, and takes seconds to bundle them: the script is kept in the user's cache.
    """
    file = user_cache_path("timm-ablate") / "charts" / f"vega_bundle_{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text(encoding="utf-8")

    import vl_convert  # imported late: the library is large

    script = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub requires an optional argument
    with suppress(OSError):  # without a cache, the next report takes longer
        replace_file(file, lambda path: path.write_text(script, encoding="utf-8"))
    return script
