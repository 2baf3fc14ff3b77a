"""What a revision asserts and shows that another does not: python .ci/ledger.py OLD [NEW]; without NEW, the files here."""
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKS = {"test_eq", "test_ne", "test_close", "test_fail", "test_warns", "test_is", "explore"}
FILES = re.compile(r"nbs/(?!.*checkpoints/).*\.ipynb|tests/.*\.py")


def read(revision) -> dict:
    "Path -> text of all notebooks and tests of a revision, or of the working tree."
    if revision is None:
        paths = {str(p.relative_to(ROOT)): p for f in ("nbs", "tests") for p in (ROOT / f).rglob("*.*")}
        return {name: p.read_text(encoding="utf-8") for name, p in paths.items() if FILES.fullmatch(name)}
    git = lambda *words: subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    names = git("ls-tree", "-r", "--name-only", revision).splitlines()
    return {name: git("show", f"{revision}:{name}") for name in names if FILES.fullmatch(name)}


def sources(name: str, text: str) -> list:
    "Syntax trees: of a file, or of each cell."
    if name.endswith(".py"): return [ast.parse(text)]
    code = ("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code")
    return [ast.parse(re.sub(r"^[%!].*", "", c, flags=re.M)) for c in code]


class Bare(ast.NodeTransformer):
    "`train.Learner` becomes `Learner`: a thing that moved to another module is the same thing."
    def __init__(self, modules): self.modules = modules

    def visit_Attribute(self, node):
        self.generic_visit(node)
        return ast.Name(node.attr, node.ctx) if ast.unparse(node.value) in self.modules else node


def entries(name: str, text: str):
    "Each check, test and widget, written in one way."
    trees = sources(name, text)
    nodes = [n for tree in trees for n in ast.walk(tree)]
    modules = {a.asname or a.name.split(".")[0] for n in nodes for a in getattr(n, "names", ())
               if isinstance(n, ast.Import) and a.name.startswith("refcolor")
               or isinstance(n, ast.ImportFrom) and re.fullmatch(r"refcolor(\.(data|engine|study|app))?", n.module or "")}
    for n in nodes:
        if isinstance(n, ast.FunctionDef) and n.name.startswith("test_"): yield f"def {n.name}"
        call = isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in CHECKS
        if call or isinstance(n, ast.Assert): yield ast.unparse(Bare(modules).visit(n))


def ledger(revision) -> dict:
    "Entry -> the files that hold it, as often as they do."
    found = {}
    for name, text in read(revision).items():
        for entry in entries(name, text): found.setdefault(entry, []).append(name)
    return found


if __name__ == "__main__":
    old, new = ledger(sys.argv[1]), ledger(sys.argv[2] if len(sys.argv) > 2 else None)
    for title, a, b in (("lost", old, new), ("gained", new, old)):
        lines = sorted(f"{name}: {e}" for e, names in a.items() for name in names[len(b.get(e, ())):])
        print(f"# {title}: {len(lines)} of {sum(map(len, a.values()))}", *lines, sep="\n")
