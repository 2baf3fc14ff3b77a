from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cfg = ConfigParser(delimiters=["="])
cfg.read(Path(__file__).parent / "settings.ini", encoding="utf-8")
c = cfg["DEFAULT"]
extras = {key.removesuffix("_requirements"): value.split() for key, value in c.items() if key.endswith("_requirements")}
extras["dev"] = sorted({r for requirements in extras.values() for r in requirements})
setup(
    name=c["lib_name"], version=c["version"], description=c["description"],
    author=c["author"], author_email=c["author_email"], license="Apache-2.0",
    url=c["git_url"], packages=find_packages(include=[c["lib_path"] + "*"]),
    include_package_data=True, python_requires=">=" + c["min_python"],
    classifiers=["Programming Language :: Python :: 3 :: Only", f"Programming Language :: Python :: {c['min_python']}"],
    install_requires=c["requirements"].split(), extras_require=extras,
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    entry_points={
        "console_scripts": c.get("console_scripts", "").split(),
        "nbdev": [f"{c['lib_path']}={c['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
