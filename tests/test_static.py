"""The site's own pages, which run the network in the browser: what they show is what the library computes."""
import base64
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from test_browser import SLOW, area, browser, check_heat, check_width, must_run_in_ci, point, read, settle, shot  # noqa: F401

from refcolor.app.colouring import encoded

ROOT = Path(__file__).resolve().parent.parent


def drawing(size=(300, 200)):
    "A house: lines on white paper."
    image = Image.new("L", size, 255)
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 80, 240, 190), outline=0, width=4)
    draw.line((60, 80, 150, 15, 240, 80), fill=0, width=4)
    return image


@pytest.fixture(scope="module")
def served(site, tmp_path_factory):
    "The built site under a path of a plain static server."
    if not (site / "try" / "network.onnx").exists(): must_run_in_ci("no npm: apt-get install npm")
    top = tmp_path_factory.mktemp("static")
    (top / "some" / "where").mkdir(parents=True)
    (top / "some" / "where" / "site").symlink_to(site)
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=top))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/some/where/site/try/"
    server.shutdown()


@pytest.fixture(scope="module")
def visit(browser, served):  # noqa: F811
    "Open the page with the network cut; whatever asks for another place is noted."
    contexts, abroad = [], []
    def go(script=None, width=1280, starts=True):
        context = browser.new_context(viewport={"width": width, "height": 1000}, accept_downloads=True)
        contexts.append(context)
        def route(r):
            if r.request.url.startswith(served.split("/some")[0]): r.continue_()
            else: abroad.append(r.request.url); r.abort()
        context.route("**/*", route)
        if script: context.add_init_script(script)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda e: page.faults.append(str(e)))
        page.goto(served)
        if starts: page.locator(".rc-colour[data-step]").wait_for()
        return page
    yield go
    for context in contexts: context.close()
    assert not abroad


@pytest.fixture(scope="module")
def colouring(visit): return visit()


@pytest.fixture(scope="module")
def page(visit):
    "Why?, with its first pair."
    page = visit()
    page.get_by_role("button", name="Why?").click()
    page.locator(".rc-picture").first.wait_for()
    settle(page, 0)
    return page


@pytest.fixture(scope="module")
def gallery(site): return json.loads((site / "try" / "gallery.json").read_text())


@pytest.fixture(scope="module")
def generator():
    from refcolor.colorize import default_weights
    from refcolor.generator import load_generator
    return load_generator(default_weights())


def tensor(site, entry):
    from refcolor.show import to_tensor
    with Image.open(site / "try" / entry["file"]) as image: return to_tensor(image)


def thumb(page, role, index):
    return page.locator(".rc-gallery").nth(["sketch", "reference"].index(role)).locator(".rc-thumb").nth(index)


def choose(page, role, index): thumb(page, role, index).click()


def shown_picture(page, panel, side=96):
    return np.reshape(read(page, pictures=True)["images"][panel], (side, side, 4))[..., :3].astype(int)


def far(picture, ours):
    "The largest difference, in grey levels."
    from refcolor.show import to_image
    return np.abs(picture - np.asarray(to_image(ours).convert("RGB"), int)).max()


def check(page, seen, cell=None):
    "Picture and weights; the largest of a row."
    assert far(shown_picture(page, "fake"), seen.fake) <= 1
    assert far(shown_picture(page, "reference"), seen.reference) == 0
    if cell is None: return
    row, shown = seen.alpha[cell], read(page)
    assert int(shown["cell"]) == cell
    np.testing.assert_allclose([w for _, w in shown["matches"]], row.sort(descending=True).values[:len(shown["matches"])], atol=1e-3)
    for c, w in shown["matches"]: assert abs(float(row[c]) - w) < 1e-3, (c, w)
    check_heat(shown, "reference", row)


def slide(page, name, value):
    page.get_by_role("slider", name=name).evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", value)


def test_twenty_pairs_are_the_library_s(page, site, gallery, generator):
    "Of several artists; every fifth pair has no known answer."
    from refcolor.attention import look
    slide(page, "lines", 20)
    n = len(gallery["sketch"]), len(gallery["reference"])
    pairs, step = {((7 * i) % n[0], (i + i // n[1]) % n[1]) for i in range(20)}, int(read(page)["step"])
    assert len(pairs) == 20 and min(n) >= 8 and len({e["name"].split()[0] for e in gallery["reference"]}) >= 3
    for i, j in sorted(pairs - {(0, 0)}):
        for role, k in (("sketch", i), ("reference", j)):
            if thumb(page, role, k).get_attribute("aria-checked") != "true":
                choose(page, role, k)
                step = settle(page, step)
        seen = look(generator, tensor(site, gallery["sketch"][i]), tensor(site, gallery["reference"][j]))
        cell = 100 + 3 * i + 16 * (j % 3)
        point(page, "sketch", cell)
        check(page, seen, cell)
        same = gallery["sketch"][i]["artist"] == gallery["reference"][j]["artist"]
        assert read(page)["panels"] == ("4" if same else "3")


def test_the_true_answer_is_the_data_set_s(page, gallery):
    from refcolor.data.characters import true_answers
    from refcolor.data.datasets import open_dataset
    for k in (0, 0): choose(page, "sketch", 0), choose(page, "reference", k)
    page.wait_for_function("() => document.querySelector('.rc').dataset.panels === '4'")
    people = open_dataset("avatars", split="valid", size=96, n=32)
    assert gallery["sketch"][0]["name"] == "avatars 6" and gallery["reference"][0]["name"] == "avatars 18"
    page.wait_for_timeout(500)
    assert far(shown_picture(page, "truth"), true_answers(people, [6], [18])[0]) == 0
    assert far(shown_picture(page, "sketch"), people.batch([6]).sketch[0]) == 0


def start(page):
    "The first pair, at rest."
    step = int(read(page)["step"])
    for role in ("sketch", "reference"): choose(page, role, 1), choose(page, role, 0)
    page.wait_for_function("(s) => +document.querySelector('.rc').dataset.step > s", arg=step)
    page.wait_for_timeout(600)
    return int(read(page)["step"])


def test_temperature_ablations_and_hints_are_the_library_s(page, site, gallery, generator):
    from refcolor.attention import cell_centre, look
    step = start(page)
    pair = tensor(site, gallery["sketch"][0]), tensor(site, gallery["reference"][0])
    other = tensor(site, gallery["reference"][1])
    for ablation in ("permuted positions", "blank reference", "fusion off", "another reference", "none"):
        page.get_by_label("ablation", exact=True).select_option(ablation)
        step = settle(page, step)
        swap = ablation == "another reference"
        seen = look(generator, pair[0], other if swap else pair[1], 1., "none" if swap else ablation)
        point(page, "sketch", 141)
        check(page, seen, None if ablation == "fusion off" else 141)
    slide(page, "temperature", 0.5)
    step = settle(page, step)
    check(page, look(generator, *pair, 10 ** 0.5), 141)
    slide(page, "temperature", 0)
    step = settle(page, step)
    for ablation in ("none", "permuted positions"):                 # a hint means what is seen there
        page.get_by_label("ablation", exact=True).select_option(ablation)
        step = settle(page, step)
        point(page, "sketch", 202, action="click")
        page.get_by_role("button", name="Make this part look elsewhere").click()
        point(page, "reference", 54 if ablation == "none" else gallery["order"].index(54), action="click")
        step = settle(page, step)
        seen = look(generator, *pair, 1., ablation, [(*cell_centre(202, 16), cell_centre(54, 16))])
        check(page, seen, 202)
        page.get_by_role("button", name="Forget 1 hint").click()
        step = settle(page, step)
        area(page, "sketch").press("Escape")
    page.get_by_label("ablation", exact=True).select_option("none")
    settle(page, step)


def pencil(size=(620, 410)):
    "A photographed drawing: yellow paper, a shadow across it, grey lines; much paper around."
    x = np.asarray(drawing().resize((300, 200)), np.float32) / 255
    page = np.ones((size[1], size[0]))
    page[90:290, 150:450] = 0.35 + 0.65 * x
    light = np.linspace(0.6, 1, size[0])[None, :, None] * np.array([250, 244, 225])
    return Image.fromarray((page[..., None] * light).round().astype(np.uint8))


def figure(size=(260, 700)):
    "A red and green figure, high and small on its page."
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).ellipse((80, 200, 180, 300), fill=(200, 30, 30))
    ImageDraw.Draw(image).rectangle((100, 300, 160, 460), fill=(20, 160, 40))
    return image


PLACES = """async ([role, bytes]) => {
  const p = await import("./pictures.js"), data = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  const image = await p.decode(data, "it"), view = p.viewOf(role === "sketch" ? p.linesOf(image, "it") : p.referenceOf(image, "it"), 96);
  return { figure: view.figure, box: view.box, planes: view.square.planes.map((x) => [...x]) };
}"""


def behind(picture, shade=False):
    "A figure before red, or before a shade, instead of white."
    x = np.asarray(picture.convert("RGB"))
    colours = np.linspace(90, 220, x.shape[0])[:, None, None].repeat(3, 2) if shade else (200, 40, 60)
    return Image.fromarray(np.where((x == 255).all(-1, keepdims=True), colours, x).astype(np.uint8))


@pytest.mark.parametrize("role, image", [("sketch", drawing()), ("sketch", pencil()), ("reference", figure()), ("reference", figure((90, 40))), ("reference", behind(figure())), ("reference", behind(figure(), True)),
                                         ("sketch", drawing((1500, 900)))], ids=["house", "pencil", "figure", "small", "before red", "before a shade", "large"])
def test_an_upload_is_seen_as_the_library_sees_it(page, role, image):
    from refcolor.colorize import lines_of, reference_of
    from refcolor.framing import View
    found = page.evaluate(PLACES, [role, base64.b64encode(encoded(image)).decode()])
    view = View.of(lines_of(image.convert("RGB")) if role == "sketch" else reference_of(image), 96)
    assert found["figure"] == list(view.figure) and found["box"] == list(view.box)
    ours = np.atleast_3d(np.asarray(view.square)).astype(int)
    apart = np.abs(np.array(found["planes"]).T.reshape(96, 96, -1).transpose(0, 1, 2) - ours)
    assert apart.max() <= 2, apart.max()


def upload(page, role, name, data):
    page.get_by_label(f"upload a {role}").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def test_own_files_give_the_library_s_picture(page, generator):
    from refcolor.colorize import colorize
    for image, name in ((drawing(), "house.png"), (pencil(), "pencil.png")):
        step = int(read(page)["step"])
        upload(page, "sketch", name, encoded(image))
        step = settle(page, step)
        upload(page, "reference", "figure.png", encoded(figure()))
        settle(page, step)
        assert read(page)["panels"] == "3"                                 # nobody knows the true answer
        with page.expect_download() as download: page.get_by_role("button", name="Download").click()
        result = np.asarray(Image.open(download.value.path()).convert("RGB"), int)
        ours = np.asarray(colorize(image, figure(), generator), int)
        assert result.shape == ours.shape and np.abs(result - ours).max() <= 2, np.abs(result - ours).max()
    shot(page, "static-upload")


BAD = {"not an image": ("notes.png", b"Dear diary", "not an image"),
       "empty": ("empty.png", b"", "is empty"),
       "damaged": ("half.png", encoded(drawing())[:60], "cannot read half.png"),
       "too many bytes": ("huge.png", b"\0" * 9_000_000, "at most 8 MB"),
       "too many pixels": ("wide.png", encoded(Image.new("1", (70_000, 1_000))), "70000 × 1000"),
       "a name with markup": ("<img src=x onerror=alert(1)>.png", b"x", "<img src=x"),
       "nothing on nothing": ("blank.png", encoded(Image.new("RGBA", (50, 50), (9, 9, 9, 0))), "blank"),
       "all black": ("black.png", encoded(Image.new("L", (50, 50), 0)), "all dark"),
       "dark paper": ("board.png", encoded(drawing().point(lambda v: 255 - v)), "dark paper")}


def test_what_is_wrong_with_an_upload_is_said_and_the_next_one_works(page):
    before = read(page)["step"]
    for case, (name, content, words) in BAD.items():
        upload(page, "sketch", name, content)
        alert = page.get_by_role("alert").filter(has_text=words)
        alert.wait_for(timeout=15_000)
        assert "\n" not in alert.inner_text().strip(), case
    assert read(page)["step"] == before
    clear = Image.new("RGBA", (300, 200), (0, 0, 0, 0))
    clear.putalpha(drawing().point(lambda v: 255 - v))                     # black lines on nothing
    upload(page, "sketch", "clear.png", encoded(clear))
    settle(page, int(before))
    assert set(page.locator(".rc-alert").all_text_contents()) == {""} and not page.faults


def test_it_is_quick_small_and_stays_at_home(visit, served, site):
    "Printed: bytes, seconds to the first picture, milliseconds of a hover."
    page = visit(width=800)
    first = page.evaluate("performance.now()") / 1000
    shot(page, "static-colour-800")
    page.get_by_role("button", name="Why?").click()
    page.locator(".rc-picture").first.wait_for()
    loaded, hover = page.evaluate("""() => { const area = document.querySelector(".rc-picture[data-panel=sketch]"), times = [];
        const r = area.getBoundingClientRect();
        for (let i = 0; i < 40; i++) {
          const start = performance.now();
          area.dispatchEvent(new PointerEvent("pointermove", { clientX: r.left + r.width * (i + 0.5) / 40,
                                                              clientY: r.top + r.height * (i % 7 + 0.5) / 7 }));
          area.getBoundingClientRect();
          times.push(performance.now() - start);
        }
        const all = [...performance.getEntriesByType("resource"), performance.getEntriesByType("navigation")[0]];
        return [all.reduce((sum, e) => sum + e.decodedBodySize, 0), times.sort((a, b) => a - b)[20]]; }""")
    whole = sum(p.stat().st_size for p in (site / "try").rglob("*") if p.is_file())
    print(f"{loaded / 1e6:.1f} MB until the first picture, {whole / 1e6:.1f} MB with all pictures; first picture after {first:.1f} s; "
          f"hover {hover:.0f} ms (median)")
    assert loaded < 25e6 and whole < 25e6 and first < 5 * SLOW and hover < 50 * SLOW
    check_width(page)
    shot(page, "static-800")
    assert not page.faults


CANVAS = """() => { const c = document.querySelector(".rc-canvas"), data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  let text = ""; for (const v of data) text += String.fromCharCode(v); return [c.width, c.height, btoa(text)]; }"""


def check_colours(page, ours):
    "The canvas, and what is downloaded, are the library's picture."
    width, height, data = page.evaluate(CANVAS)
    shown = np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)[..., :3].astype(int)
    with page.expect_download() as download: page.get_by_role("button", name="PNG", exact=True).click()
    saved = np.asarray(Image.open(download.value.path()).convert("RGB"), int)
    ours = np.asarray(ours, int)
    for found in (shown, saved): assert found.shape == ours.shape and np.abs(found - ours).max() <= 2, np.abs(found - ours).max()


def act(page, do):
    "Do something, and wait for the next picture."
    step = int(page.locator(".rc-colour").get_attribute("data-step"))
    do()
    page.wait_for_function("(s) => +document.querySelector('.rc-colour').dataset.step > s", arg=step)


def open_file(page, role, name, data):
    page.get_by_label(f"open a {role}").set_input_files({"name": name, "mimeType": "image/png", "buffer": data})


def test_the_first_picture_is_the_library_s(colouring, site, gallery, generator):
    from refcolor.colorize import colorize
    shot(colouring, "static-colour-1280")
    check_colours(colouring, colorize(site / "try" / gallery["sketch"][0]["large"], site / "try" / gallery["reference"][0]["file"], generator))


def test_own_files_and_corrections_give_the_library_s_picture(colouring, generator):
    "Two references, a hint into the second, undo, and files that are none in between."
    from refcolor.colorize import colorize
    page = colouring
    act(page, lambda: open_file(page, "sketch", "pencil.png", encoded(pencil())))
    open_file(page, "reference", "notes.png", b"Dear diary")
    page.get_by_role("alert").filter(has_text="not an image").wait_for()
    together = page.get_by_label("add to the others")
    together.check()
    act(page, lambda: open_file(page, "reference", "figure.png", encoded(figure())))
    assert page.locator(".rc-reference").count() == 2
    act(page, lambda: page.get_by_role("button", name="remove reference 1").click())
    check_colours(page, colorize(pencil(), figure(), generator))
    together.uncheck()
    small = Image.new("RGB", (90, 40), (240, 200, 30))
    small.paste((30, 60, 200), (45, 0, 90, 40))
    open_file(page, "reference", "grey.png", encoded(drawing()))
    page.get_by_text("grey.png: black, white and grey only").wait_for()
    assert page.locator(".rc-reference").count() == 1          # in the other one's place
    act(page, lambda: page.get_by_role("button", name="Undo").click())
    together.check()
    act(page, lambda: open_file(page, "reference", "other.png", encoded(small)))
    stage = page.get_by_label("the coloured drawing")
    box, u, v = page.locator(".rc-canvas").bounding_box(), 0.4, 0.5
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.6)
    page.get_by_role("button", name="Look there…").click()
    area = page.locator(".rc-reference").nth(1)
    r = area.bounding_box()
    act(page, lambda: area.click(position={"x": r["width"] * (u + 1) / 2, "y": r["height"] * (v + 1) / 2}))
    plain = colorize(pencil(), [figure(), small], generator)
    hinted = colorize(pencil(), [figure(), small], generator, hints=[(0., 0.2, (u, v, 1))])
    assert np.abs(np.asarray(plain, int) - np.asarray(hinted, int)).max() > 50
    check_colours(page, hinted)
    shot(page, "static-colour-hint")
    act(page, lambda: page.get_by_role("button", name="Undo").click())
    check_colours(page, plain)
    act(page, lambda: page.get_by_role("button", name="Redo").click())
    check_colours(page, hinted)
    assert page.get_by_role("button", name="Flat", exact=True).is_disabled() and stage.count() == 1
    assert not page.faults


def test_without_webassembly_it_says_so(visit):
    page = visit("delete globalThis.WebAssembly", starts=False)
    page.get_by_text("does not run WebAssembly").wait_for()
    shot(page, "static-no-wasm")
    page.get_by_role("link", name="Lesson 15").click()                     # the rest of the site is there
    page.wait_for_url("**/15_attention/")


def test_its_scripts_are_clean():
    "They parse, write no markup and no log, speak to no other place, and have no long lines."
    for path in sorted((ROOT / "nbs" / "try").glob("*.js")):
        text = path.read_text(encoding="utf-8")
        assert max(map(len, text.splitlines())) <= 100, path.name
        script = re.sub("(?<!:)//.*", "", text)
        for word in ("console.", "debugger", "XMLHttp", "eval(", "innerHTML", "var ", " == ", " != ", "http:", "https:", "localStorage"):
            assert word not in script, (path.name, word)
        if shutil.which("node"):
            subprocess.run(["node", "--input-type=module", "--check"], input=text, text=True, check=True, capture_output=True)


def test_without_npm_the_site_says_what_is_missing(monkeypatch):
    from importlib.util import module_from_spec, spec_from_file_location
    from types import SimpleNamespace
    live = module_from_spec(spec := spec_from_file_location("live_hook", ROOT / ".ci" / "live.py"))
    spec.loader.exec_module(live)
    monkeypatch.setattr(live, "DIST", Path("/nowhere"))
    monkeypatch.setenv("PATH", "/nowhere")
    said = []
    monkeypatch.setattr(live.log, "info", said.append)
    page = SimpleNamespace(file=SimpleNamespace(src_uri="try.md"))
    text = live.on_page_markdown((ROOT / "nbs" / "try.md").read_text().split("---\n")[2], page, None, None)
    assert "# Try it" in text and "built without npm" in text and "<script" not in text and len(said) == 1 and "no npm" in said[0]


def test_the_lessons_twins_compute_what_the_lessons_do(page, visit, site, generator):
    "A spline and what it reads; a search and what it finds; and they stand where the widget stood."
    from einops import rearrange
    from refcolor.show import to_image
    from refcolor.tps import control_grid, pixel_centres, sampling_grid, warp
    from refcolor.tps import ThinPlateSpline
    picture = tensor(site, {"file": "pictures/reference-avatars-18.png"})
    draws = torch.Generator().manual_seed(0)
    d = 0.3 * (torch.rand(1, 9, 2, generator=draws) * 2 - 1)
    found = page.evaluate("""async ([points, values, xy]) => {
      const { fit, warped } = await import("./warp.js"), { colourVectors, search } = await import("./temperature.js");
      const p = await import("./pictures.js"), { fetched } = await import("./model.js");
      const image = await p.decode(await fetched("pictures/reference-avatars-18.png"), "it"), f = fit(points, values);
      const { alpha, found } = search(colourVectors(p.toTensor(image), 96), 0.03);
      return { at: xy.map(f), reference: warped(image, f).planes.map((x) => [...x]), alpha: [...alpha], found };
    }""", [control_grid(3).tolist(), (control_grid(3) + d[0]).tolist(), pixel_centres(5, 7).view(-1, 2).tolist()])
    spline = ThinPlateSpline.fit(control_grid(3)[None], control_grid(3) + d)
    np.testing.assert_allclose(found["at"], spline(pixel_centres(5, 7).view(1, -1, 2))[0], atol=1e-5)
    ours = np.asarray(to_image(warp(picture, sampling_grid(d, 96, 96), "black")[0]), int)
    assert np.abs(np.array(found["reference"]).T.reshape(96, 96, 3).astype(int) - ours).max() <= 2
    rgb = rearrange(torch.nn.functional.adaptive_avg_pool2d(picture, 16), "1 d h w -> (h w) d")
    v = torch.cat([rgb, (3 - rgb.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()], -1)
    alpha = (v @ v.T / 2 / 0.03).softmax(-1)
    np.testing.assert_allclose(np.reshape(found["alpha"], (256, 256)), alpha, atol=1e-4)
    np.testing.assert_allclose(found["found"], alpha @ rgb, atol=1e-3)
    for lesson, name in (("03_tps", "warp"), ("06_scft", "temperature")):
        assert (site / lesson / "index.html").read_text().count(f'data-twin="{name}"') == 1
