"""A hook of mkdocs: one page per module, made from signatures, docstrings and docments."""
import importlib
import inspect
import posixpath
import re
from configparser import ConfigParser
from pathlib import Path

from fastcore.docments import docments
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


def page(name: str) -> str:
    "The API of one module as markdown."
    module = importlib.import_module(f"refcolor.{name}")
    lines = [f"# refcolor.{name}", "", f"Explained in [{MODULES[name]}](../{MODULES[name]}.ipynb).", ""]
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
    for name in MODULES: files.append(File.generated(config, f"api/{name}.md", content=page(name)))
    return files


def on_config(config):
    wings = {}
    for name in MODULES: wings.setdefault(name.rpartition(".")[0] or "method", []).append({name: f"api/{name}.md"})
    config.nav.append({"Reference": [{wing: pages} for wing, pages in wings.items()]})
    return config


def on_post_page(output, page, config):
    "Links between notebooks, which work in JupyterLab and on GitHub, as links between pages: each is one folder deeper."
    here = posixpath.dirname(page.file.src_uri)
    up = "../" * page.url.count("/")

    def link(match):
        target = posixpath.normpath(posixpath.join(here, match[1]))
        return f'href="{up}{target}/{match[2]}"' if (NBS / f"{target}.ipynb").exists() else match[0]

    return re.sub(r'href="([\w./]+)\.ipynb((?:#[^"]*)?)"', link, output)
