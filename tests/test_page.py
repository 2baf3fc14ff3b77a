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


def test_it_works_by_keyboard_alone(page):
    "The point, the menu, zoom, a look into the reference; the focus goes along and is seen."
    focus = lambda: page.evaluate("""() => { const e = document.activeElement, s = getComputedStyle(e);
        return [e.className || e.tagName, e.ariaLabel ?? e.textContent, parseFloat(s.outlineWidth) || 0]; }""")     # noqa: E731
    stage = page.locator(".rc-stage")
    page.locator(".rc-tab").first.focus()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, label, outline = focus()
        assert outline >= 2 or "rc-upload" in page.evaluate("document.activeElement.parentNode.className"), (name, label)
        if "rc-stage" in name: break
    else: raise AssertionError("Tab does not come to the picture")
    zoom = lambda: page.locator(".rc-percent").inner_text()                                  # noqa: E731
    fit = zoom()
    page.keyboard.press("+")
    assert zoom() != fit
    page.keyboard.press("0")
    assert zoom() == fit
    where = page.locator(".rc-where").inner_text()
    for _ in range(3): page.keyboard.press("ArrowUp")
    assert page.locator(".rc-where").inner_text() != where and page.locator(".rc-sheet .rc-cross").is_visible()
    page.keyboard.press("Enter")
    assert "rc-swatch-button" in focus()[0]
    page.keyboard.press("Escape")
    assert "rc-stage" in focus()[0] and page.locator(".rc-menu").is_hidden()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Look there").press("Enter")
    assert focus()[1].startswith("reference 1")
    page.keyboard.press("ArrowUp")
    act(page, lambda: page.keyboard.press("Enter"))
    assert "looks at reference 1" in page.locator(".rc-hints").inner_text()
    act(page, lambda: page.get_by_role("button", name="remove correction 2").press("Enter"))
    assert page.locator(".rc-hints li").count() == 1 and stage.is_visible()


def test_a_reference_goes_with_what_looks_there(page, twin):
    "Two references, one look at the second; it is removed under the hint, one sentence, and undo brings both back."
    act(page, lambda: upload(page, "reference", "red.png", encoded(Image.new("RGB", (90, 40), (200, 30, 30)))))
    assert page.locator(".rc-references li").count() == 2
    page.mouse.click(*at(page, -.2, -.6))
    page.get_by_role("button", name="Look there").click()
    act(page, lambda: page.locator(".rc-reference").nth(1).click())
    assert "looks at reference 2" in page.locator(".rc-hints").inner_text()
    shot(page, "colour-look")
    act(page, lambda: page.get_by_role("button", name="remove reference 2").click())
    page.get_by_role("alert").filter(has_text="went with it").wait_for()
    assert page.locator(".rc-hints li").count() == 1 and page.locator(".rc-references li").count() == 1
    act(page, lambda: press(page, "Undo"))
    assert page.locator(".rc-hints li").count() == 2 and page.locator(".rc-references li").count() == 2
    for _ in range(3): act(page, lambda: press(page, "Undo"))
    page.mouse.click(*at(page, .9, .9))                                     # begun, and left
    page.get_by_role("button", name="Look there").click()
    page.keyboard.press("Escape")
    step = step_of(page)
    page.locator(".rc-reference").click()
    assert step_of(page) == step and "Now click" not in page.locator(".rc-status").inner_text()


GIVE = """([selector, kind, files, text]) => {
  const data = new DataTransfer();
  for (const [name, bytes] of files) data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type: "image/png" }));
  if (text) data.setData("text/plain", text);
  const event = kind === "paste" ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true, cancelable: true })
                                 : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.querySelector(selector).dispatchEvent(event);
}"""


def give(page, selector, kind, files=(), text=""):
    "Drop or paste files there."
    page.evaluate(GIVE, [selector, kind, [[n, base64.b64encode(d).decode()] for n, d in files], text])


BAD = {"not an image": ("notes.png", b"Dear diary", "not an image"),
       "empty": ("empty.png", b"", "is empty"),
       "damaged": ("half.png", encoded(drawing())[:300], "cannot read half.png"),
       "too many bytes": ("huge.png", b"\0" * 9_000_000, "at most 8 MB"),
       "too many pixels": ("wide.png", encoded(Image.new("1", (70_000, 1_000))), "70000 × 1000"),
       "a name with markup": ("<img src=x onerror=alert(1)>.png", b"x", "<img src=x"),
       "blank": ("blank.png", encoded(Image.new("RGBA", (50, 50), (9, 9, 9, 0))), "blank")}


def test_what_is_no_picture_is_one_sentence_where_it_was_given(page):
    dialogs, before, step = [], shown(page), step_of(page)
    page.on("dialog", lambda d: (dialogs.append(d.message), d.dismiss()))
    said = lambda words, role="sketch": page.locator(f"[data-role={role}] .rc-alert").filter(has_text=words).wait_for(timeout=20_000)  # noqa: E731
    for name, content, words in BAD.values():
        upload(page, "sketch", name, content)
        said(words)
        assert len(alerts(page)) == 1 and "\n" not in alerts(page)[0], name
    good = ("a.png", encoded(drawing()))
    give(page, "[data-role=sketch]", "drop", [good, good])
    said("2 files at once")
    give(page, ".rc-stage", "paste", text="no picture")
    said("no picture")
    give(page, "[data-role=reference]", "drop", [], "a word")
    said("no file of a picture", "reference")
    assert step_of(page) == step and not dialogs and np.array_equal(shown(page), before)
    assert page.evaluate("""() => ["dragover", "drop"].every((kind) => !document.querySelector(".rc-stage").dispatchEvent(
        new DragEvent(kind, { dataTransfer: new DataTransfer(), bubbles: true, cancelable: true })))""")     # the browser opens nothing


def test_drawings_come_by_drop_and_paste_and_keep_their_size(page, twin):
    act(page, lambda: give(page, "[data-role=sketch]", "drop", [("house.png", encoded(drawing(300)))]))
    assert shown(page).shape == (200, 300, 3) and "house.png, 300 × 200 px" in page.locator(".rc-named").inner_text()
    dark = Image.eval(drawing(240), lambda v: 255 - v)
    act(page, lambda: give(page, ".rc-stage", "paste", [("chalk.png", encoded(dark))]))
    assert "light ink on dark paper" in page.locator("[data-role=sketch] .rc-note").inner_text()
    for role, data, name in (("sketch", encoded(dark), "chalk.png"),): twin.colouring.sketch(data, name)
    twin.colouring.flat(page.locator(".rc-button[aria-pressed=true]").first.inner_text() == "Flat")
    check(page, twin.colouring.picture())
    photo = Image.fromarray(np.asarray(Image.linear_gradient("L").resize((120, 90))).astype(np.uint8)).convert("RGB")
    photo.paste((200, 60, 30), (30, 20, 80, 70))
    page.get_by_label("lines of a photograph").check()
    act(page, lambda: upload(page, "sketch", "photo.png", encoded(photo)))
    assert shown(page).shape == (90, 120, 3)
    page.get_by_label("lines of a photograph").uncheck()
    press(page, "Before")
    assert np.ptp(shown(page), axis=-1).max() == 0                          # the drawing alone
    press(page, "Before")
    page.locator("[data-role=sketch] summary").click()
    artists = page.locator("[data-role=sketch] [role=group]")
    assert artists.count() >= 5
    act(page, lambda: artists.nth(1).get_by_role("button").first.click())
    assert shown(page).shape == (512, 512, 3) and "adventurer" in page.locator(".rc-named").inner_text()


def test_the_wheel_zooms_where_it_is_and_dragging_moves(page):
    spot = at(page, .3, .2)
    page.mouse.move(*spot)
    under = page.locator(".rc-where").inner_text().split(":")[0]
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(100)
    page.mouse.move(spot[0] + .01, spot[1])
    assert page.locator(".rc-where").inner_text().split(":")[0] == under
    before, hints = at(page, 0, 0), page.locator(".rc-hints li").count()
    page.mouse.down()
    page.mouse.move(spot[0] + 60, spot[1] + 25, steps=4)
    page.mouse.up()
    after = at(page, 0, 0)
    assert np.allclose(np.subtract(after, before), (60, 25), atol=8) and page.locator(".rc-menu").is_hidden()
    assert page.locator(".rc-hints li").count() == hints
    press(page, "Fit")


def check_width(page):
    "Nothing sticks out of the window or of its box, and the words are large enough to read."
    wide, small = page.evaluate("""() => { const seen = [...document.querySelectorAll("main p, main li, main button, main section, main small, main label")]
            .filter((e) => e.offsetParent && !e.closest(".rc-stage"));
        const out = (e) => e.getBoundingClientRect().right > innerWidth + 1 || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline";
        return [seen.filter(out).map((e) => e.outerHTML.slice(0, 120)), Math.min(...seen.map((e) => parseFloat(getComputedStyle(e).fontSize)))]; }""")
    assert not wide and small >= 11, (wide, small)


def test_widths(page):
    for width in (1280, 800, 500):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(200)
        check_width(page)
        assert page.locator(".rc-stage").bounding_box()["width"] > .4 * width
        shot(page, f"colour-{width}")
    page.set_viewport_size({"width": 1280, "height": 1000})
