"""Pictures in memory."""

from __future__ import annotations

import pytest
import torch

from optistyle.pictures import Picture, encode


@pytest.mark.parametrize("alpha", [None, torch.linspace(0, 1, 12).view(1, 1, 3, 4)])
def test_a_notebook_shows_the_file_that_would_be_written(alpha):
    picture = Picture(torch.linspace(-0.1, 1.1, 36).view(1, 3, 3, 4), alpha)
    assert picture._repr_png_() == encode(picture)
