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
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))
# the module is named in the notebook: that of 16_results is `reproduce`
ORDER = {re.search(r"#\| default_exp (\w+)", p.read_text(encoding="utf-8"))[1]: int(p.stem[:2]) for p in NOTEBOOKS}
MODULES = {p.stem: p for p in sorted((ROOT / "refcolor").glob("[a-z]*.py"))}
BIN = Path(sys.executable).parent


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
    assert set(ORDER) == set(MODULES), "notebooks and modules do not pair up"


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
def test_a_module_imports_only_from_smaller_numbers(name):
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    imported = {n.module.split(".")[1] for n in ast.walk(tree)
                if isinstance(n, ast.ImportFrom) and n.module and n.module.startswith("refcolor.")}
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level}
    upward = [m for m in imported if ORDER[m] >= ORDER[name]]
    assert not upward, f"{name} ({ORDER[name]}) imports {upward}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_measures(path):
    assert path.stat().st_size <= 1_000_000, "more than 1 MB: fewer or smaller pictures"
    for c in cells(path):
        assert not re.search(r"^from \S+ import \*", source(c), re.M), f"star import: {source(c)[:60]}"
        assert not re.search(r"^\s*(assert True|pass  # TODO)", source(c), re.M)
        for o in c["outputs"]:
            text = json.dumps(o)
            assert "/home/" not in text and "/root/" not in text and "/tmp/" not in text, f"a path of one machine: {source(c)[:60]}"
            assert o["output_type"] != "error" or "raises-exception" in c["metadata"].get("tags", [])
    assert [c for c in cells(path) if re.search(r"^\s*(assert|test_\w+\()", source(c), re.M)], "no test in this notebook"


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_documented(name):
    module = importlib.import_module(f"refcolor.{name}")
    for n in module.__all__:
        thing = getattr(module, n)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert thing.__doc__ and not thing.__doc__.startswith(f"{n}("), f"{name}.{n} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_tensors_are_documented_with_their_shapes(name):
    "Every tensor that a public function takes or returns: what it is, and its shape in brackets."
    from fastcore.docments import docments
    module, missing = importlib.import_module(f"refcolor.{name}"), []
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


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if "#| exercise" in p.read_text(encoding="utf-8")], ids=lambda p: p.stem)
def test_exercises_fail_until_solved(path, tmp_path):
    """Each exercise raises as it stands; with its solution in place of the student's lines, its check passes."""
    import nbformat
    from nbclient import NotebookClient
    nb = nbformat.read(path, 4)
    out, pending = [], None
    for c in nb.cells:
        if c.cell_type == "markdown" and pending is not None:
            solution = re.search(r"<details>.*?```python\n(.*?)```", c.source, re.S)
            assert solution, f"no solution for: {pending[:80]}"
            check = pending.split("# --- check ---", 1)[1]
            out.append(nbformat.v4.new_code_cell(solution[1] + check))
            pending = None
        if c.cell_type != "code" or re.search(r"^#\|\s*(eval:\s*false|gpu|slow|notest)", c.source, re.M): continue
        if re.search(r"^#\|\s*exercise", c.source):
            assert "raises-exception" in c.metadata.get("tags", []) and "# --- check ---" in c.source
            body = "\n".join("    " + l for l in c.source.splitlines())
            out.append(nbformat.v4.new_code_cell(
                f"_failed = False\ntry:\n{body}\nexcept Exception: _failed = True\nassert _failed, 'passes unsolved'"))
            pending = c.source
        else: out.append(nbformat.v4.new_code_cell(c.source))
    nb.cells = out
    NotebookClient(nb, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "nbs")}}).execute()


def test_the_wheel_installs_elsewhere_and_brings_the_command(copy, tmp_path):
    run = lambda *a, **k: subprocess.run(a, check=True, capture_output=True, text=True, **k)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", copy)
    wheel, = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"refcolor/{m}.py" for m in MODULES} <= set(names)
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "refcolor/weights").rglob("*.*")} <= set(names)
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


def test_whatever_the_package_imports_is_required():
    "A wheel in an empty environment has nothing but `requirements`; this environment has everything."
    from importlib.metadata import packages_distributions
    from configparser import ConfigParser
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    required = {re.split(r"[<>=]", r)[0].lower().replace("_", "-") for r in config["DEFAULT"]["requirements"].split()}
    optional = {"onnx", "onnxruntime", "onnxscript", "tensorboard"}          # asked for where they are used, with a clear error
    homes, missing = packages_distributions(), set()
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - {"refcolor"} - optional:
                homes_of = {h.lower().replace("_", "-") for h in homes.get(top, [top])}
                if not homes_of & required: missing.add(f"{name}: {top}")
    assert not missing, sorted(missing)
