"""The page in a real browser: what it shows is Python's picture, and nothing that people do leaves it dead."""
import base64
import io
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from test_browser import ROOT, SCREENSHOTS, area, browser, check_picture, check_row, free_port, point, read, serve, settle, shot, stop  # noqa: F401


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "What `make app` starts, on a free port."
    log, port = tmp_path_factory.mktemp("app") / "log", free_port()
    line = subprocess.run(["make", "-n", "-o", "install", "app", f"APP=--no-browser --port={port}",
                           f"BIN={Path(sys.executable).parent}"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    find = lambda text: (re.search(r"http://\S+token=\w+", text) or [None])[0]
    process, url = serve(["bash", "-c", f"exec {line}"], {"REFCOLOR_PROGRESS": "0"}, find, log)
    yield url, port, process, log
    stop(process)


@pytest.fixture(scope="module")
def open_page(browser, server):
    "Open the page as a new visitor; what it asks of other hosts, and its errors, end the test."
    visitors, wrong = [], []
    def visit(width=1280):
        visitors.append(browser.new_context(viewport={"width": width, "height": 1000}, accept_downloads=True))
        page = visitors[-1].new_page()
        ours = (f"http://127.0.0.1:{server[1]}/", f"ws://127.0.0.1:{server[1]}/", "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(ours) else wrong.append(r.url))
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.goto(server[0], timeout=90_000)
        page.locator(".rc-colour[data-step]").wait_for(timeout=90_000)
        return page
    yield visit
    for context in visitors: context.close()
    assert not wrong


@pytest.fixture(scope="module")
def page(open_page): return open_page()


@pytest.fixture(scope="module")
def twin():
    "The same visitor's picture, in this process."
    pytest.importorskip("anywidget")
    from refcolor.app.page import page
    torch.set_num_threads(1)
    return page()


def step_of(page): return int(page.locator(".rc-colour").get_attribute("data-step"))


def act(page, do):
    "Do something, and wait until the page shows a later scene, regions included."
    step = step_of(page)
    do()
    page.wait_for_function("""(step) => +document.querySelector(".rc-colour").dataset.step > step
        && !document.querySelector(".rc-status").textContent""", arg=step, timeout=30_000)


def shown(page):
    "The picture's pixels."
    size, data = page.evaluate("""() => { const c = document.querySelector(".rc-canvas"), parts = [];
        const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
        for (let i = 0; i < data.length; i += 9999) parts.push(String.fromCharCode(...data.subarray(i, i + 9999)));
        return [[c.height, c.width], btoa(parts.join(""))]; }""")
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(*size, 4)[..., :3].astype(int)


def check(page, picture):
    "The page shows this picture; its kernel may have more threads, which round otherwise."
    apart = np.abs(shown(page) - np.asarray(picture))
    assert apart.max() <= 2 or np.mean(apart.max(-1) > 2) < 1e-3, (apart.max(), apart.mean())


def press(page, name): page.get_by_role("button", name=name, exact=True).click()


def at(page, x, y):
    "A point of the picture, in the pixels of the window; it is scrolled there first."
    page.locator(".rc-stage").scroll_into_view_if_needed()
    box = page.locator(".rc-canvas").bounding_box()
    return box["x"] + (x + 1) / 2 * box["width"], box["y"] + (y + 1) / 2 * box["height"]


def alerts(page): return [t for t in page.locator(".rc-alert").all_text_contents() if t]


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def drawing(side=300, height=None):
    "A house: lines on white paper."
    image = Image.new("L", (side, height or side * 2 // 3), 255)
    draw, u = ImageDraw.Draw(image), side / 300
    draw.rectangle([60 * u, 80 * u, 240 * u, 190 * u], outline=0, width=round(4 * u))
    draw.line([60 * u, 80 * u, 150 * u, 15 * u, 240 * u, 80 * u], fill=0, width=round(4 * u))
    return image


def upload(page, role, name, data):
    page.get_by_label(f"open a {role}").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def saved(page, name):
    "What a button of the downloads gives: the file's name, and its bytes."
    with page.expect_download() as download: press(page, name)
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


# --- Colour: a painter's way, from the first picture to the layers

def test_it_opens_with_a_picture_a_title_and_landmarks(page, twin):
    page.get_by_text("Finding the regions").wait_for(state="hidden")
    check(page, twin.colouring.picture())
    assert page.title() == page.locator("h1").inner_text() == "Colour a drawing"
    for role in ("banner", "main", "navigation"): assert page.get_by_role(role).count() == 1, role
    assert page.get_by_role("link", name="course").get_attribute("href").startswith("https://")
    assert page.evaluate("document.documentElement.lang") == "en"
    bare = page.evaluate("""() => [...document.querySelectorAll("main button, main input, main summary, main [tabindex='0']")]
        .filter((e) => !(e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent)).map((e) => e.outerHTML)""")
    assert not bare
    shot(page, "colour-soft")


def test_a_region_takes_a_colour_at_once(page, twin):
    "Flat; a region painted from its menu; marker, list, downloads."
    act(page, lambda: press(page, "Flat"))
    twin.colouring.flat(True)
    check(page, twin.colouring.picture())
    page.mouse.click(*at(page, -.2, -.6))
    page.locator(".rc-menu").wait_for()
    shot(page, "colour-menu")
    colour = page.locator(".rc-swatch-button").nth(1).get_attribute("aria-label").split()[1]
    act(page, lambda: page.locator(".rc-swatch-button").nth(1).click())
    hint = page.locator(".rc-hints li")
    assert colour in hint.inner_text() and "x 204, y 102" in hint.inner_text()
    twin.colouring.paint(*(2 * (v + .5) / 512 - 1 for v in (204.3, 101.9)), colour)
    check(page, twin.colouring.picture())
    assert page.locator(".rc-marker").inner_text() == "1"
    name, data = saved(page, "PNG")
    assert name.endswith(".png") and np.abs(shown(page) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 2
    assert Image.open(io.BytesIO(saved(page, "Flats")[1])).mode == "RGBA"
    layers = zipfile.ZipFile(io.BytesIO(saved(page, "ORA, layers")[1]))
    assert layers.read("mimetype") == b"image/openraster" and len(layers.namelist()) > 5
    shot(page, "colour-flat")


def test_undo_goes_to_the_beginning_and_says_so(page):
    before = shown(page)
    page.locator(".rc-stage").focus()
    act(page, lambda: page.keyboard.press("Control+z"))
    assert not page.locator(".rc-marker").count()
    act(page, lambda: page.keyboard.press("Control+z"))
    assert page.get_by_role("button", name="Undo", exact=True).is_disabled()
    page.keyboard.press("Control+z")
    page.get_by_role("alert").filter(has_text="nothing to undo").wait_for()
    for _ in range(2): act(page, lambda: page.keyboard.press("Control+Shift+z"))
    assert np.array_equal(shown(page), before)
