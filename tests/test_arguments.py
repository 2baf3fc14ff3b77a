"""What people type: a typo is named, and what cannot be is refused in one line, before anything is made or computed."""
import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from PIL import Image

import refcolor
from refcolor.app import arguments, cli, commands
from refcolor.app.cli import EXAMPLES, main, make_parser
from refcolor.core import UserError

TINY = Path(refcolor.__file__).parent / "weights" / "tiny"
COMMANDS = ["demo", "train", "colorize", "export", "evaluate", "bench", "reproduce", "data list", "data check", "data show", "data fetch"]


def parsers():
    "Command -> its parser, those below `data` included."
    def below(parser, name=""):
        yield name.strip(), parser
        for word, p in (parser.commands.choices.items() if parser.commands else ()): yield from below(p, f"{name} {word}")
    return dict(below(make_parser()))


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A folder to work in, with a drawing, a text, and a folder of pictures; the work itself would be an error."
    monkeypatch.chdir(tmp_path)
    Image.new("L", (40, 40), 255).save("blank.png")
    picture = Image.new("L", (60, 50), 255)
    picture.paste(0, (20, 10, 24, 40))
    picture.save("line.png")
    Path("text.txt").write_text("words")
    for folder, p in (("pictures", picture), ("colours", Image.new("RGB", (60, 50), "red"))):
        Path(folder).mkdir()
        p.paste("blue", (0, 0, 9, 9)) if p.mode == "RGB" else None
        for k in range(3): p.save(f"{folder}/{k}.png")
    return tmp_path


def refused(capsys, place, *words, at_once=True):
    "The one line that a command says: exit code 2, nothing made and, if `at_once`, the command's module not even looked at."
    before = sorted(place.rglob("*"))
    original = cli.resolve_name
    if at_once: cli.resolve_name = lambda name: pytest.fail(f"{words}: this could be known before {name} is loaded")
    try: code = main([str(w) for w in words])
    finally: cli.resolve_name = original
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("refcolor") and not out, (words, code, err)
    assert sorted(place.rglob("*")) == before, (words, "something was made")
    return lines[0]


# ---- typos

@pytest.mark.parametrize("typed, said", [
    (["colrize"], "unknown command 'colrize'; did you mean colorize?"), (["trian", "--out", "x"], "did you mean train?"), (["Demo"], "did you mean demo?"),
    (["evalute"], "did you mean evaluate?"), (["zzz"], "unknown command 'zzz' (see"), (["data", "lst"], "unknown command 'lst'; did you mean list?"),
    (["colorize", "--skecth", "a.png"], "unknown option --skecth; did you mean --sketch?"), (["colorize", "--skecth=a.png"], "unknown option --skecth; did"),
    (["colorize", "--sketch", "a.png", "--reference", "b.png", "--out", "c.png", "--forse"], "did you mean --force?"),
    (["train", "--stesp", "3"], "did you mean --steps?"), (["train", "-out", "x"], "unknown option -out; did you mean --out?"),
    (["data", "show", "folder", "--rot", "x"], "did you mean --root?"), (["bench", "--xyzzy"], "unknown option --xyzzy (see refcolor bench --help)"),
    (["--verson"], "did you mean --version?"), (["--json", "train"], "unknown option --json; it goes behind the command"), (["data", "list", "extra"], "unrecognized arguments: extra"),
    (["data", "list", "--n", "3"], "unknown option --n"), (["data", "check", "folder", "--out", "x.png"], "unknown option --out"),
    (["train", "--data", "avatar"], "unknown data set 'avatar'; did you mean avatars?"), (["evaluate", "--data", "foldr:drawn"], "'foldr'; did you mean folder?"),
    (["reproduce", "triplet", "--data", "qqq"], "unknown data set 'qqq': use one of avatars, "), (["data", "check", "celebA", "--root", "x"], "did you mean celeba?"),
    (["data", "show", "openmojis"], "did you mean openmoji?"), (["data", "fetch", "edges2shoe"], "did you mean edges2shoes?"), (["train", "--data", ""], "unknown data set ''"),
    (["train", "--preset", "tyni"], "did you mean TINY?"), (["train", "--recipe", "pose"], "did you mean posed?"), (["bench", "--preset", "papper"], "did you mean PAPER?"),
    (["evaluate", "--features", "lite"], "did you mean lite0?"), (["train", "--features", "xyzzy"], "invalid choice: 'xyzzy' (choose from"),
    (["evaluate", "--distance", "frechetx"], "did you mean frechet?"), (["reproduce", "tripplet"], "did you mean triplet?"),
    ([], "required: COMMAND"), (["data"], "required: ACTION"), (["data", "show"], "required: name"), (["colorize"], "required: --sketch, --reference, --out")])
def test_a_typo_is_named_with_what_was_meant(typed, said, place, capsys):
    assert said in refused(capsys, place, *typed)


def test_what_a_shell_made_of_a_pattern_is_told_the_way(place, capsys):
    for name in ("a.png", "b.png"): Path(name).touch()
    words = ["colorize", "--reference", "c.png", "--out", "d.png", "--sketch", "a.png", "b.png"]
    assert "b.png; only one file goes there: for several, name their folder" in refused(capsys, place, *words)
    assert "only one file" not in refused(capsys, place, *words[:-1], "c.png")


def test_the_largest_seed_is_one(place):
    assert main(["train", "--steps", "1", "--batch", "2", "--seed", str(2 ** 63 - 1), "--out", "run"]) == 0
    assert json.loads(Path("run/config.json").read_text())["seed"] == 2 ** 63 - 1


def test_what_is_no_typo_is_no_typo(place, capsys):
    "Abbreviations, values after =, negative numbers, and the spellings of half the world."
    parse = make_parser().parse_args
    for word in ("colorize", "colourize", "colorise", "colourise"):
        args = parse([word, "--sk", "a.png", "--reference=b.png", "--out", "c.png", "--hint", "-1", "2.5", "3", "4e1"])
        assert args.run == "refcolor.app.commands:run_colorize" and args.hint == [[-1, 2.5, 3, 40]] and args.sketch == Path("a.png")
    args = parse(["train", "--out", "x", "--resume", "--steps", "3"])
    assert args.resume == "last" and args.steps == 3


@pytest.mark.parametrize("words, option", [
    ("train --out a --steps 1 --out b", "--out"), ("train --out a --steps 1 --ste 2", "--steps"), ("train --out=a --out=a", "--out"), ("train --out a --resume --resume step-1", "--resume"),
    ("colorize --sketch line.png --reference line.png --out a.png --out b.png", "--out"), ("data show avatars --n 1 --n 1", "--n"), ("reproduce triplet --root pictures --root pictures", "--root"),
    ("bench --what warp,infer,warp", "--what: warp"), ("bench --what warp --what infer", "--what"), ("reproduce triplet --rows full,full --show", "--rows: full"),
    ("reproduce triplet --rows=full,\\ full", "--rows: full")])
def test_an_option_with_two_values_is_refused(words, option, place, capsys):
    "The last would count, and a person who repeats an option means both."
    assert f"{option} is given twice" in refused(capsys, place, *shlex.split(words))


def test_an_option_that_may_be_given_again_may(place):
    args = make_parser().parse_args("colorize --sketch a --out b --reference c d --reference e --hint 1 2 3 4 --hint 5 6 7 8 --force --force --json --json".split())
    assert args.reference == [Path("c"), Path("d"), Path("e")] and args.hint == [[1, 2, 3, 4], [5, 6, 7, 8]] and args.force and args.json
    args = make_parser().parse_args("evaluate --sketches a --references b --truths c".split())              # the beginning of one is no other
    assert (args.sketches, args.references, args.truths) == (Path("a"), Path("b"), Path("c"))


# ---- help

@pytest.mark.parametrize("name", COMMANDS)
def test_each_help_has_an_example_that_works(name, place, capsys):
    parser = parsers()[name]
    lines = [line.strip() for line in parser.format_help().splitlines() if line.startswith("  refcolor ")]
    assert lines, "no example"
    for line in lines:
        assert line.startswith(f"refcolor {name}"), line
        assert make_parser().parse_args(shlex.split(line)[1:]).run == parser.get_default("run")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["colorize", "--help"], ["data", "show", "-h"]])
def test_help_and_version_succeed(words, capsys):
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert out and not err


def test_no_example_is_of_no_command():
    assert {f"{w} {n}" if w == "data" else n for n in EXAMPLES for w in [("data" if n in ("list", "check", "show", "fetch") else "")]} >= set(COMMANDS)


@pytest.mark.parametrize("name", ["", "data", *COMMANDS])
def test_help_tells_a_default_only_where_there_is_one(name, place, capsys):
    said, parser = parsers()[name].format_help(), parsers()[name]
    assert not re.search(r"default:? *(None|True|False|\()", said), said
    for action in parser._actions:
        told = type(action.default) in (int, str, Path) and action.dest not in ("help", "version")
        if told and not action.choices or action.dest in ("preset", "distance"):
            assert f"(default: {action.default})" in " ".join(said.split()), action
    assert max(map(len, said.splitlines())) <= 100


def test_data_list_is_wrapped(monkeypatch, place, capsys):
    monkeypatch.setenv("COLUMNS", "72")
    assert main(["data", "list", "--json"]) == 0
    out, err = capsys.readouterr()
    names = json.loads(out)
    assert [line.split()[0] for line in err.splitlines() if line[0] != " "] == list(names)
    long = [line for line in err.splitlines() if len(line) > 72]
    assert all(len(line.split()) <= 2 and "http" in line for line in long), long             # a URL is not broken
    assert " ".join(err.split()) == " ".join(f"{name} {note}" for name, note in names.items()).replace("  ", " ")


# ---- numbers

NUMBERS = {"demo": ["--steps", "--n"], "train": ["--steps", "--batch", "--save-every", "--accumulate", "--seed", "--workers"], "evaluate": ["--n"],
           "bench": ["--threads", "--repeats"], "app": ["--port"], "reproduce": ["--seeds", "--steps"], "data show": ["--n"]}
NEEDS = {"train": ["--out", "run"], "reproduce": ["triplet"], "data show": ["avatars"], "export": ["--out", "x.onnx"], "data fetch": ["edges2shoes"],
         "data check": ["folder"], "colorize": ["--sketch", "line.png", "--reference", "line.png", "--out", "o.png"]}


@pytest.mark.parametrize("name, option", [(n, o) for n, options in NUMBERS.items() for o in options])
def test_numbers_that_cannot_be_are_refused(name, option, place, capsys):
    for value in ("-1", "nan", "inf", "1.5", "10**12", "", "1" + 20 * "0", *[["0"], []][option in ("--seed", "--workers")]):
        said = refused(capsys, place, *name.split(), *NEEDS.get(name, ()), f"{option}={value}")
        assert f"argument {option}:" in said, said


def test_a_bound_is_the_last_that_may_be():
    number = arguments.whole(2, 5)
    assert [number(str(n)) for n in (2, 5)] == [2, 5]
    for n, said in ((1, "1 is less than 2"), (6, "6 is more than 5")):
        with pytest.raises(arguments.ArgumentTypeError, match=said): number(str(n))


def test_every_number_of_the_command_line_is_in_the_table():
    "Or a new option would take any."
    found = {name: [a.option_strings[0] for a in parser._actions if getattr(a.type, "__qualname__", "").startswith("whole.")] for name, parser in parsers().items()}
    found = {name: options for name, options in found.items() if options and not name.startswith("colou") and name != "colorise"}
    assert {n: sorted(o) for n, o in found.items()} == {n: sorted({*o, *(["--stage"] if n == "reproduce" else [])}) for n, o in NUMBERS.items()}
    for name, parser in parsers().items():
        for action in parser._actions: assert action.type not in (int, float, Path), (name, action.dest, "takes any number or path")


@pytest.mark.parametrize("words", ["train --out run --resume=", "train --out run --device=", "bench --what=", "reproduce triplet --rows=", "reproduce triplet --rows=,", "reproduce triplet --device="])
def test_an_unset_variable_is_no_value(words, place, capsys):
    assert "is empty" in refused(capsys, place, *words.split()) and "is empty" in refused(capsys, place, *words[:-1].split(), " ")


@pytest.mark.parametrize("words", ["bench --what warp,", "bench --what ,warp", "reproduce triplet --rows full,,no_tr", "reproduce triplet --rows full,"])
def test_no_name_among_several_is_empty(words, place, capsys):
    assert "is empty" in refused(capsys, place, *words.split())


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "x", ""])
def test_a_hint_is_made_of_numbers(value, place, capsys):
    assert "--hint" in refused(capsys, place, "colorize", *NEEDS["colorize"], "--hint", "1", "2", "3", value)


@pytest.mark.parametrize("hint, said", [
    ("1 2 3 4 0.5", "expected X Y X' Y', and K"), ("1 2 3 4 -1", "expected"), ("1 2 3", "expected"), ("1 2 3 4 0 0", "expected"),
    ("60 2 3 4", "(60, 2) lies outside of its picture, the sketch of 60×50 pixels"), ("1 2 3 -7", "(3, -7) lies outside of its picture, the reference of 60×50"),
    ("1 50 3 4", "(1, 50) lies outside of its picture, the sketch")])
def test_a_hint_out_of_range_is_told_in_pixels(hint, said, place, capsys):
    assert said in refused(capsys, place, "colorize", *NEEDS["colorize"], "--weights", TINY, "--hint", *hint.split(), at_once=False)


def test_a_hint_at_the_last_pixel_is_one(place):
    sketch = Image.open("line.png")
    assert commands.hints_of([[0, 0, 59, 49]], sketch, [sketch]) == [(pytest.approx(1 / 60 - 1), pytest.approx(1 / 50 - 1), (pytest.approx(1 - 1 / 60), pytest.approx(1 - 1 / 50), 0))]


# ---- paths

LONG = "x" * 300
PATHS = {"demo": ["--out"], "train": ["--root", "--out"], "colorize": ["--weights", "--sketch", "--reference", "--out"], "export": ["--weights", "--out"],
         "evaluate": ["--weights", "--root", "--against", "--sketches", "--references", "--truths", "--report"], "bench": ["--out"],
         "reproduce": ["--root", "--results", "--runs"], "data check": ["--root"], "data show": ["--root", "--out"], "data fetch": ["--root"]}


@pytest.mark.parametrize("name, option", [(n, o) for n, options in PATHS.items() for o in options])
def test_paths_that_cannot_be_are_refused(name, option, place, capsys):
    suffix = {"export--out": ".onnx", "evaluate--report": ".html", "data show--out": ".png"}.get(f"{name}{option}", "")
    for value, said in ((LONG + suffix, "File name too long"), (f"new/{LONG}/a{suffix}", "File name too long"), ("a/" * 3000 + "a" + suffix, "File name too long"),
                        (f"nul\0{suffix}", "null byte"), ("", "is empty")):
        needs = NEEDS.get(name, [])
        at = needs.index(option) if option in needs else len(needs)
        line = refused(capsys, place, *name.split(), *needs[:at], *needs[at + 2:], f"{option}={value}")
        assert f"argument {option}" in line and said in line and len(line) < 200, line


@pytest.mark.parametrize("words, said", [
    ("data show folder --root pictures --out y.txt", "y.txt: give it the suffix .png"), ("data show folder --root pictures --out y", "give it the suffix"),
    ("evaluate --report r.pdf", "give it the suffix .html"), ("bench --out b.txt", "give it the suffix .json"), ("bench --out b", "give it the suffix .json"), ("export --out m.pt", "give it the suffix .onnx"),
    ("demo --out text.txt", "text.txt is not a folder"), ("train --out text.txt", "is not a folder"), ("train --out text.txt/run", "text.txt is not a folder"),
    ("demo --out line.png/a/b", "line.png is not a folder"),
    ("reproduce table2 --results text.txt", "text.txt is not a folder"), ("reproduce table2 --runs text.txt --show", "text.txt is not a folder"),
    ("bench --out pictures", "pictures is a folder"), ("data fetch edges2shoes --root text.txt", "is not a folder"),
    ("bench --out {nowhere}/bench.json", "cannot write in {nowhere}"), ("evaluate --report {nowhere}/deep/r.html", "cannot write in {nowhere}"),
    ("export --out {nowhere}/m.onnx", "cannot write in {nowhere}"), ("train --out {nowhere}/run", "cannot write in {nowhere}"), ("demo --out {nowhere}", "cannot write in {nowhere}"),
    ("data show folder --root pictures --out {nowhere}/s.png", "cannot write in {nowhere}"),
    ("colorize --sketch line.png --reference line.png --out {nowhere}/o.png", "cannot write in {nowhere}"),
    ("bench --out x.txt", "x.txt: give it the suffix .json"), ("bench --out x", "x: give it the suffix .json"), ("bench --out pipe", "pipe is no file"), ("data show folder --root pictures --out s.png/", "s.png/ is a folder's name; for a file, leave the / away"),
    ("export --out m.onnx/", "leave the / away"), ("evaluate --report r.html/", "leave the / away"), ("colorize --sketch line.png --reference line.png --out o.png/", "leave the / away"),
    ("colorize --sketch line.png/ --reference line.png --out o.png", "argument --sketch: line.png/ is a folder's name")])
def test_what_cannot_be_written_is_known_before_the_work(words, said, place, capsys, monkeypatch):
    nowhere = place / "nowhere"                           # a folder that even its owner cannot write into
    nowhere.mkdir()
    os.mkfifo("pipe")                                     # as a device, it is not to be replaced by a file
    real = arguments.tempfile.TemporaryFile
    def refuse(dir):
        if Path(dir) == nowhere: raise PermissionError(13, "Permission denied")
        return real(dir=dir)
    monkeypatch.setattr(arguments.tempfile, "TemporaryFile", refuse)
    assert said.format(nowhere=nowhere) in refused(capsys, place, *words.format(nowhere=nowhere).split())


def test_a_file_that_looks_like_an_option_and_a_home_are_found(place, capsys, monkeypatch):
    Path("line.png").rename("-line.png")
    assert "unknown option -line.png; the file is ./-line.png" in refused(capsys, place, *"colorize --sketch -line.png --reference ./-line.png --out o.png".split())
    monkeypatch.setenv("HOME", str(place / "home"))
    for name in ("./-line.png", "=-line.png"):
        words = ["colorize", *(["--sketch" + name] if name[0] == "=" else ["--sketch", name]), "--reference", "./-line.png", "--weights", str(TINY), f"--out=~/{name[-8]}.png"]
        assert main(words) == 0 and Path("home", f"{name[-8]}.png").exists() and not Path("~").exists()
        capsys.readouterr()
        os.unlink(Path("home", f"{name[-8]}.png"))


def test_a_link_to_nothing_is_there(place, capsys):
    Path("link.png").symlink_to("nothing.png")
    assert "link.png exists; --force overwrites it" in refused(capsys, place, *"colorize --sketch line.png --reference line.png --out link.png".split(), at_once=False)
    assert main("colorize --sketch line.png --reference line.png --out link.png --force".split()) == 0 and not Path("link.png").is_symlink() and not Path("nothing.png").exists()


def test_a_folder_that_is_gone_is_one_line(place, capsys, monkeypatch):
    "Deleted in another window."
    Path("gone").mkdir()
    monkeypatch.chdir("gone")
    os.rmdir(place / "gone")
    for words in (["train", "--out", "run"], ["data", "show", "avatars", "--out", "a.png"], ["bench", "--out", "b.json"]):
        assert "the folder that you are in is gone" in refused(capsys, place, *words)
    assert "is gone" in refused(capsys, place, "data", "show", "avatars", at_once=False)


def test_a_table_is_read_where_nothing_can_be_written(place, monkeypatch, capsys):
    def refuse(dir): raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(arguments.tempfile, "TemporaryFile", refuse)
    assert "results cannot write in" in refused(capsys, place, *"reproduce triplet --results results".split(), at_once=False)
    assert main("reproduce triplet --show --results results".split()) == 0 and "not run" in capsys.readouterr().err


def test_trying_to_write_leaves_nothing_and_allows_what_can_be(place):
    before = {p: p.stat().st_mtime_ns for p in [place, *place.rglob("*")] if p.is_file()}
    for name, folder in (("new/deep/a.png", False), ("line.png", False), ("new/deep", True), ("pictures", True), ("pictures", None), ("line.png", None), ("new", None)):
        assert arguments.cannot_write(Path(name), folder) == "", name
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()} == before and not Path("new").exists()
    os.mkfifo("pipe")
    Path("gone").symlink_to("nothing")
    for name, folder, said in (("pipe", False, "is no file"), ("pictures", False, "is a folder"), ("line.png", True, "is not a folder"), ("gone", True, "is not a folder"),
                               ("gone/a.png", False, "is not a folder"), ("/proc/no/a.png", False, "cannot write in /proc")):
        assert said in arguments.cannot_write(Path(name), folder), name


# ---- what only the command can know, and knows before it works

@pytest.mark.parametrize("words, said", [
    ("train --device meta --steps 1 --out run", "--device meta: not available"), ("train --device cuda:99 --out run", "--device cuda:99"), ("train --device cpu:9 --out run", "--device cpu:9"),
    ("reproduce triplet --device meta", "--device meta"), ("train --data folder --root {long} --out run", "File name too long"),
    ("train --data folder:{long} --root pictures --out run", "folder of sketches"), ("train --root pictures --out run", "'avatars' is drawn and has no --root"),
    ("evaluate --weights {tiny} --root pictures", "is drawn and has no --root"), ("data check openmoji --root pictures", "is drawn"),
    ("evaluate --weights {tiny} --sketches pictures --truths pictures --root pictures", "--root goes with --data"),
    ("evaluate --weights {tiny} --sketches pictures --truths pictures --data avatars", "--data or --sketches: give one"),
    ("reproduce triplet --data folder --root pictures --results pictures/r", "--results, --runs pictures/r: pictures is only read; write elsewhere"),
    ("reproduce triplet --data folder --root pictures --runs pictures", "pictures is only read"), ("reproduce weights --data folder", "--data goes with rows"), ("reproduce weights --preset TINY", "--preset goes with rows"), ("reproduce weights --seeds 3", "--seeds goes with rows"),
    ("reproduce weights --results nbs/results", "--results goes with rows"), ("reproduce triplet --stage 1", "--stage goes with weights"), ("reproduce triplet --show --stage 2", "--stage goes with weights"), ("reproduce weights --rows full", "--rows goes with rows"),
    ("train --data celeba:hat --root pictures --out run", "celeba:hat: behind the colon stands nothing"), ("train --data avatars:hat --out run", "stands nothing"),
    ("train --data avatars: --out run", "avatars:: behind the colon stands nothing"), ("data show openmoji:people,people --out s.png", "openmoji:people,people: people is given twice"),
    ("evaluate --weights {tiny} --data openmoji:,", "behind the colon stands one or more of"), ("data show imagenet:n1,,n2 --root pictures --out s.png", "behind the colon stands class folders"),
    ("data check folder: --root pictures", "behind the colon stands a folder of sketches"), ("reproduce triplet --show --data spair71k:cat,cat --root pictures", "cat is given twice"),
    ("reproduce triplet --show --data folder --root nowhere", "no such folder"), ("reproduce triplet --show --again", "--show and --again: give one of them"),
    ("reproduce table2 --again --recheck", "--again and --recheck: give one"), ("reproduce weights --again", "--again goes with rows"),
    ("train --data folder --root line.png --out run", "--root line.png is not a folder"), ("data check folder --root text.txt", "--root text.txt is not a folder"),
    ("evaluate --weights {tiny} --sketches line.png --truths pictures", "--sketches line.png is not a folder"),
    ("evaluate --weights {tiny} --sketches colours --truths pictures --report pictures/r.html", "--report pictures/r.html: pictures is only read"),
    ("evaluate --weights {tiny} --data folder --root pictures --report pictures/r.html", "pictures is only read"), ("data show folder --root pictures --out pictures/0.png", "pictures is only read"),
    ("colorize --sketch pictures --reference line.png --out o --layers pictures/lay", "--layers pictures/lay: pictures is only read"),
    ("bench --what warp,speed", "unknown 'speed'"), ("evaluate --weights {tiny} --n 2 --distance frechet", "needs at least 1281 pictures"),
    ("evaluate --weights {tiny} --sketches pictures --truths pictures --n 1 --distance kernel", "needs at least 2 pictures"),
    ("evaluate --weights nowhere", "no generator.safetensors and preset.json in nowhere or nowhere/last; name a run's folder, or leave it out"), ("evaluate --weights text.txt", "text.txt"), ("evaluate --weights {tiny} --sketches pictures --truths nowhere", "no such folder"),
    ("colorize --sketch line.png --reference pictures --out o.png", "pictures is a folder"), ("colorize --sketch pictures --reference line.png pictures --out o", "pictures is a folder"),
    ("colorize --sketch pictures --reference nowhere.png --out o", "no such file: nowhere.png"), ("colorize --sketch pictures --reference text.txt --out o", "not an image"),
    ("colorize --sketch line.png --reference line.png --out o.xyz", "suffix"), ("colorize --sketch line.png --reference line.png --out o.pdf", "o.pdf: give it the suffix of an image format"),
    ("colorize --sketch line.png --reference line.png --out o.eps", "suffix of an image"), ("colorize --sketch line.png --reference line.png --out o.svg", "suffix of an image"), ("colorize --sketch line.png --reference line.png --out o", "suffix of an image"), ("train --data folder --root colours --batch 9 --out run", "the part to train on, 1 picture: take --batch 1 at most, or more pictures"),
    ("train --accumulate 3 --out run", "--accumulate may be 1, 2, 4, 8"), ("train --batch 7 --accumulate 2 --out run", "--accumulate may be 1, 7"),
    ("train --batch 3000 --out run", "the part to train on, 2500 pictures: take --batch 2500")])
def test_nothing_is_made_and_nothing_said_before_the_mistake_is_named(words, said, place, capsys):
    words = words.format(long=LONG, tiny=TINY).split()
    assert said in refused(capsys, place, *words, at_once=False)


@pytest.mark.parametrize("words, file, later", [
    ("export --weights nowhere --out {}", "mine.onnx", "no generator"), ("evaluate --weights nowhere --report {}", "mine.html", "no generator"),
    ("bench --what speed --out {}", "mine.json", "unknown 'speed'"), ("data show folder --root torn --out {}", "mine.png", "none of the 1 pictures"),
    ("data show folder --root torn --out {}", "gone.png", "none of the 1 pictures")])
def test_no_command_overwrites_unasked(words, file, later, place, capsys):
    "What somebody made is refused before any work, and --force goes on to the next mistake."
    Path("torn").mkdir(), Path("torn/0.png").write_text("no picture")
    Path("gone.png").symlink_to("nothing"), Path(f"mine{Path(file).suffix}").write_text("mine")
    words = words.format(file).split()
    assert f"{file} exists; --force overwrites it" in refused(capsys, place, *words, at_once=False)
    assert later in refused(capsys, place, *words, "--force", at_once=False) and Path(f"mine{Path(file).suffix}").read_text() == "mine"


def test_a_picture_and_a_folder_cannot_have_one_name(place, capsys):
    line = Image.open("line.png")
    Path("two/a.png").mkdir(parents=True), line.save("two/a.jpg"), line.save("two/a.png/b.png"), Path("o/0.png").mkdir(parents=True)
    words = ["colorize", "--reference", "colours/0.png"]
    assert "--sketch two: a.png would be a picture, and a folder" in refused(capsys, place, *words, "--sketch", "two", "--out", "new", at_once=False)
    for force in [], ["--force"]:
        assert "cannot write o/0.png: a folder is called that" in refused(capsys, place, *words, "--sketch", "pictures", "--out", "o", *force, at_once=False)


def test_pictures_that_are_none_are_not_called_too_few(place, capsys):
    Path("torn").mkdir()
    for k in range(3): Path(f"torn/{k}.png").write_text("no picture")
    assert main("train --data folder --root torn --out run --steps 1".split()) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"none of \d pictures is readable: .*not an image", last) and not Path("run").exists()


def test_what_is_missing_is_said_before_a_folder_is_made_for_it(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install tensorboard" in refused(capsys, place, *"train --steps 1 --tensorboard --out run".split(), at_once=False)


def test_a_contact_sheet_has_each_format_that_it_may_have(place):
    for suffix in (*cli.SHEETS, ".PNG"):
        assert main(["data", "show", "avatars", "--n", "2", "--out", f"sheet{suffix}"]) == 0 and Path(f"sheet{suffix}").stat().st_size > 1000
    assert main(["data", "show", "avatars", "--n", "2"]) == 0 and Path("avatars.png").exists()


def test_what_the_system_refuses_later_is_one_line_too(place, capsys, monkeypatch):
    "A disk that is full, a file that is taken away: the user can mend that. A file of ours that is missing is our fault."
    for error, code in ((PermissionError(13, "Permission denied", "there.png"), 2), (OSError(28, "No space left on device", "there.png"), 2),
                        (FileNotFoundError(2, "No such file", "ours.json"), 1), (OSError("?"), 1), (ValueError("?"), 1)):
        def fail(args): raise error
        monkeypatch.setattr(commands, "run_list", fail)
        assert main(["data", "list"]) == code
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_error_is_whole_and_one_line_whatever_a_file_is_called(place, capsys, monkeypatch):
    name = "a\nrefcolor.png"
    Path("pictures", name).write_text("no picture")
    assert r"pictures/a\nrefcolor.png: not an image" in refused(capsys, place, "colorize", "--sketch", f"pictures/{name}", "--reference", "line.png", "--out", "o.png", at_once=False)
    worker = "Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\nrefcolor.core.UserError: picture: a\nb is torn\n"
    def fail(args): raise UserError(worker)
    monkeypatch.setattr(commands, "run_list", fail)
    assert refused(capsys, place, "data", "list", at_once=False) == r"refcolor: picture: a\nb is torn"


def test_what_libraries_print_is_not_on_standard_output(monkeypatch, capsys):
    def talk(args): print("Downloading: …"); return {"done": 1}
    monkeypatch.setattr(commands, "run_list", talk)
    assert main(["data", "list", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"done": 1} and err == "Downloading: …\n"


# ---- --json

def test_a_batch_that_partly_fails_prints_its_object(place, capsys):
    Path("pictures/1.png").write_text("no picture")
    code = main(["colorize", "--sketch", "pictures", "--reference", "line.png", "--out", "o", "--weights", str(TINY), "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert code == 2 and err.splitlines()[-1] == "refcolor: 1 of 3 sketches could not be coloured"
    assert (said["written"], said["kept"], list(said["failed"])) == (2, 0, ["pictures/1.png"]) and "not an image" in said["failed"]["pictures/1.png"]
    Path("pictures/1.png").unlink()
    assert main(["colorize", "--sketch", "pictures", "--reference", "line.png", "--out", "o", "--weights", str(TINY), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "no colours to take" in said.pop("notes")[0]                       # line.png has none
    assert said | {"out": "o"} == {"out": "o", "weights": str(TINY), "written": 0, "kept": 2, "failed": {}, "left_out": {}}
    Path("pictures/0.png").write_text("no picture")
    assert main(["data", "check", "folder", "--root", "pictures", "--json"]) == 2
    assert list(json.loads(capsys.readouterr().out)["unreadable"]) == ["0.png"]


# ---- demo does not delete what is not its own

def test_demo_begins_anew_only_in_a_folder_of_its_own(place, capsys, monkeypatch):
    from refcolor.core import TINY as preset, preset_to_dict
    stale = {"preset": preset_to_dict(preset), "seed": 0, "data": "avatars"}
    Path("failed/samples").mkdir(parents=True)                               # what a demo leaves that failed before it saved anything
    for name in ("metrics.jsonl", ".DS_Store", "samples/step-000000.png"): Path("failed", name).touch()
    begun = []
    class Begun(Exception): pass
    with monkeypatch.context() as m:
        def begin(learner, resume=False): begun.append(resume); raise Begun
        m.setattr("refcolor.train.Learner.fit", begin)
        assert main("demo --out failed --steps 1".split()) == 1 and begun == [False]
    Path("failed/thesis.txt").touch()
    capsys.readouterr()
    assert "failed is not empty" in refused(capsys, place, "demo", "--out", "failed", at_once=False)
    for folder, config in (("theirs", stale), ("own", stale | {"command": "refcolor demo"})):
        Path(folder).mkdir()
        Path(folder, "config.json").write_text(json.dumps(config))
        Path(folder, "step-900").mkdir()
    assert "theirs holds another run: use another --out, or go on with it: refcolor train --resume" in refused(capsys, place, "demo", "--out", "theirs", "--steps", "1", at_once=False)
    assert commands.is_demo(Path("own")) and not commands.is_demo(Path("theirs"))
    Path("link").symlink_to("own")
    monkeypatch.setattr(commands, "WAIT", 0)
    with commands.alone_in(Path("own")):                                     # another demo is at it: nothing of it goes
        assert "link is in use by another process" in refused(capsys, place, "demo", "--out", "link", "--steps", "2", at_once=False)
    Path("own/mine.txt").touch()
    capsys.readouterr()
    assert main("demo --out link --steps 2 --n 2".split()) == 0
    assert "note: no checkpoint last in link; beginning anew" in capsys.readouterr().err
    assert Path("own/last/state.json").exists() and not Path("own/step-900").exists() and Path("link").is_symlink() and Path("own/mine.txt").exists()


@pytest.mark.parametrize("config", ["// my app\n{}", "", '{"port": 1}', "[1]", '"preset"', "3"])
@pytest.mark.parametrize("words", ["demo --steps 1", "train --preset TINY --batch 2 --steps 1", "train --preset TINY --batch 2 --steps 1 --resume"])
def test_a_folder_whose_config_is_another_program_s_is_left_alone(words, config, place, capsys):
    Path("project/src").mkdir(parents=True)
    Path("project/src/main.c").touch(), Path("project/config.json").write_text(config)
    assert "project holds a config.json that no run wrote: use another --out" in refused(capsys, place, *words.split(), "--out", "project", at_once=False)
    assert Path("project/src/main.c").exists() and Path("project/config.json").read_text() == config


def test_a_demo_goes_on_from_the_checkpoint_that_is_whole(tmp_path, capsys):
    words = ["demo", "--n", "2", "--out", str(tmp_path / "run")]
    for steps in ("1", "2"): assert main([*words, "--steps", steps]) == 0
    (tmp_path / "run" / "mine.txt").touch()
    with open(tmp_path / "run" / "step-2" / "generator.safetensors", "ab") as f: f.write(b"x")
    capsys.readouterr()
    assert main([*words, "--steps", "2"]) == 0
    said = capsys.readouterr().err
    assert "damaged" in said and f"; going on from {tmp_path}/run/step-1" in said and (tmp_path / "run" / "mine.txt").exists()
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_another_preset_is_said_before_its_pictures_are_drawn(tmp_path, capsys, monkeypatch):
    words = ["train", "--batch", "2", "--steps", "1", "--out", str(tmp_path / "run")]
    assert main([*words, "--preset", "TINY"]) == 0
    def draws(*args, **kwargs): raise AssertionError("pictures were drawn first")
    monkeypatch.setattr(commands, "open_dataset", draws)
    capsys.readouterr()
    assert main([*words, "--preset", "SMALL", "--resume"]) == 2 and "begun with name TINY, now SMALL" in capsys.readouterr().err


def test_what_is_written_does_not_lie_below_what_is_written(place, capsys):
    for words in ("--out y.ora/o.png --layers y.ora", "--out o.png --layers o.png/x.ora"):
        said = refused(capsys, place, "colorize", "--sketch", "line.png", "--reference", "reference.png", *words.split(), at_once=False)
        assert "what lies above it is to be a file, too" in said
    assert not Path("y.ora").exists() and not Path("o.png").exists()
