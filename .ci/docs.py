"""Hooks of mkdocs: a page per module, made from signatures and docments; notebooks as pages to read."""
import ast
import html
import importlib
import inspect
import posixpath
import re
import textwrap
from configparser import ConfigParser
from pathlib import Path
from tempfile import mkdtemp

import nbformat
from fastcore.docments import docments
from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"
# module -> its notebook, in the one order of settings.ini; what exports no names has no page
_cfg = ConfigParser(delimiters=["="], interpolation=None)
_cfg.read(ROOT / "settings.ini", encoding="utf-8")
_FOUND = {m[1]: p.relative_to(NBS).with_suffix("").as_posix() for p in sorted(NBS.rglob("*.ipynb"))
          if (m := re.search(r"#\| default_exp ([\w.]+)", p.read_text(encoding="utf-8")))}
MODULES = {name: _FOUND[name] for name in _cfg["DEFAULT"]["order"].split() if "__" not in name}


def _name(annotation) -> str:
    if annotation in (inspect.Parameter.empty, type(None)): return ""       # the type of a default that is None says nothing
    text = annotation.__name__ if inspect.isclass(annotation) else str(annotation)
    return text.replace("torch.", "").replace("typing.", "").replace("|", "\\|")


def _table(thing) -> list:
    "The parameters of a function as a table: name, type, default, meaning."
    target = thing.__init__ if inspect.isclass(thing) else thing
    try: parameters = docments(target, full=True)
    except (TypeError, ValueError, OSError): return []
    rows = []
    for name, p in parameters.items():
        if name == "self" or (name == "return" and inspect.isclass(thing)): continue
        if not (p.docment or _name(p.anno)): continue               # *args of a named tuple
        default = "" if p.default is inspect.Parameter.empty else f"`{p.default!r}`"
        if name == "return":
            if not p.docment: continue
            name, default = "*returns*", ""
        meaning = (p.docment or "").replace("\n", " ").replace("|", "\\|")
        rows.append(f"| {name} | {_name(p.anno)} | {default} | {meaning} |")
    return ["", "| | type | default | |", "|---|---|---|---|", *rows] if rows else []


def page(name: str) -> str:
    "The API of one module as markdown."
    module = importlib.import_module(f"refcolor.{name}")
    lines = [f"# refcolor.{name}", "", f"Explained in [{MODULES[name]}](../{MODULES[name]}.ipynb).", ""]
    # first what people came for: the function of the module's own name, then functions and classes, then constants
    own = module.__name__.rpartition(".")[2]
    for name in sorted(module.__all__, key=lambda n: (n != own, not callable(getattr(module, n)))):
        thing = getattr(module, name)
        lines += [f"## {name}", ""]
        if inspect.isfunction(thing) or inspect.isclass(thing):
            try: lines += ["```python", f"{name}{inspect.signature(thing)}", "```", ""]
            except (TypeError, ValueError): pass
            lines += [inspect.getdoc(thing) or "", *_table(thing), ""]
        else: lines += ["```python", f"{name} = {str(thing)[:300]}", "```", ""]
    return "\n".join(lines)


def on_files(files, config):
    for name in MODULES: files.append(File.generated(config, f"api/{name}.md", content=page(name)))
    files.append(File.generated(config, "assets/site.css", content=(ROOT / ".ci" / "site.css").read_text(encoding="utf-8")))
    return files


def on_config(config):
    config.extra_css.append("assets/site.css")
    wings = {}
    for name in MODULES: wings.setdefault(name.rpartition(".")[0] or "method", []).append({name: f"api/{name}.md"})
    config.nav.append({"Reference": [{wing: pages} for wing, pages in wings.items()]})
    return config


# Notebooks. A page is made from a copy in which formulas are MathML, directives are gone, and cells are marked.

MATH = re.compile(r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$(?![\s$])([^$\n]*?[^$\s\\])\$", re.S)
WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = '<p class="live">This can be moved: open the lesson in JupyterLab (<code>make lab</code>).</p>'
TWINS = {"draw_warp": "warp", "draw_search": "temperature"}    # what a widget calls -> its live twin, nbs/try/*.js
TWIN = '<div class="twin" data-twin="{0}"></div><script type="module" src="../try/{0}.js"></script>'


def mathml(text: str) -> str:
    "Markdown with its formulas as MathML, which browsers draw by themselves; code stays as it is."
    def formula(match):
        code, block, inline = match.groups()
        if code: return code
        if inline: return convert(inline)
        tag = re.search(r"\\tag\{(.+?)\}", block)
        number = f"<span>({tag[1]})</span>" if tag else ""
        block = re.sub(r"\\tag\{.+?\}", "", block).strip()
        return f'<div class="equation">{convert(block, display="block")}{number}</div>'
    return MATH.sub(formula, text)


def folded(source: str) -> str:
    "What a cell is called that a reader may skip: of imports alone, or of tests alone; else nothing."
    try: body = ast.parse(source).body
    except SyntaxError: return ""                                    # a shell command
    def is_test(node):
        if isinstance(node, ast.Assert): return True
        call = node.value if isinstance(node, ast.Expr) else None
        return isinstance(call, ast.Call) and getattr(call.func, "id", "").startswith("test_")
    def is_import(node):
        return isinstance(node, ast.Import | ast.ImportFrom) or isinstance(node, ast.With) and all(map(is_import, node.body))
    if body and all(map(is_import, body)): return "imports"
    return "tests" if body and all(map(is_test, body)) else ""


def _words(text: str) -> str:
    "The first sentences of some markdown, as a description of the picture below it: 40 letters or more, where there are."
    text = re.sub(r"^```.*?^```|^\|.*?$", "", text, flags=re.S | re.M)
    text = re.sub(r"\$[^$]*\$|<[^>]+>|^#+ |^> |!?\[([^\]]*)\]\([^)]*\)|\*+|`", r"\1", text, flags=re.M)
    said = ""
    for sentence in re.split(r"(?<=[.?!:]) (?=\W*[A-Z])", re.sub(r"\s+", " ", text).strip()):
        said = f"{said} {sentence}".strip()
        if len(said) >= 40: break
    return html.escape(textwrap.shorten(said, 160, placeholder=" …"), quote=True)


def readable(path: Path) -> tuple:    # of a notebook, {cell id: words}
    "A copy of a notebook for the site, and what its pictures show."
    nb, said, shown = nbformat.read(path, 4), path.stem, {}
    for c in nb.cells:
        if c.cell_type == "markdown":
            said = _words(re.sub(r"^#+ .*$", "", c.source, flags=re.M)) or _words(c.source) or said
            c.source = mathml(c.source)
            continue
        c.source = re.sub(r"^#\s?\|.*\n?", "", c.source, flags=re.M).lstrip("\n")
        tags = [t for t in c.metadata.get("tags", ()) if t == "hide_input"]
        c.metadata.tags = tags or ([f"fold-{fold}"] if (fold := folded(c.source)) else [])
        if not c.source: c.metadata.tags = ["empty"]
        shown[c.id] = said
        for o in c.get("outputs", ()):
            data = o.get("data", {})
            if WIDGET in data:
                twin = TWINS.get((re.search(r"explore\((\w+)", c.source) or "  ")[1])
                o.data = {"text/html": TWIN.format(twin) if twin else LIVE}
            elif "text/markdown" in data: data["text/markdown"] = mathml(data["text/markdown"])
    return nb, shown


_copies, _shown = Path(mkdtemp()), {}


def on_pre_page(page, config, files):
    "Render the copy in place of the notebook."
    if not page.file.src_uri.endswith(".ipynb"): return page
    path = Path(page.file.abs_src_path)
    nb, _shown[path] = readable(path)
    copy = _copies / page.file.src_uri
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, copy)
    page.file.abs_src_path = str(copy)
    return page


def on_page_content(content, page, config, files):
    "Fold cells, describe pictures, let tables scroll; the page offers the notebook itself for download."
    # between a number and what follows its ± no line ends
    tables = re.sub(r"<table.*?</table>", lambda t: f'<div class="table">{t[0].replace(" ± ", "&nbsp;±&nbsp;")}</div>', content, flags=re.S)
    if not page.file.src_uri.endswith(".ipynb"): return tables
    path, content = NBS / page.file.src_uri, re.sub(r'<img [^>]*width="\d+"[^>]*>', r'<div class="shot">\g<0></div>', tables)
    page.file.abs_src_path = str(path)
    content = re.sub(r"<script[^>]*>(?:(?!</script>).)*mermaid.*?</script>", "", content, flags=re.S)
    head, *parts = re.split(r'(?=<div[^>]*class="jp-Cell )', content)
    for i, part in enumerate(parts):
        cell = re.search(r'id="cell-id=([^"]+)"', part)
        words = _shown[path].get(cell[1] if cell else "", "")
        if "celltag_empty" in part[:400]: parts[i] = ""; continue
        if fold := re.search(r"celltag_fold-(\w+)", part[:400]):
            part = re.sub(r'<div class="highlight-ipynb.*?</pre>\s*</div>',
                          rf'<details class="fold"><summary>{fold[1]}</summary>\g<0></details>', part, count=1, flags=re.S)
        parts[i] = part.replace('alt="No description has been provided for this image"', f'alt="{words or path.stem}"')
    return head + "".join(parts)


def on_post_page(output, page, config):
    "Links between notebooks, which work in JupyterLab and on GitHub, as links between pages: each is one folder deeper."
    here = posixpath.dirname(page.file.src_uri)
    up = "../" * page.url.count("/")

    def link(match):
        target = posixpath.normpath(posixpath.join(here, match[1]))
        there = any((NBS / f"{target}.{kind}").exists() for kind in ("ipynb", "md"))
        return f'href="{up}{target}/{match[2]}"' if there else match[0]

    return re.sub(r'href="([\w./]+)\.(?:ipynb|md)((?:#[^"]*)?)"', link, output)
