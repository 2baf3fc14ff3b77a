"""What would bore a reader: exports in sync, notebooks clean, the module order, the wheel."""
import ast
import inspect
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
name_of = lambda p: str(p.relative_to(ROOT / "nbs").with_suffix(""))                        # noqa: E731
# module -> the notebook that exports it
EXPORTS = {m[1]: p for p in NOTEBOOKS if (m := re.search(r"#\| default_exp ([\w.]+)", p.read_text(encoding="utf-8")))}
MODULES = {n: ROOT / "refcolor" / (n.replace(".", "/") + ".py") for n in EXPORTS}
SETTINGS = ConfigParser(delimiters=["="], interpolation=None)
SETTINGS.read(ROOT / "settings.ini", encoding="utf-8")
SETTINGS = SETTINGS["DEFAULT"]
ORDER = SETTINGS["order"].split()
BIN = Path(sys.executable).parent


def load(name): return importlib.import_module(f"refcolor.{name}".removesuffix(".__init__"))


def cells(path, kind="code"):
    return [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == kind]


def source(cell): return "".join(cell["source"])


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "The project as git would give it to somebody else, without its history."
    target = tmp_path_factory.mktemp("copy") / "refcolor"
    ignore = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", "*.egg-info", "build", "dist", ".ipynb_checkpoints")
    shutil.copytree(ROOT, target, ignore=ignore, symlinks=True)
    return target


def files_of(root, *folders):
    return {p.relative_to(root): p.read_bytes() for f in folders for p in sorted((root / f).rglob("*"))
            if p.suffix in (".py", ".ipynb") and "__pycache__" not in p.parts and ".ipynb_checkpoints" not in p.parts}


def test_every_notebook_has_its_module():
    "No module without a notebook, none without a place in the order; nested ones included."
    files = {p for p in (ROOT / "refcolor").rglob("*.py") if p.name != "_modidx.py"}
    # the packages themselves: empty, or the version
    stray = [str(p.relative_to(ROOT)) for p in files - set(MODULES.values())
             if p.name != "__init__.py" or re.sub(r"__version__ = .*", "", p.read_text(encoding="utf-8")).strip()]
    assert not stray, "no notebook exports these"
    assert set(MODULES.values()) <= files
    assert sorted(ORDER) == sorted(EXPORTS), "settings.ini: order"


def test_export_and_clean_leave_no_diff(copy, tmp_path):
    before = files_of(copy, "nbs", "refcolor")
    env = {**os.environ, "HOME": str(tmp_path)}
    for tool in ("nbdev_export", "nbdev_clean"):
        subprocess.run([BIN / tool], cwd=copy, env=env, check=True, capture_output=True)
    after = files_of(copy, "nbs", "refcolor")
    changed = [str(k) for k in before.keys() | after.keys() if before.get(k) != after.get(k)]
    assert not changed, f"run nbdev_export and nbdev_clean, then commit: {changed}"


def test_readme_is_made_from_index(tmp_path):
    subprocess.run([sys.executable, ROOT / ".ci" / "readme.py", tmp_path / "README.md"], check=True)
    assert (tmp_path / "README.md").read_text() == (ROOT / "README.md").read_text(), "run `make readme`"


def test_readme_shows_pictures_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    local = [l for l in links if not re.match(r"[a-z]+:", l)]
    assert any(l.endswith(".png") for l in local), "the first screen has no picture"
    assert not [l for l in local if not (ROOT / l).exists()]


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_before_it(name):
    "The one order is in settings.ini; imports inside functions count, at any depth."
    package, imported = ["refcolor", *name.split(".")[:-1]], set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import): found = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[:len(package) - node.level + 1], *filter(None, [node.module])]) if node.level else node.module
            found = [f"{base}.{a.name}" for a in node.names]
        else: continue
        for full in found:                          # of a module, or of a name in one
            if not full.startswith("refcolor."): continue
            full = full.removeprefix("refcolor.")
            imported |= {next((m for m in (full, full.rpartition(".")[0]) if m in ORDER), full)} - {"__version__"}
    later = [m for m in imported if m not in ORDER[:ORDER.index(name)]]
    assert not later, f"{name} imports {later}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)
def test_notebook_measures(path):
    assert path.stat().st_size <= 1_000_000, "more than 1 MB: fewer or smaller pictures"
    for c in cells(path):
        assert not re.search(r"^from \S+ import \*", source(c), re.M), f"star import: {source(c)[:60]}"
        assert not re.search(r"^\s*(assert True|pass  # TODO)", source(c), re.M)
        for o in c["outputs"]:
            text = json.dumps(o)
            assert "/home/" not in text and "/root/" not in text and "/tmp/" not in text, f"a path of one machine: {source(c)[:60]}"
            assert o["output_type"] != "error"
        if re.search(r"^#\|\s*exercise", source(c), re.M):       # conftest.py runs it, unsolved and solved
            assert re.search(r"\n# --- check ---\n@exercise\(.*\)\ndef check\(", source(c))
    tests = [c for c in cells(path) if re.search(r"^\s*(assert|test_\w+\()", source(c), re.M)]
    assert tests or path.stem in ("index", "page"), "no test in this notebook"


# the names that other programs build on, and what they are called with
KEPT = {"core:PAPER": None, "core:SMALL": None, "core:TINY": None, "tps:ThinPlateSpline.fit": "points values", "augment:appearance_transform": "image",
        "augment:self_reference": "image sketch config", "scft:SCFT.forward": "self v_s v_r need_logits", "triplet:triplet_loss": "logits grid margin",
        "losses:gram_matrix": "features", "generator:Generator.forward": "self sketch reference", "fid:frechet_distance": "mu1 sigma1 mu2 sigma2",
        "train:Learner": "preset dataset out seed", "colorize:colorize": "sketch reference weights", "data:open_dataset": "name root split size"}


@pytest.mark.parametrize("name", KEPT)
def test_names_that_others_build_on_stay(name):
    thing = resolve_name(f"refcolor.{name}")
    if KEPT[name] is None: return
    wanted = KEPT[name].split()
    assert list(inspect.signature(thing).parameters)[:len(wanted)] == wanted


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_documented(name):
    module = load(name)
    for n in module.__all__:
        thing = getattr(module, n)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert thing.__doc__ and not thing.__doc__.startswith(f"{n}("), f"{name}.{n} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_tensors_are_documented_with_their_shapes(name):
    "Every tensor that a public function takes or returns: what it is, and its shape in brackets."
    from fastcore.docments import docments
    module, missing = load(name), []
    for n in module.__all__:
        thing = getattr(module, n)
        if not inspect.isfunction(thing): continue
        for parameter, d in docments(thing, full=True, returns=False).items():
            if d.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL): continue
            if "Tensor" in str(d.anno) and not re.search(r"\(.*\)|any shape", str(d.docment)):
                missing.append(f"{n}({parameter})")
            if d.anno is inspect.Parameter.empty and not d.docment and parameter not in ("args", "argv"):
                missing.append(f"{n}({parameter})")
    assert not missing, missing


def test_the_wheel_installs_elsewhere_and_brings_the_command(copy, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = lambda *a, **k: subprocess.run(a, check=True, capture_output=True, text=True, env=env, **k)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", copy)
    wheel, = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {str(p.relative_to(ROOT)) for p in MODULES.values()} <= set(names)
    data = [*(ROOT / "refcolor/weights").rglob("*.*"), *(p for p in (ROOT / "refcolor/app").iterdir() if p.suffix in (".js", ".css", ".j2"))]
    assert {str(p.relative_to(ROOT)) for p in data} <= set(names)
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    site, = (tmp_path / "venv").glob("lib/python*/site-packages")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    # the dependencies are those of this environment; refcolor itself must come from the wheel
    import torch
    (site / "dependencies.pth").write_text(str(Path(torch.__file__).parent.parent))
    script = site / "bin" / "refcolor"
    assert script.exists()
    python = tmp_path / "venv" / "bin" / "python"
    where = run(python, "-c", "import refcolor.app.cli; print(refcolor.app.cli.__file__)", cwd=tmp_path).stdout
    assert str(site) in where
    out = run(python, script, "data", "list", "--json", cwd=tmp_path)
    assert "Micah Lanier" in json.loads(out.stdout)["avatars"]
    # no weights named, none in this folder: those in the wheel
    from PIL import Image
    drawing = Image.new("L", (90, 60), 255)
    drawing.paste(0, (40, 10, 44, 50))
    for name in ("sketch.png", "reference.png"): drawing.save(tmp_path / name)
    done = run(python, script, "colorize", "--sketch", "sketch.png", "--reference", "reference.png", "--out", "o.png", cwd=tmp_path)
    assert str(site) in done.stderr and Image.open(tmp_path / "o.png").size == (90, 60)


# what a module may import beyond `requirements`; the others run without any extra
EXTRAS = {"core": "train", "show": "explore", "data.styles": "draw", "data.emoji": "draw", "data.characters": "draw", "data.datasets": "train", "data.pairs": "eval", "engine.features": "eval",
          "engine.callbacks": "train", "train": "train", "fid": "eval", "evaluate": "eval", "attention": "explore", "generator": "explore", "engine.scale": "train", "generator": "train",
          "app.export": "onnx", "app.report": "eval", "app.explorer": "explore", "app.page": "explore", "study.rows": "train", "study.runs": "train",
          "study.tables": "train", "app.commands": "train"}


def required(key):
    "The packages that settings.ini names there."
    return {re.split(r"[<>=]", r)[0].lower().replace("_", "-") for r in SETTINGS[key].split()}


def test_whatever_the_package_imports_is_required():
    "By `requirements` or by the module's extra; imports inside functions count. And the command line names the extra."
    from importlib.metadata import packages_distributions
    from refcolor.app import cli
    homes, missing, optional = packages_distributions(), set(), set()
    homes_of = lambda top: {h.lower().replace("_", "-") for h in homes.get(top, [top])}          # noqa: E731
    for name, path in MODULES.items():
        allowed = required("requirements") | (required(f"{EXTRAS[name]}_requirements") if name in EXTRAS else set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {"refcolor"}:
                if not homes_of(top) & allowed: missing.add(f"{name}: {top}")
                if not homes_of(top) & required("requirements"): optional.add(top)
    assert not missing, sorted(missing)
    assert optional <= {m for modules in cli.EXTRAS.values() for m in modules}
    assert not [m for extra, modules in cli.EXTRAS.items() for m in modules if not homes_of(m) & required(f"{extra}_requirements")]


def test_an_optional_import_names_its_extra():
    "Each stands in `with needs(extra)`, of an extra that brings the package."
    from importlib.metadata import packages_distributions
    from refcolor.app import cli
    homes, plain = packages_distributions(), []
    for name, path in MODULES.items():
        tree, within = ast.parse(path.read_text(encoding="utf-8")), {}
        for node in ast.walk(tree):
            call = node.items[0].context_expr if isinstance(node, ast.With) else None
            if getattr(getattr(call, "func", None), "id", "") == "needs":
                within |= {id(n): call.args[0].value for b in node.body for n in ast.walk(b)}
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {n.split(".")[0] for n in names} & {m for modules in cli.EXTRAS.values() for m in modules}:
                brought = required(f"{within[id(node)]}_requirements") if id(node) in within else set()
                if not brought & {h.lower().replace("_", "-") for h in homes[top]}: plain.append(f"{name}:{node.lineno}: {top}")
    assert not plain


def test_a_lesson_without_its_extra_says_which(tmp_path):
    "In a process that finds no module of an extra: each lesson's first cell, what it imports of the package, and what cells call."
    first, imports, missing = {}, {}, {}
    for path in sorted((ROOT / "nbs").glob("[01]*.ipynb")):
        code = [s for c in cells(path) if not (s := source(c)).startswith(("!", "%"))]
        first[path.stem] = re.sub(r"^#\|.*", "", code[0], flags=re.M).strip()
        nodes = [n for s in code[1:] for n in ast.walk(ast.parse(s)) if isinstance(n, ast.Import | ast.ImportFrom)]
        imports[path.stem] = [ast.unparse(n) for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("refcolor")]
        # what its cells import by themselves, the first has looked for
        told = {r for extra in re.findall(r"needs\(\"(\w+)\"\)", first[path.stem]) for r in required(f"{extra}_requirements")}
        tops = {(a.name if isinstance(n, ast.Import) else n.module).split(".")[0] for n in nodes for a in n.names}
        missing[path.stem] = {t for t in tops & {"matplotlib", "fastcore", "torchvision", "pytorch_fid", "torchmetrics"} if t.replace("_", "-") not in told}
    assert len(imports) == 17 and sum(map(len, imports.values())) > 100 and not any(missing.values()), missing
    calls = {
        "from refcolor.data.datasets import open_dataset; open_dataset('avatars', size=32)": "draw",
        "from refcolor.data.datasets import open_dataset; open_dataset('openmoji', size=32)": "draw",
        "from refcolor.data.characters import character_svg; character_svg('avatars', 0, {})": "draw",
        "from refcolor.data.characters import rasterize; rasterize('<svg/>', 8)": "draw",
        "from refcolor.data.emoji import emoji_groups; emoji_groups()": "draw",
        "from refcolor.engine.features import Lite0Features; Lite0Features()": "eval",
        "from refcolor.show import show_images; show_images([])": "explore",
        "from refcolor.show import explore; explore(None)": "explore"}
    blocked = {"dicebear": "draw", "matplotlib": "explore", "ipywidgets": "explore", "fastcore": "dev"}
    (tmp_path / "lean.py").write_text(
        "import json, sys\nfrom refcolor.app.cli import EXTRAS\n"
        "first, lines, blocked = json.load(sys.stdin)\n"
        "def told(code, *without):\n"
        "    kept = {m: sys.modules.pop(m, None) for m in without}\n"
        "    sys.modules |= dict.fromkeys(without)\n"
        "    try: exec(code, {})\n"
        "    except Exception as e: return f'{type(e).__name__}: {e}'\n"
        "    finally:\n"
        "        for m, module in kept.items(): sys.modules.pop(m); module and sys.modules.update({m: module})\n"
        "everything = {m for modules in EXTRAS.values() for m in modules}\n"
        "print(json.dumps([[told(code, m) for m in blocked for code in first], [told(line, *everything) for line in lines]]))\n")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "REFCOLOR_CACHE": str(tmp_path / "cache"), "REFCOLOR_PROGRESS": "0"}
    lines = [line for lesson in imports.values() for line in lesson]
    done = subprocess.run([sys.executable, "lean.py"], input=json.dumps([list(first.values()), lines + list(calls), list(blocked)]),
                          cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = "NeedsExtra: needs the extra \"{0}\": pip install 'refcolor[{0}]'".format
    by_first, said = json.loads(done.stdout)
    assert by_first == [line(extra) for extra in blocked.values() for _ in first]
    assert said[len(lines):] == [line(extra) for extra in calls.values()]
    found = dict(zip(lines, said))
    for name, lesson in imports.items():                           # what an import needs, the first cell has named
        for needed in map(found.get, lesson): assert needed is None or re.search(r"\"\w+\"", needed)[0] in first[name], (name, needed)


def test_without_extras_colorize_works_and_other_commands_say_which_they_need(tmp_path):
    "In a process that finds no module of an extra; the commands are those of a reader, one after the other."
    from PIL import Image
    drawing = Image.new("L", (90, 60), 255)
    drawing.paste(0, (40, 10, 44, 50))
    for name in ("s.png", "set/s.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        drawing.save(tmp_path / name)
    (tmp_path / "lean.py").write_text(
        "import importlib.metadata as m, sys\nfrom refcolor.app.cli import EXTRAS, main\n"
        "finders = list(sys.meta_path)\n"
        "class Lean(m.MetadataPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if any(name.partition('.')[0] in modules for modules in EXTRAS.values()): return None\n"
        "        return next((spec for f in finders if (spec := f.find_spec(name, path, target))), None)\n"
        "sys.meta_path[:] = [Lean()]\n"
        "for line in sys.stdin: print(main(line.split()))\n")
    needs = {"train --out t": "train", "demo --out d": "train", "evaluate --n 8": "eval", "export --out m.onnx": "onnx",
             "bench": "train", "reproduce triplet --show": "train", "data list": "draw", "data show folder --root set": "explore"}
    lines = ["colorize --sketch s.png --reference s.png --out o.png", *needs]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "REFCOLOR_CACHE": str(tmp_path / "cache"), "REFCOLOR_PROGRESS": "0"}
    done = subprocess.run([sys.executable, "lean.py"], input="\n".join(lines), cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["0"] + ["2"] * len(needs), done.stderr
    said = [line for line in done.stderr.splitlines() if not line.startswith(("note: ", "data: note"))]   # no colours
    assert said[1:] == [
        f"refcolor {c.split()[0]} needs the extra \"{extra}\": pip install 'refcolor[{extra}]'" for c, extra in needs.items()]
    assert Image.open(tmp_path / "o.png").size == (90, 60)
