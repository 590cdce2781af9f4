"""The committed pictures: one per dashboard, of what the dashboard is now, and light enough for a README."""

import pytest
from PIL import Image

from dashboards.page import SCALE, WIDTH, height
from dashboards.render import IMAGES, boards, hash_in, seen_hash

BOARDS = boards()
each_dashboard = pytest.mark.parametrize("uid", sorted(BOARDS))


@each_dashboard
def test_every_dashboard_has_a_picture_of_what_it_is_now(uid: str) -> None:
    assert hash_in(IMAGES / f"{uid}.png") == seen_hash(BOARDS[uid]), "out of date: make images"


@each_dashboard
def test_a_picture_is_as_wide_as_a_readme_needs_and_not_heavy(uid: str) -> None:
    path = IMAGES / f"{uid}.png"
    with Image.open(path) as image:
        assert image.size == (round(WIDTH * SCALE), round(height(BOARDS[uid]) * SCALE))
    assert path.stat().st_size < 400_000


def test_no_picture_is_of_a_dashboard_that_is_gone() -> None:
    assert {path.stem for path in IMAGES.glob("cutover-*.png")} == set(BOARDS)
