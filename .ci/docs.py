"""A hook of mkdocs: one page per module, made from signatures, docstrings and docments."""
import importlib
import inspect
import re
from pathlib import Path

from fastcore.docments import docments
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))
# the module is named in the notebook: that of 16_results is `reproduce`
MODULES = {p.stem: re.search(r"#\| default_exp (\w+)", p.read_text(encoding="utf-8"))[1] for p in NOTEBOOKS}


def _name(annotation) -> str:
    if annotation is inspect.Parameter.empty: return ""
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


def page(notebook: str) -> str:
    "The API of one module as markdown."
    name = MODULES[notebook]
    module = importlib.import_module(f"refcolor.{name}")
    lines = [f"# refcolor.{name}", "", f"Explained in [{notebook}](../{notebook}.ipynb).", ""]
    for name in module.__all__:
        thing = getattr(module, name)
        lines += [f"## {name}", ""]
        if inspect.isfunction(thing) or inspect.isclass(thing):
            try: lines += ["```python", f"{name}{inspect.signature(thing)}", "```", ""]
            except (TypeError, ValueError): pass
            lines += [inspect.getdoc(thing) or "", *_table(thing), ""]
        else: lines += ["```python", f"{name} = {str(thing)[:300]}", "```", ""]
    return "\n".join(lines)


def on_files(files, config):
    for notebook in MODULES:
        files.append(File.generated(config, f"api/{MODULES[notebook]}.md", content=page(notebook)))
    return files


def on_config(config):
    config.nav.append({"Reference": [{n: f"api/{n}.md"} for n in MODULES.values()]})
    return config


def on_post_page(output, page, config):
    "Links between notebooks, which work in JupyterLab and on GitHub, as links between pages."
    up = "../" * page.url.count("/")
    return re.sub(r'href="(?:\.\./)?(\d\d_\w+)\.ipynb"', rf'href="{up}\1/"', output)
