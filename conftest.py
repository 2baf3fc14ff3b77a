"""Make nbval understand nbdev: directives, cleaned notebooks, widget outputs, exercises."""
import contextlib
import os
import re
from configparser import ConfigParser
from pathlib import Path

import psutil

# whatever else there is: stored outputs and compared bytes are the processor's; tests/test_gpu.py names its device
os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
os.environ["REFCOLOR_PROGRESS"] = "0"      # bars come and go with the cache: not an output to compare

_cfg = ConfigParser(delimiters=["="], interpolation=None)
_cfg.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
_FLAGS = set(_cfg["DEFAULT"].get("tst_flags", "notest").split())
_DIRECTIVE = re.compile(r"^#\s*\|\s*(.+?)\s*$", re.M)


def _flags(src): return {d.split()[0] for d in _DIRECTIVE.findall(src)}


def _skipped(src):
    "True if an nbdev directive says this cell is not run in tests"
    return (_flags(src) & (_FLAGS - {"exercise"}) or re.search(r"^#\s*\|\s*eval:\s*false", src, re.M | re.I)
            or "nbdev_export(" in src)


def _solved(cell, following):
    "The solution in place of the student's lines, and the exercise's own check."
    text = next((c.source for c in following if c.cell_type == "markdown"), "")
    solution = re.search(r"<details>.*?```python\n(.*?)```", text, re.S)
    return solution[1] + cell.source.split("# --- check ---", 1)[1] if solution else "raise LookupError('no solution')"


_JUDGED = "{}\nassert check == {!r}, check"              # the verdict of `refcolor.show.exercise`


def pytest_collection_modifyitems(items):
    """Cells of exercises, in the kernel that runs their notebook: each must be 'not answered yet' as it stands, and
    'right' with the solution that is folded below it."""
    found = []
    for it in items:
        found.append(it)
        cell = getattr(it, "cell", None)
        if cell is None: continue
        if _skipped(cell.source): it.options["skip"] = True
        # nbdev_clean removes execution counts; nbval takes such a cell for one never run
        if cell.execution_count is None: cell.execution_count = 0
        if "exercise" not in _flags(cell.source): continue
        cells = it.parent.nb.cells
        solved = _solved(cell, cells[next(i for i, c in enumerate(cells) if c is cell) + 1:])
        cell.source, solved = _JUDGED.format(cell.source, "not answered yet"), _JUDGED.format(solved, "right")
        it.options.update(check=False, check_exception=False)
        found.append(type(it).from_parent(
            it.parent, name=f"{it.name} solved", cell_num=it.cell_num, options=it.options,
            cell=type(cell)(cell_type="code", source=solved, outputs=[], execution_count=0, metadata={})))
    items[:] = found


def pytest_configure(config):
    try: from nbval.plugin import IPyNbFile
    except ImportError: return
    if getattr(IPyNbFile, "_widget_aware", False): return
    plain = IPyNbFile.get_kernel_message

    def get_kernel_message(self, timeout=None, stream="iopub"):
        "As nbval's, without what ipywidgets.Output captures (JupyterLab keeps it in the widget)"
        held = self.__dict__.setdefault("_held", {})
        while True:
            msg = plain(self, timeout=timeout, stream=stream)
            kind, body = msg["msg_type"], msg["content"]
            if kind in ("comm_open", "comm_msg"):
                state = body.get("data", {}).get("state", {})
                if "msg_id" in state: held[body["comm_id"]] = state["msg_id"]
            elif kind == "clear_output": continue
            elif kind in ("stream", "display_data", "execute_result", "update_display_data", "error"):
                if msg["parent_header"].get("msg_id") in held.values() and kind != "error": continue
            return msg

    IPyNbFile.get_kernel_message, IPyNbFile._widget_aware = get_kernel_message, True
    stop = IPyNbFile.teardown

    def teardown(self):
        "As nbval's, but the kernel's processor time is read before it goes"
        with contextlib.suppress(psutil.NoSuchProcess):        # it died
            used = psutil.Process(self.kernel.km.provisioner.pid).cpu_times()
            _seconds[self.nodeid] = sum(used[:4])          # of its children, too
        stop(self)

    IPyNbFile.teardown = teardown


# A notebook takes at most 60 s of a processor, and is marked if it takes longer; the run fails at three times that.
# Wall time on a machine that does something else, too, says little.
SECONDS, FAILS = 60, 180
_seconds, _exercises = {}, []


def pytest_runtest_logreport(report):
    if report.nodeid.endswith(" solved") and report.when == "call" and report.passed: _exercises.append(report.nodeid)


def pytest_sessionfinish(session, exitstatus):
    if exitstatus == 0 and any(s > FAILS for s in _seconds.values()): session.exitstatus = 1


def pytest_terminal_summary(terminalreporter):
    if not _seconds: return
    for name, s in sorted(_seconds.items()):
        terminalreporter.write_line(f"{s:6.1f} CPU s  {name}{'   over 60 s' if s > SECONDS else ''}")
    terminalreporter.write_line(f"{len(_exercises)} exercises are open as they stand and pass solved")
