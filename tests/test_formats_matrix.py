"""Every container with every kind of pixels that people have: read right, or refused by name.

Each file is made here, from pixels whose sRGB values are known, and compared to 2 of 255; size
and orientation exactly.  `python -m tests.test_formats_matrix > docs/files.md` writes the page
that lists what was found, and a test holds that it is current.
"""

from __future__ import annotations

import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import features

from optistyle.errors import InputError
from optistyle.pictures import read
from tests.picture_cases import jpegs, others, png_colours, pngs, tiffs
from tests.picture_extras import HAS_HEIC, heics, jpeg_xls
from tests.picture_features import profiled, refused, several, turned
from tests.picture_files import Case, H, W

PAGE = Path(__file__).parent.parent / "docs" / "files.md"
MAKERS = (
    jpegs,
    pngs,
    png_colours,
    tiffs,
    others,
    heics,
    jpeg_xls,
    profiled,
    turned,
    several,
    refused,
)


def outcome(case: Case, folder: Path) -> str:
    """Read a case's file and return what is wrong with the result; "" where nothing is."""
    path = folder / f"picture{case.suffix}"
    path.write_bytes(case.make())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = read(path)
        except InputError as error:
            if not case.refused:
                return f"refused: {error}"
            return "" if re.search(case.refused, str(error)) else f"refused otherwise: {error}"
    if case.refused:
        return "read, but is to be refused"
    messages = [
        str(warning.message)
        for warning in caught
        if warning.category is UserWarning and str(path) in str(warning.message)
    ]
    if (len(messages) != 1 or case.said not in messages[0]) if case.said else messages:
        return f"warned: {messages}"
    assert case.colour is not None
    colour = found.pixels[0].permute(1, 2, 0).numpy() * 255
    if colour.shape != case.colour.shape:
        return f"of shape {colour.shape}"
    alpha = np.full((H, W), 255.0) if case.alpha is None else case.alpha
    if (found.alpha is None) != (case.alpha is None):
        return "with alpha" if case.alpha is None else "without alpha"
    if found.alpha is not None and np.abs(found.alpha[0, 0].numpy() * 255 - alpha).max() > 2:
        return "with another alpha"
    visible = case.alpha is None or (alpha > 8)[..., None]
    error = float((np.abs(colour - case.colour) * visible).max())
    return "" if error <= 2 else f"wrong by {error:.0f}"


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_kind_is_read_right_or_refused_by_name(
    maker: Callable[[], Iterator[Case]], tmp_path: Path
) -> None:
    wrong = {str(case): what for case in maker() if (what := outcome(case, tmp_path))}
    assert wrong == {}


# --- the page ---

HEAD = """\
# Picture files

`optistyle run photo.avif painting.tif` looks at a file's first bytes, not at its name. It reads
JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF, JPEG 2000, PPM and TGA, turns the picture upright and
converts it to sRGB. Any other format is refused by its name, with the way out:

```
photo.psd is a Photoshop document, which is not read (allowed: JPEG, PNG, WebP, TIFF, GIF, BMP,
AVIF, JPEG 2000, PPM, TGA): export it as JPEG or PNG first
```

`pip install "optistyle[formats]"` adds HEIC and JPEG XL. JPEG XL is read in sRGB, in
linear sRGB and where it was made from a JPEG; one with a profile is refused.

`pip install "optistyle[deep]"` adds 16-bit colours and a few rare TIFF layouts. Without it, 16-bit
colours are read as 8-bit, with a warning.

PNG, JPEG, WebP and TIFF are written, in sRGB with a profile, PNG and TIFF in 16 bits too. The
photograph's date, author and copyright go into the result; its place never does.

Limits: a picture has at least 16 pixels on its shorter side and at most 200 million pixels. The
header decides, before anything is decoded. A PNG's profiles and texts may have 32 MB each after
decompression. A file that is cut off is refused, unless a JPEG lacks no more than its last row of
blocks.

## Colours

An ICC profile counts first. Without one, a PNG's cICP chunk counts, then sRGB, then gAMA with
cHRM; the code points (nclx) of AVIF and HEIC count in the same way. A gamma of 1/2.2 means sRGB. A
profile that is damaged is ignored with a warning; one for another kind of pixels, without. HDR
pictures (PQ, HLG) are refused, because their brightness has no counterpart in sRGB.

## Several pictures in a file

Of an animation, the first frame is read; of a TIFF with several pages, the first page that is no
thumbnail. A warning says so. A page counts as a thumbnail where it is marked as one, or where a
later page of the same aspect is at least twice as long.

## What was tried

`python -m tests.test_formats_matrix` makes each of these files, reads it, compares colours and
alpha to 2 of 255 with values known from making it, size and orientation exactly, and writes this
page.

| Container | Kind | Files | Variants | Result |
| --- | --- | ---: | --- | --- |
"""


def result(case: Case) -> str:
    if case.refused:
        return "refused, with the reason"
    return f"read; a warning says “{case.said}”" if case.said else "read"


def page() -> str:
    """The page, from the cases."""
    groups: dict[tuple[str, str, str], list[Case]] = {}
    for case in (case for maker in MAKERS for case in maker()):
        groups.setdefault((case.container, case.kind, result(case)), []).append(case)
    order = list(dict.fromkeys(container for container, _, _ in groups))
    rows = []
    for (container, kind, what), cases in sorted(
        groups.items(), key=lambda g: order.index(g[0][0])
    ):
        rows.append(f"| {container} | {kind} | {len(cases)} | {variants(cases)} | {what} |")
    return HEAD + "\n".join(rows) + "\n"


def variants(cases: list[Case]) -> str:
    """The details in full where they are few or of one word, else each word of them once."""
    details = [case.detail for case in cases]
    if len(details) > 6 and cases[0].container != "other formats":
        details = [word for detail in details for word in detail.split(", ")]
        numbers = {word for word in details if word in set("12345678")}
        details = ["1 to 8"] * bool(numbers) + [word for word in details if word not in numbers]
    return "; ".join(dict.fromkeys(details))


@pytest.mark.skipif(not features.check("avif"), reason="the page has AVIF's rows")
@pytest.mark.skipif(not HAS_HEIC, reason="the page has HEIC's rows")
def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def main() -> None:
    """Try every file and print the page, or what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [case for maker in MAKERS for case in maker()]
        wrong = [f"{case}: {what}" for case in cases if (what := outcome(case, Path(folder)))]
    if wrong:
        sys.exit("\n".join(wrong))
    print(page(), end="")


if __name__ == "__main__":
    main()
