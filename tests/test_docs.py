"""The documentation site builds without a warning, none of its links is broken, and its pages read as in JupyterLab."""
import json
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

ROOT = Path(__file__).resolve().parent.parent


CODE = r'<(script|style|pre|code)\b.*?</\1>|<div[^>]*class="clipboard-copy-txt".*?</div>'


def test_its_links_hold(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30                                # a page per notebook and a page per module
    broken = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        # code is no page: as it is shown, and as the copy button holds it
        text = re.sub(CODE, "", text, flags=re.S)
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            parts = urlparse(link)
            if parts.scheme or parts.netloc or not parts.path or page.name == "404.html": continue
            target = (page.parent / unquote(parts.path)).resolve()
            if target.is_dir(): target /= "index.html"
            if not target.exists(): broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken, broken[:10]


def lessons(site): return {p.stem: (site / p.stem / "index.html").read_text(encoding="utf-8") for p in sorted((ROOT / "nbs").glob("[01]*.ipynb"))}


def test_formulas_are_drawn_and_nothing_of_the_notebook_s_machinery_is_left(site):
    pages = lessons(site)
    assert len(pages) == 17 and sum(page.count("<math") for page in pages.values()) > 100
    for name, page in pages.items():
        text = re.sub(r"<[^>]+>", "", re.sub(CODE, "", page, flags=re.S))
        assert "$$" not in text and not re.search(r"\$\\?[A-Za-z\\][^$\n]{0,80}\$", text), name
        assert not re.search(r"#\s?\|\s?(export|exercise|hide|default_exp)", page), name
        assert "No description has been provided" not in page and not re.search(r"<img(?![^>]*\balt=)", page), name
        assert "mermaid.esm" not in page and not re.search(r'(?:src|href)="https?://[^"]*(?:cdn|unpkg|jsdelivr)', page), name
    css = (site / "assets" / "site.css").read_text(encoding="utf-8")
    assert re.search(r"\.jp-InputPrompt.*display: none !important", css, re.S) and all("assets/site.css" in page for page in pages.values())
    assert '<summary>imports</summary>' in pages["06_scft"] and "open the lesson in JupyterLab" in pages["07_generator"]


def load_hook():
    from importlib.util import module_from_spec, spec_from_file_location
    docs = module_from_spec(spec := spec_from_file_location("docs_hook", ROOT / ".ci" / "docs.py"))
    spec.loader.exec_module(docs)
    return docs


def test_the_first_page_shows_results_and_not_the_code_that_makes_them(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert "Markdown(f" not in re.sub(r"<[^>]+>", "", page) and "images/shipped.png" in page


def test_a_formula_in_code_stays_and_a_price_is_no_formula():
    docs = load_hook()
    assert docs.mathml("`$x$` costs $5 or 6 $") == "`$x$` costs $5 or 6 $"
    assert "<msub>" in docs.mathml("the $v_s$ of") and "(6)</span>" in docs.mathml(r"$$a = b \tag{6}$$")
    assert [docs.folded(s) for s in ("import os", "import os\nwith needs('a'): import b", "assert a\ntest_eq(a, b)", "a = f()\nassert a", "with f(): g()", "!ls")] == ["imports", "imports", "tests", "", "", ""]


def test_what_stands_above_a_picture_describes_it():
    docs = load_hook()
    for text, said in (("Colours. The palette is apart from the shape. More.", "Colours. The palette is apart from the shape."),
                       ("**Attention** of Eq. 3, as in [06](06_scft.ipynb), fetches `v[y, x]`. More.", "Attention of Eq. 3, as in 06, fetches v[y, x]."),
                       ('A "short" one', "A &quot;short&quot; one"), ("| a | b |\n|---|---|\n\n" + "word " * 50, None)):
        assert docs._words(text) == said or said is None and len(docs._words(text)) <= 160 and docs._words(text).endswith("word …")


def test_search_finds_how_to_install_on_the_first_page(site):
    "In a title: there a word weighs most."
    found = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert [d["location"].split("#")[0] for d in found if re.match("install", d["title"], re.I)] == [""]


def test_wide_figures_and_tables_scroll_and_a_number_keeps_its_interval(site):
    pages = lessons(site)
    home = (site / "index.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<div class="shot"><img [^>]*alt="[^"]{20,}"', home)) == 2 and "a picture of lesson" not in home
    tables = re.findall(r"<table.*?</table>", pages["16_results"], re.S)
    assert pages["16_results"].count('<div class="table"><table') == len(tables) > 5
    assert not any(" ± " in t for t in tables) and sum(t.count("&nbsp;±&nbsp;") for t in tables) > 50


def test_a_page_of_the_reference_begins_with_what_people_came_for(site):
    page = (site / "api" / "colorize" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<h2[^>]*>(\w+)", page)[1] == "colorize"
