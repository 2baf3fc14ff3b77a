"""Write README.md from nbs/index.ipynb: python .ci/readme.py [OUT]"""
import re
import sys
from pathlib import Path

from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
HIDDEN = ("hide_input",)         # a cell tagged so shows only its output


def readme() -> str:
    "index.ipynb as markdown: outputs as markdown, code of hidden cells left out, links seen from the top folder."
    config = Config()
    config.TagRemovePreprocessor.remove_input_tags = HIDDEN
    config.TagRemovePreprocessor.enabled = True
    config.MarkdownExporter.preprocessors = ["nbconvert.preprocessors.TagRemovePreprocessor"]
    text, _ = MarkdownExporter(config=config).from_filename(str(ROOT / "nbs" / "index.ipynb"))
    text = re.sub(r"\]\((images/|results/|[\w/]+\.(?:ipynb|md))", r"](nbs/\1", text)
    text = text.replace('src="images/', 'src="nbs/images/')
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "README.md").write_text(readme(), encoding="utf-8")
